"""The STAC files beside an export: what they say, and when there are none."""

import dataclasses
import json

from export_parts import FOOTER, full_part, full_part_from, multipolygon, plain_part, write

from rejepa_jax.retrieval.embeddings import schema, stac, writing


def load(path):
    return json.loads(path.read_text())


def test_a_collection_and_an_item_a_part(tmp_path):
    west = full_part()
    east = dataclasses.replace(
        full_part_from(3),
        geometry=[b"", multipolygon((179, -1, 180, 1), (-180, -1, -179, 1)), b""],
        datetime=["2021-05-06T07:08:09+02:00", "", ""],
    )
    about = FOOTER | {
        "source": {"collection": "ben"},
        "pool": "mean",
        "bands": ["VV"],
        "preprocessing": {"record_size": [120, 60]},
    }
    for number, part in enumerate((west, east)):
        writing.write_part(tmp_path / schema.part_name(number, 2), part, about, "int8")
    (tmp_path / "thumbnails-00001-of-00002.zip").touch()
    names = ["collection.json", "part-00000-of-00002.json", "part-00001-of-00002.json"]
    assert stac.write(tmp_path) == names
    collection, first, second = (load(tmp_path / name) for name in names)
    assert collection["type"] == "Collection"
    assert collection["id"] == first["collection"] == second["collection"] == "ben-abababababab"
    assert collection["license"] == "CC0"
    assert collection["extent"]["spatial"]["bbox"] == [[-180, -1, 180, 50.3]]
    interval = ["2017-06-13T10:10:31Z", "2021-05-06T05:08:09Z"]
    assert collection["extent"]["temporal"]["interval"] == [interval]
    assert (collection["emb:type"], collection["emb:dimensions"]) == ("chip", 8)
    assert collection["data_type"] == "int8"
    layout = {"layout_type": "variable_grid", "chip_size": [120, 60]}
    assert collection["emb:chip_layout"] == layout
    links = {link["rel"]: link["href"] for link in collection["links"]}
    assert links["emb:model"] == "../encoders/target/bundle.json"
    assert "emb:source-data" in links
    items = [link["href"] for link in collection["links"] if link["rel"] == "item"]
    assert items == [f"./{name}" for name in names[1:]]

    assert (first["type"], first["id"]) == ("Feature", "part-00000-of-00002")
    assert first["bbox"] == [-1.7, 44.2, 20.3, 50.3]
    ring = [[-1.7, 44.2], [20.3, 44.2], [20.3, 50.3], [-1.7, 50.3], [-1.7, 44.2]]
    assert first["geometry"] == {"type": "Polygon", "coordinates": [ring]}
    properties = first["properties"]
    assert properties["datetime"] is None
    assert properties["start_datetime"] == "2017-06-13T10:10:31Z"
    assert properties["end_datetime"] == "2018-01-02T03:04:05.250000Z"
    quantization = {"original_dtype": "float32", "quantized_dtype": "int8"}
    assert properties["emb:quantization"] == quantization | {"method": "int8_by_largest"}
    assert properties["emb:runtime_parameters"]["fingerprint"] == FOOTER["fingerprint"]
    assert first["assets"]["embeddings"]["href"] == "./part-00000-of-00002.parquet"
    assert "thumbnails" not in first["assets"]
    assert second["assets"]["thumbnails"]["href"] == "./thumbnails-00001-of-00002.zip"


def test_fields_are_those_of_the_extension(tmp_path):
    """Its schema allows no other `emb:` field, and wants these."""
    stac.write(write(tmp_path, full_part()))
    collection, item = (
        load(tmp_path / f"{name}.json") for name in ("collection", "part-00000-of-00001")
    )
    ours = {key for key in collection if key.startswith("emb:")}
    assert ours == {"emb:type", "emb:dimensions", "emb:chip_layout", "emb:fit_for_use"}
    assert {"stac_version", "description", "license", "extent", "links", "data_type"} <= set(
        collection
    )
    assert {link["rel"] for link in collection["links"]} >= {"emb:model", "emb:source-data"}
    ours = {key for key in item["properties"] if key.startswith("emb:")}
    assert ours == {"emb:runtime_parameters", "emb:preprocessing", "emb:postprocessing"}
    for key in ("emb:preprocessing", "emb:postprocessing"):
        assert set(item["properties"][key]) == {"format", "expression"}
    address = "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json"
    assert address in collection["stac_extensions"]
    assert address in item["stac_extensions"]
    assert set(item) == {
        *("type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox"),
        *("properties", "links", "assets"),
    }


def test_without_dates_or_footprints_there_is_no_stac(tmp_path):
    undated = dataclasses.replace(full_part_from(5), datetime=[""] * 3)
    for part in (undated, plain_part(3, first=5)):
        write(tmp_path, dataclasses.replace(part, first_row=0))
        assert stac.write(tmp_path) == []
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
