"""What the API answers, held against one matrix product, and what it says of bad input."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import FakeSearcher, collection_of, table

from rejepa_jax.serve.settings import MAX_K, Settings
from rejepa_jax.types import ConfigError

EXPECTED = collection_of(table())
VECTORS = EXPECTED.index.stored
FACTS = table().to_pylist()


def search(client, **body):
    response = client.post("/api/search", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def best(vector, k, out=(), keep=None):
    """Rows by descending product with `vector`, worked out the plain way."""
    order = np.argsort(-(VECTORS @ vector), kind="stable")
    return [int(r) for r in order if r not in out and (keep is None or keep(FACTS[r]))][:k]


def rows_of(answer):
    return [hit["row"] for hit in answer["hits"]]


def test_hits_are_those_of_a_matrix_product_and_carry_what_is_known(client):
    answer = search(client, positive=["patch-7"], k=5)
    assert rows_of(answer) == best(VECTORS[7], 5, out=[7])
    assert (answer["version"], answer["searched"], answer["allowed"]) == ("0-invented", 200, 200)
    hit, fact = answer["hits"][0], FACTS[rows_of(answer)[0]]
    assert [h["rank"] for h in answer["hits"]] == [1, 2, 3, 4, 5]
    assert hit["score"] == pytest.approx(float(VECTORS[7] @ VECTORS[hit["row"]]), abs=1e-6)
    assert hit["datetime"] == fact["datetime"].isoformat().replace("+00:00", "Z")
    for name in ("id", "uuid", "labels", "split", "sensor", "collection", "place"):
        assert hit[name] == fact[name]
    assert hit["bbox"] == pytest.approx(list(fact["bbox"].values()))
    assert (hit["lon"], hit["lat"]) == pytest.approx(
        [(hit["bbox"][0] + hit["bbox"][2]) / 2, (hit["bbox"][1] + hit["bbox"][3]) / 2]
    )
    assert hit["thumbnail"] == f"/api/thumbnails/{hit['row']}?v=0-invented"
    assert client.get(hit["thumbnail"]).content[:4] == b"RIFF"


def test_examples_vectors_points_and_crops_are_combined(client):
    mean = VECTORS[[1, 2]].mean(axis=0) - 0.5 * VECTORS[3]
    answer = search(client, positive=["patch-1", "patch-2"], negative=["patch-3"], k=4)
    assert rows_of(answer) == best(mean, 4, out=[1, 2, 3])
    assert rows_of(search(client, vector=(3 * VECTORS[4]).tolist(), k=2)) == best(VECTORS[4], 2)
    huge = (1e307 * VECTORS[4].astype(float)).tolist()
    assert rows_of(search(client, vector=huge, k=2)) == best(VECTORS[4], 2)
    lon, lat = FACTS[10]["bbox"]["xmin"], FACTS[10]["bbox"]["ymin"]
    near = search(client, point=[lon, lat], k=1)
    assert near["notes"][0].startswith("patch-10 is nearest")
    assert rows_of(near) == best(VECTORS[10], 1, out=[10])
    crop = {"crop": {"id": "patch-8", "box": [0, 0, 16, 16]}, "k": 3}
    grey = np.pad(np.full(3, 0.5), (0, 13))
    assert rows_of(search(client, **crop)) == best(grey, 3, out=[8])


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ({"labels": ["Pastures"]}, lambda f: "Pastures" in f["labels"]),
        ({"splits": ["test"], "sensors": ["rgb"]}, lambda f: f["split"] == "test"),
        (
            {"start": "2017-07-01", "end": "2017-07-31"},
            lambda f: f["datetime"].month == 7,
        ),
        (
            {"bbox": [0, 45, 10, 55]},
            lambda f: (
                f["bbox"]["xmin"] <= 10
                and f["bbox"]["xmax"] >= 0
                and f["bbox"]["ymin"] <= 55
                and f["bbox"]["ymax"] >= 45
            ),
        ),
    ],
)
def test_filters_keep_what_fits_and_say_how_many_that_are(client, filters, keep):
    answer = search(client, positive=["patch-0"], k=30, filters=filters)
    assert rows_of(answer) == best(VECTORS[0], 30, out=[0], keep=keep)
    assert answer["allowed"] == sum(map(keep, FACTS))


def test_same_places_are_left_out_when_asked(client):
    answer = search(client, positive=["patch-8"], k=MAX_K, exclude_same_place=True)
    assert rows_of(answer) == best(VECTORS[8], 200, out=[8, 9])


def test_more_hits_than_images_gives_all_and_a_filter_nobody_passes_gives_none(client):
    assert len(search(client, positive=["patch-0"], k=MAX_K)["hits"]) == 199
    nowhere = search(client, positive=["patch-0"], filters={"bbox": [100, 0, 101, 1]})
    assert (nowhere["hits"], nowhere["allowed"]) == ([], 0)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 100_000, 400, "cannot be read"),
        (b'{"k": ' + b"9" * 5000 + b"}", 400, "cannot be read"),
        (b"[]", 422, "body: got []"),
        (b"{}", 422, "got no example"),
        (b'{"positive": "patch-1"}', 422, "body.positive: got 'patch-1'"),
        (b'{"positive": ["patch-1"], "k": 0}', 422, "greater than or equal to 1"),
        (b'{"positive": ["patch-1"], "k": 1000000000}', 422, "less than or equal to 1000"),
        (b'{"positive": ["patch-1"], "k": "3"}', 422, "valid integer"),
        (b'{"positive": ["patch-1"], "k": 3.0}', 422, "valid integer"),
        (b'{"positive": ["patch-1"], "k": true}', 422, "valid integer"),
        (b'{"positive": ["patch-1"], "K": 3}', 422, "body.K: got 3"),
        (b'{"positive": [""]}', 422, "at least 1 character"),
        (b'{"positive": [7]}', 422, "valid string"),
        (json.dumps({"positive": ["x"] * 101}).encode(), 422, "at most 100"),
        (b'{"vector": [NaN, 1]}', 422, "finite number"),
        (b'{"vector": [1e999, 1]}', 422, "finite number"),
        (b'{"vector": [1, 0]}', 422, "expected (16,)"),
        (json.dumps({"vector": [0.0] * 16}).encode(), 422, "length 0"),
        (b'{"point": [200, 0]}', 422, "lon, lat in degrees"),
        (b'{"point": [0]}', 422, "at least 2 items"),
        (b'{"positive": ["patch-1"], "filters": {"bbox": [0, 9, 1, 8]}}', 422, "south <= north"),
        (b'{"positive": ["patch-1"], "filters": {"bbox": [NaN, 0, 1, 1]}}', 422, "finite"),
        (b'{"positive": ["patch-1"], "filters": {"start": "2017-02-30"}}', 422, "day is out of"),
        (b'{"positive": ["patch-1"], "filters": {"labels": ["Pasture"]}}', 422, "'Pastures'?"),
        (b'{"crop": {"id": "patch-1", "box": [0, 0, 99, 9]}}', 422, "within 0 to 32"),
        (b'{"crop": {"id": "patch-1", "box": [0, 0, 9, 9]}, "positive": ["x"]}', 422, "only"),
        (b'{"positive": ["nothing"]}', 404, "not there, such as 'nothing'"),
        (b'{"positive": ["../../etc/passwd"]}', 404, "not there"),
        (b'{"positive": ["\\u0000"]}', 404, "not there"),
        (b'{"positive": ["\\ud800"]}', 422, "valid string"),
        (b'{"positive": ["patch-1"], "negative": ["\'; drop table"]}', 404, "not there"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_bad_input_is_refused_in_one_sentence(client, body, status, said):
    headers = {"Content-Type": "application/json"}
    response = client.post("/api/search", content=body, headers=headers)
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert said in response.json()["error"]
    assert len(response.text) < 1000


def test_error_names_no_directory_of_the_server(serving, monkeypatch):
    searcher = FakeSearcher()

    def no_records(*_):
        raise ConfigError("/srv/secret runs/records: got none, expected /data/x.bin; see --records")

    monkeypatch.setattr(searcher._pixels, "read", no_records)
    body = {"crop": {"id": "patch-1", "box": [0, 0, 9, 9]}}
    error = serving(Settings(), searcher).post("/api/search", json=body)
    assert error.status_code == 422
    assert "srv" not in error.text
    assert "/data" not in error.text
    assert "expected x.bin" in error.text


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
