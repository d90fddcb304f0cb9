import datetime
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from scene_writer import noise, write

from rejepa_jax.config import Scenes
from rejepa_jax.data.archives.scenes.archive import open_archive, read_example
from rejepa_jax.data.archives.scenes.recipes import from_text
from rejepa_jax.types import DataError

CUT = Scenes(patch=12, min_valid=0.0)
PROPERTIES = {
    "datetime": "2022-06-13T12:10:31.024+02:00",
    "constellation": "sentinel-2",
    "platform": "sentinel-2a",
    "s2:product_type": "S2MSI2A",
}


def item(assets, name="one", **properties):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "somebodys",
        "properties": PROPERTIES | properties,
        "assets": assets,
    }


def asset(href, *bands, kind="image/tiff; application=geotiff", **more):
    described = {"eo:bands": [{"name": n, "common_name": c} for n, c in bands]} if bands else {}
    return {"href": href, "type": kind, **described, **more}


def write_list(path, *items):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def sensor(archive):
    ((key, sensor),) = archive.schema.sensors.items()
    return key, sensor.bands


def image(archive, place=0):
    example = read_example(archive.files, archive.items[place], archive.schema)
    return next(iter(example.images.values()))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "data" / "b.tif", noise(1, 24, 24))
    write(tmp_path / "data" / "g.tif", noise(2, 24, 24))
    write(tmp_path / "data" / "g.jp2", noise(2, 24, 24))
    write(tmp_path / "data" / "visual.tif", noise(3, 3, 24, 24, dtype=np.uint8))
    classes = np.full((12, 12), 4, np.uint8)
    classes[6:, 6:] = 9
    write(tmp_path / "data" / "scl.tif", classes, 20)
    return tmp_path


def assets(root="./data"):
    """As two large catalogues have them: the same bands offered in several assets."""
    return {
        "thumbnail": asset(f"{root}/thumbnail.jpg", kind="image/jpeg"),
        "visual": asset(f"{root}/visual.tif", ("red", "red"), ("green", "green"), ("blue", "blue")),
        "blue": asset(f"{root}/b.tif", ("blue", "blue")),
        "green-jp2": asset(f"{root}/g.jp2", ("green", "green"), kind="image/jp2"),
        "green": asset(f"{root}/g.tif", ("green", "green")),
        "scl": asset(f"{root}/scl.tif"),
    }


def listed(folder, form):
    entries = [item(assets(), "one"), item(assets(), "two")]
    if form == "json":
        return write_list(folder / "items.json", *entries)
    if form == "ndjson":
        (folder / "items.ndjson").write_text("\n".join(map(json.dumps, entries)) + "\n")
        return folder / "items.ndjson"
    if form == "parquet":
        table = pa.Table.from_pylist(
            [
                {k: v for k, v in entry.items() if k not in ("properties", "type")}
                | {"s2:product_type": "S2MSI2A", "constellation": "sentinel-2"}
                | {"datetime": datetime.datetime(2022, 6, 13, 10, 10, 31, tzinfo=datetime.UTC)}
                for entry in entries
            ]
        )
        pyarrow.parquet.write_table(table, folder / "items.parquet")
        return folder / "items.parquet"
    for entry in entries:
        (folder / f"{entry['id']}.json").write_text(json.dumps(entry))
    (folder / "catalog.json").write_text(json.dumps({"type": "Catalog", "stac_version": "1.0.0"}))
    (folder / "other.json").write_text("[1, 2]")
    return folder


@pytest.mark.parametrize("form", ["json", "ndjson", "parquet", "folder"])
def test_every_form_of_a_list_gives_the_same_scenes(folder, form):
    archive = open_archive(listed(folder, form), CUT)
    assert sensor(archive) == ("s2", ("B02", "B03"))
    assert [i.id for i in archive.items][::4] == ["one/00000_00000", "two/00000_00000"]
    assert from_text(archive.items[0].facts["recipe"]).datetime == "2022-06-13T10:10:31Z"


def test_bands_come_from_the_asset_that_has_them_alone_and_as_tiff(folder):
    archive = open_archive(write_list(folder / "i.json", item(assets())), CUT)
    assert sensor(archive) == ("s2", ("B02", "B03"))
    assert archive.items[0].files == {"B02": "data/b.tif", "B03": "data/g.tif"}
    example = read_example(archive.files, archive.items[1], archive.schema)
    assert (example.id, example.datetime) == ("one/00000_00012", "2022-06-13T10:10:31Z")
    expected = np.stack([noise(1, 24, 24), noise(2, 24, 24)], -1)[:12, 12:]
    np.testing.assert_array_equal(example.images["s2"], expected)


def test_the_named_mask_asset_says_what_is_usable(folder):
    path = write_list(folder / "i.json", item(assets()))
    archive = open_archive(path, Scenes(patch=12, mask="scl"))
    assert [i.id for i in archive.items] == [
        f"one/{c}" for c in ("00000_00000", "00000_00012", "00012_00000")
    ]
    with pytest.raises(DataError, match="got no mask"):
        open_archive(path, Scenes(patch=12, mask="clouds"))


def reflectance(folder, given=None, **properties):
    entry = item({"blue": asset("data/b.tif", ("blue", "blue")) | (given or {})}, **properties)
    return image(open_archive(write_list(folder / "i.json", entry), CUT))[..., 0].astype(int)


