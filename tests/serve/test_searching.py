"""What the API answers, held against one matrix product, and what it says of bad input."""

import json

import numpy as np
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
