"""Hits in every form, with names that mean harm."""

import csv
import html.parser
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from rejepa_jax.retrieval import answers
from rejepa_jax.retrieval.embeddings.thumbnails import webp
from rejepa_jax.retrieval.hits import Answer, Hit
from rejepa_jax.types import ConfigError

SQUARE = shapely.to_wkb(shapely.box(10, 40, 10.5, 40.5))
HARM = '<script>alert("1")</script>'


def hit(rank, **changes):
    fields = {
        "rank": rank,
        "score": 0.9 / rank,
        "row": rank * 10,
        "id": f"a/{rank}.tif",
        "uuid": "8f14e45f-ceea-567e-b9d9-000000000000",
        "labels": ["forest", "water"],
        "split": "train",
        "sensor": "s2",
        "collection": "toy",
        "datetime": "2018-05-21T10:00:31Z",
        "place": "33UUP_1_2",
        "lon": 10.25,
        "lat": 40.25,
        "geometry": SQUARE,
        "source_uri": "a.tif",
        "bbox": (10.0, 40.0, 10.5, 40.5),
    }
    return Hit(**fields | changes)


TEXTS = ("split", "collection", "datetime", "place", "source_uri", "uuid")
UNKNOWN = dict.fromkeys(TEXTS, "") | {
    "labels": [],
    "lon": None,
    "lat": None,
    "geometry": b"",
    "bbox": None,
}
HITS = [hit(1), hit(2, **UNKNOWN), hit(3, id=HARM, labels=['=HYPERLINK("x")', "@b"])]


def test_table():
    rows = answers.as_table(HITS[:1])
    assert rows == [
        ["rank", "score", "id", "split", "labels"],
        ["1", "0.9000", "a/1.tif", "train", "forest; water"],
    ]
    assert answers.as_table([]) == rows[:1]


def test_json_has_every_fact_but_the_footprint():
    found = json.loads(answers.as_json(HITS))
    assert found[0] | {"score": 0} == {
        name: value for name, value in vars(hit(1)).items() if name != "geometry"
    } | {"score": 0, "bbox": [10.0, 40.0, 10.5, 40.5]}
    assert found[1]["lon"] is None
    assert found[2]["id"] == HARM
    assert "NaN" not in answers.as_json([hit(1, score=float("nan"), lon=float("inf"))])
    assert json.loads(answers.as_json([])) == []


def test_geojson_is_wgs84_and_without_geometry_where_unknown():
    found = json.loads(answers.as_geojson(HITS))
    first, second, third = found["features"]
    assert found["type"] == "FeatureCollection"
    assert shapely.equals(shapely.geometry.shape(first["geometry"]), shapely.from_wkb(SQUARE))
    assert shapely.is_ccw(shapely.geometry.shape(first["geometry"]).exterior)  # RFC 7946, 3.1.6
    assert (first["bbox"], first["id"]) == ([10, 40, 10.5, 40.5], "a/1.tif")
    assert first["properties"]["labels"] == ["forest", "water"]
    assert second["geometry"] is None
    assert "bbox" not in second
    assert third["id"] == HARM


def test_csv_is_safe_to_open_in_a_spreadsheet():
    risky = [hit(1, id=start + "cmd", score=-0.5) for start in answers.FORMULA]
    rows = list(csv.DictReader(io.StringIO(answers.as_csv([*HITS, *risky]))))
    assert rows[0]["id"] == "a/1.tif"
    assert rows[0]["labels"] == "forest; water"
    assert (rows[1]["lon"], rows[1]["labels"]) == ("", "")
    assert rows[2]["id"] == HARM
    assert rows[2]["labels"] == """'=HYPERLINK("x"); @b"""
    for row, start in zip(rows[3:], answers.FORMULA, strict=True):
        assert row["id"] == f"'{start}cmd"
        assert row["score"] == "-0.5"  # a number is no formula


class Seen(html.parser.HTMLParser):
    """Collects tags, their addresses, and text."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_names_of_images_and_labels_are_no_html():
    pictures = {10: webp(np.zeros((4, 4, 3), np.uint8), ("r", "g", "b"), 4), 20: b"<svg onload=x>"}
    answer = Answer([*HITS, hit(4, labels=['"><img src=//x>'])], "7-abc", 1234, 99, ("<b>few</b>",))
    page = answers.as_html(answer, "Search in <i>", pictures.get)
    seen = Seen()
    seen.feed(page)
    assert not {"script", "svg", "i", "b", "a", "link", "iframe"} & set(seen.tags)
    assert len(seen.addresses) == 1
    assert seen.addresses[0].startswith("data:image/webp;base64,")
    for text in (HARM, "1,234 images searched", "version 7-abc", "<b>few</b>", '"><img src=//x>'):
        assert text in seen.text
    assert "default-src 'none'" in page


def test_geoparquet_keeps_every_column(tmp_path):
    answers.write_geoparquet(HITS, tmp_path / "hits.parquet")
    table = pq.read_table(tmp_path / "hits.parquet")
    geo = json.loads(table.schema.metadata[b"geo"])
    assert (geo["version"], geo["columns"]["geometry"]["geometry_types"]) == ("1.1.0", ["Polygon"])
    first, second, third = table.to_pylist()
    assert first["geometry"] == SQUARE
    assert first["bbox"] == {"xmin": 10.0, "ymin": 40.0, "xmax": 10.5, "ymax": 40.5}
    assert second["geometry"] is second["bbox"] is second["place"] is None
    assert (third["id"], second["labels"]) == (HARM, [])


@pytest.mark.interop
def test_geopandas_reads_hits_with_and_without_footprints(tmp_path):
    import geopandas

    for name, hits in (("some", HITS), ("none", HITS[1:2]), ("empty", [])):
        path = tmp_path / f"{name}.parquet"
        answers.write_geoparquet(hits, path)
        frame = geopandas.read_parquet(path)
        assert frame.crs == "OGC:CRS84"
        assert frame["id"].tolist() == [each.id for each in hits]
        assert frame.geometry.isna().tolist() == [not each.geometry for each in hits]
        answers.write(Answer(hits, "1", 3, 3), tmp_path / f"{name}.geojson", "")
        assert len(geopandas.read_file(tmp_path / f"{name}.geojson")) == len(hits)


def test_file_endings_name_the_form(tmp_path):
    answer = Answer(HITS, "1", 3, 3)
    for ending in (".json", ".geojson", ".csv", ".html", ".parquet", ".HTML"):
        answers.write(answer, tmp_path / f"hits{ending}", "hits")
        assert (tmp_path / f"hits{ending}").stat().st_size > 100
    with pytest.raises(ConfigError, match=r"ending '.xlsx', expected .parquet or .json, .geojson"):
        answers.write(answer, tmp_path / "hits.xlsx", "hits")
    assert not list(tmp_path.glob("*.tmp"))


def test_files_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "a.csv").mkdir()
    for name, match in (("a.csv", "a folder of that name"), ("b/a.csv", "no folder .*b, expected")):
        with pytest.raises(ConfigError, match=match):
            answers.check_file(tmp_path / name)
    assert answers.check_file(tmp_path / "hits.HTML") == ".html"