@pytest.mark.parametrize(
    ("given", "properties", "offset"),
    [
        ({}, {}, 0),
        ({}, {"s2:processing_baseline": "03.01"}, 0),
        ({}, {"s2:processing_baseline": "05.09"}, -1000),
        ({"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}, {}, -1000),
        ({"raster:bands": [{"scale": 0.0001}]}, {"s2:processing_baseline": "05.09"}, 0),
        ({"raster:scale": 0.0001, "raster:offset": -0.05}, {}, -500),
        (
            {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]},
            {"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": True},
            0,
        ),
    ],
)
def test_values_become_reflectance_as_the_metadata_say(folder, given, properties, offset):
    expected = np.clip(noise(1, 24, 24)[:12, :12].astype(int) + offset, 1 if offset else 0, None)
    np.testing.assert_array_equal(reflectance(folder, given, **properties), expected)


@pytest.mark.parametrize(
    ("given", "more", "expected"),
    [
        ({"B02": asset("data/b.tif")}, {}, ("s2", ("B02",))),
        ({"b2": asset("data/b.tif", bands=[{"name": "B02"}])}, {}, ("s2", ("B02",))),
        ({"x": asset("data/b.tif", bands=[{"eo:common_name": "blue"}])}, {}, "got no usable"),
        (
            {"blue": asset("data/b.tif")},
            {"s2:product_type": "S2MSI1C"},
            ("s2_l1c", ("B02",)),
        ),
        (
            {"blue": asset("data/b.tif", ("OLI_B2", "blue"))},
            {"constellation": "", "platform": "landsat-8"},
            ("image", ("OLI_B2",)),
        ),
        (
            {
                "visual": asset(
                    "data/visual.tif", ("Red", "red"), ("Green", "green"), ("Blue", "blue")
                )
            },
            {"constellation": "", "platform": "plane"},
            ("rgb", ("red", "green", "blue")),
        ),
    ],
)
def test_names_of_bands(folder, given, more, expected):
    path = write_list(folder / "i.json", item(given, **more))
    if isinstance(expected, str):
        with pytest.raises(DataError, match="none of 1 scenes can be used"):
            open_archive(path, CUT)
        return
    assert sensor(open_archive(path, CUT)) == expected


def test_places_of_assets(folder):
    one = {"B02": asset((folder / "data" / "b.tif").as_uri())}
    two = {"B02": asset(str(folder / "data" / "b.tif"))}
    (folder / "deep").mkdir()
    path = folder / "deep" / "i.json"
    three = {"B02": asset("../data/b.tif")}
    archive = open_archive(write_list(path, item(one, "1"), item(two, "2"), item(three, "3")), CUT)
    for place in (0, 4, 8):
        np.testing.assert_array_equal(image(archive, place)[..., 0], noise(1, 24, 24)[:12, :12])


@pytest.mark.parametrize(
    "href", ["/vsicurl/http://x/y.tif", "ftp://x/y.tif", "/vsizip/a.zip/b.tif"]
)
def test_addresses_that_nobody_meant_are_not_opened(folder, href):
    path = write_list(folder / "i.json", item({"B02": asset(href)}))
    with pytest.raises(
        DataError, match=r"none of 1 scenes can be used.*expected a name in the arch"
    ):
        open_archive(path, CUT)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "JSONDecodeError"),
        ("[]", "got no STAC item"),
        ('{"type": "FeatureCollection", "features": []}', "got no STAC item"),
        ('{"type": "Feature", "stac_version": "1.0.0"}', "without id or properties"),
    ],
)
def test_lists_that_are_none(tmp_path, content, reason):
    (tmp_path / "items.json").write_text(content)
    with pytest.raises(DataError, match=f"STAC list items.json: .*{reason}"):
        open_archive(tmp_path / "items.json", CUT)


def test_contradictions_are_refused(folder):
    twice = {"a": asset("data/b.tif", ("B02", "blue")), "b": asset("data/g.tif", ("B02", "blue"))}
    with pytest.raises(DataError, match="item one: got band B02 in the assets a and b"):
        open_archive(write_list(folder / "i.json", item(twice)), CUT)
    scale = [{"name": "B02", "raster:scale": 0.0001, "raster:offset": -0.1}]
    mixed = {"B02": asset("data/b.tif", bands=scale), "B03": asset("data/g.tif", ("B03", "green"))}
    with pytest.raises(DataError, match=r"item one: got offsets \[-1000, 0\]"):
        open_archive(write_list(folder / "i.json", item(mixed)), CUT)
    same = [item({"B02": asset("data/b.tif")}), item({"B02": asset("data/b.tif")})]
    with pytest.raises(DataError, match="got one twice"):
        open_archive(write_list(folder / "i.json", *same), CUT)


@pytest.mark.service
def test_assets_in_a_store(folder, monkeypatch):
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        keys |= {
            "AWS_S3_ENDPOINT": f"{host}:{port}",
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="scenes")
        body = (folder / "data" / "b.tif").read_bytes()
        client.put_object(Bucket="scenes", Key="a/b.tif", Body=body, ACL="public-read")
        there = item({"B02": asset("s3://scenes/a/b.tif")}, "s3")
        public = item({"B02": asset(f"http://{host}:{port}/scenes/a/b.tif?token=x%20y")}, "http")
        gone = item({"B02": asset("s3://scenes/a/gone.tif")}, "gone")
        archive = open_archive(write_list(folder / "i.json", there, public, gone), CUT)
        assert len(archive.items) == 9
        for place in (1, 5):
            np.testing.assert_array_equal(image(archive, place)[..., 0], noise(1, 24, 24)[:12, :12])
        with pytest.raises(DataError, match=r"gone.tif: got nothing that opens"):
            image(archive, 0)
    finally:
        server.stop()


def test_paths_are_no_part_of_the_items(folder):
    archive = open_archive(write_list(folder / "i.json", item({"B02": asset("data/b.tif")})), CUT)
    assert str(pathlib.Path(folder)) not in json.dumps([vars(i) for i in archive.items])
