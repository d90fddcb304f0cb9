"""What the API shows of the collection without a search: facts, map, pictures, files, versions."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import FakeSearcher, collection_of, table
from test_searching import FACTS, search

from rejepa_jax.serve.settings import MAX_K, Settings


def test_info_says_what_is_searched_and_what_a_query_may_hold(client):
    info = client.get("/api/info").json()
    assert (info["name"], info["rows"], info["dim"]) == ("invented", 200, 16)
    assert info["index"] == {"kind": "exact", "recall_at_10": 1.0}
    assert info["dates"] == ["2017-06-01", "2017-12-17"]
    assert info["bbox"] == pytest.approx(
        [
            min(f["bbox"]["xmin"] for f in FACTS),
            min(f["bbox"]["ymin"] for f in FACTS),
            max(f["bbox"]["xmax"] for f in FACTS),
            max(f["bbox"]["ymax"] for f in FACTS),
        ]
    )
    assert info["labels"] == sorted({label for f in FACTS for label in f["labels"]})
    assert info["query"]["bands"] == ["red", "green", "blue"]
    assert info["limits"]["max_k"] == MAX_K
    assert info["has_places"]
    assert info["has_thumbnails"]


def test_points_of_the_map_are_spread_over_all_rows(client):
    points = client.get("/api/items", params={"limit": 3}).json()
    rows = [feature["properties"]["row"] for feature in points["features"]]
    assert rows == [0, 99, 199]
    box = client.get("/api/items", params={"bbox": "0,45,10,55"}).json()["features"]
    assert 0 < len(box) < 200
    for feature in box:
        lon, lat = feature["geometry"]["coordinates"]
        assert 0 <= lon <= 10
        assert 45 <= lat <= 55
    for wrong in ("1,2,3", "a,b,c,d", "0,9,1,8", "nan,0,1,1", "0,0,1,1,1"):
        assert client.get("/api/items", params={"bbox": wrong}).status_code == 422


def test_one_item_and_its_picture_and_those_that_are_not_there(client):
    assert client.get("/api/items/6").json()["id"] == "<b>patch&6</b>"
    assert client.get("/api/thumbnails/6").headers["content-type"] == "image/webp"
    assert client.get("/api/thumbnails/6").headers["cache-control"] == "no-store"
    kept = client.get("/api/thumbnails/6?v=0-invented").headers["cache-control"]
    assert "immutable" in kept
    for path, status in {
        "/api/items/200": 404, "/api/thumbnails/200": 404, "/api/thumbnails/9": 404,
        "/api/items/-1": 422, "/api/items/x": 422, "/api/items/9007199254740993": 422,
        "/api/thumbnails/..%2f..%2fetc%2fpasswd": 404, "/api/thumbnails/0%00": 422,
    }.items():  # fmt: skip
        response = client.get(path)
        assert response.status_code == status, path
        assert list(response.json()) == ["error"]


def test_row_of_another_version_is_410_and_never_another_image(serving):
    later = collection_of(table().slice(50), "1-merged")  # rows count from another image
    client = serving(Settings(), FakeSearcher(following=[later]))
    points = client.get("/api/items").json()
    row, v = points["features"][60]["properties"]["row"], points["version"]
    before = client.get(f"/api/items/{row}", params={"v": v}).json()
    assert (v, before["id"]) == ("0-invented", "patch-60")
    client.app.state.service.take_up_new_version()
    for path in (f"/api/items/{row}?v={v}", before["thumbnail"], f"/api/items/100000?v={v}"):
        sent = client.get(path)
        assert sent.status_code == 410
        assert sent.json()["error"].endswith("expected one of 1-merged; search again")
        assert "immutable" not in sent.headers["cache-control"]
    assert client.get(f"/api/items/{row}?v=1-merged").json()["id"] == "patch-110"
    assert client.get(f"/api/items/{row}").json()["id"] == "patch-110"  # of what is there now


def test_answer_and_file_are_of_one_version_though_another_is_taken_up_meanwhile(
    serving, monkeypatch
):
    class Overtaken(FakeSearcher):
        def answer(self, *arguments, **choices):
            client.app.state.service.take_up_new_version()
            return super().answer(*arguments, **choices)

    few = collection_of(table().slice(195), "1-few")
    client = serving(Settings(), Overtaken(following=[few]))
    assert len(search(client, positive=["patch-7"], k=24)["hits"]) == 24
    assert client.get("/api/info").json()["rows"] == 5

    served = FakeSearcher(following=[few])
    client = serving(Settings(), served)
    find = type(few.catalogue).find

    def overtaken(catalogue, ids):
        client.app.state.service.take_up_new_version()
        return find(catalogue, ids)

    monkeypatch.setattr(type(few.catalogue), "find", overtaken)
    hits = client.post("/api/download?format=json", json={"ids": ["patch-4", "patch-99"]}).json()
    assert [hit["id"] for hit in hits] == ["patch-4", "patch-99"]
    assert served.collection.version == "1-few"


def test_downloads_hold_the_hits_in_their_order(client):
    ids, scores = ["patch-3", "<b>patch&6</b>", "patch-5"], [0.9, 0.8, 0.7]

    def get(form):
        body = {"ids": ids, "scores": scores}
        response = client.post(f"/api/download?format={form}", json=body)
        assert response.status_code == 200
        ending = "parquet" if form == "geoparquet" else form
        name = response.headers["content-disposition"]
        assert name == f'attachment; filename="hits.{ending}"'
        return response

    features = json.loads(get("geojson").content)["features"]
    assert [f["properties"]["id"] for f in features] == ids
    assert features[0]["geometry"]["type"] == "Polygon"
    assert [row["id"] for row in csv.DictReader(io.StringIO(get("csv").text))] == ids
    assert [hit["score"] for hit in json.loads(get("json").content)] == scores
    columns = pq.read_table(pa.BufferReader(get("geoparquet").content))
    assert columns["id"].to_pylist() == ids
    assert b"geo" in columns.schema.metadata
    bare = client.post("/api/download?format=json", json={"ids": ids}).json()
    assert [hit["score"] for hit in bare] == [None] * 3
    for body, status in (
        ({"ids": ["nothing"]}, 404), ({"ids": []}, 422), ({"ids": ids, "scores": [1]}, 422)
    ):  # fmt: skip
        assert client.post("/api/download", json=body).status_code == status
    assert client.post("/api/download?format=exe", json={"ids": ids}).status_code == 422


def test_new_version_is_taken_up_and_shown(serving):
    following = collection_of(table(150), "1-next")
    client = serving(Settings(), FakeSearcher(following=[following]))
    service = client.app.state.service
    assert search(client, positive=["patch-7"])["version"] == "0-invented"
    service.take_up_new_version()
    answer = search(client, positive=["patch-7"])
    assert (answer["version"], answer["searched"]) == ("1-next", 150)
    service.take_up_new_version()
    metrics = client.get("/metrics").text
    assert "rejepa_index_rows 150.0" in metrics
    assert 'version="1-next"' in metrics
    assert "rejepa_index_swaps_total 1.0" in metrics
    assert 'rejepa_requests_total{code="200",route="/api/search"} 2.0' in metrics
