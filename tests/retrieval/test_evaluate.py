import dataclasses
import json

import fake_archive
import numpy as np
import pytest

from rejepa_jax.config import Eval
from rejepa_jax.retrieval import baselines, embed, evaluate
from rejepa_jax.retrieval.metrics import catalogue
from rejepa_jax.retrieval.metrics.protocol import RULES
from rejepa_jax.types import DataError

SETTINGS = Eval(encoder="oracle", k=3, query_split="query", gallery_split="gallery", batch_size=4)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Places 0 to 8 are the gallery, 9 to 13 the queries; place n has class n mod 3."""
    root = tmp_path_factory.mktemp("evaluate")
    return fake_archive.prepared(root, {"gallery": 9, "query": 5})


FREE = {  # in place of the real ones: the means of the bands, times a number
    name: lambda images, factor=factor: factor * images.astype("float32").mean((1, 2))
    for factor, name in enumerate(baselines.FREE, 1)
}


@pytest.fixture(scope="module")
def written(records, tmp_path_factory):
    """What the evaluation wrote, and how often it read each row."""
    directory, read = tmp_path_factory.mktemp("evaluation"), []

    def batches(records, rows, sensor, batch_size):
        read.extend(rows)
        return embed.example_batches(records, rows, sensor, batch_size)

    encoders = {"oracle": lambda rows: np.eye(3, dtype=np.float32)[rows % 3]}
    encoders["encoder"] = lambda rows: np.eye(4, dtype=np.float32)[np.where(rows == 13, 3, 0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "free_descriptors", lambda *_: FREE)
        patch.setattr(evaluate, "example_batches", batches)
        evaluate.evaluate(encoders, "s2", records, SETTINGS, directory)
    return directory, read


@pytest.fixture(scope="module")
def table(written):
    return json.loads((written[0] / "table.json").read_text())


def test_every_descriptor_stands_there_in_every_form(table):
    descriptors = [*baselines.FREE, "oracle encoder", "encoder"]
    forms = ("plain", "z-scored", "whitened")
    expected = [("random ranking", ""), ("label prior", "")]
    expected += [(name, form) for name in descriptors for form in forms]
    assert [(line["descriptor"], line["form"]) for line in table["rows"]] == expected


def test_one_that_knows_the_classes_is_always_right(table):
    for line in table["rows"]:
        if line["descriptor"] == "oracle encoder":
            assert line["precision_at_k"] == {"value": 1, "low": 1, "high": 1}
    # All of the gallery are alike to this one: rows 0, 1, 2, one of each class.
    (line,) = (x for x in table["rows"] if (x["descriptor"], x["form"]) == ("encoder", "plain"))
    assert line["precision_at_k"]["value"] == pytest.approx(1 / 3)


def test_images_are_read_once_for_all_free_descriptors(written):
    assert written[1] == [9, 10, 11, 12, 13, *range(9)]


def test_free_descriptors_and_labels_are_of_their_own_image(records):
    rows = np.array([2, 9, 11, 0, 5, 13])
    found, labels, places = evaluate._describe(records, rows, "s2", 4, FREE)
    assert places == [""] * 6
    np.testing.assert_array_equal(labels, np.eye(3, dtype=bool)[rows % 3])
    means = [fake_archive.pixels(row, records.schema)["s2"].mean((0, 1)) for row in rows]
    for factor, name in enumerate(baselines.FREE, 1):
        np.testing.assert_allclose(found[name], factor * np.array(means), rtol=1e-5)


def test_ranking_is_the_chosen_encoders(written):
    with np.load(written[0] / "ranking.npz") as ranking:
        np.testing.assert_array_equal(ranking["queries"], np.arange(9, 14))
        np.testing.assert_array_equal(ranking["hits"][0], [0, 3, 6])  # query 9 is of class 0
        np.testing.assert_array_equal(ranking["hits"][1], [1, 4, 7])
        np.testing.assert_array_equal(ranking["scores"], 1)


def test_every_metric_is_in_every_row_and_described(table):
    names = catalogue.at_k(RULES)
    for line in table["rows"]:
        assert line.keys() == {"descriptor", "form", *names}
    assert table["metrics"].keys() == names.keys() | catalogue.full(RULES).keys()
    assert table["metrics"]["map_at_k"]["title"] == "mAP@3"
    assert table["unanswerable"] == 0
    assert table["same_place"] is None


def test_figures_of_the_whole_gallery_are_the_searched_encoders(table):
    assert table["full"].keys() == catalogue.full(RULES).keys()
    for name, score in table["full"].items():
        assert score["value"] == (0 if "anmrr" in name else 1), name


def test_a_large_gallery_is_not_ranked_whole(records, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "free_descriptors", lambda *_: {})
    monkeypatch.setattr(evaluate, "FULL_PAIRS", 5 * 9 - 1)
    evaluate.evaluate({"oracle": oracle}, "s2", records, SETTINGS, tmp_path)
    assert json.loads((tmp_path / "table.json").read_text())["full"] is None


def test_classes_of_the_searched_encoder(written):
    content = json.loads((written[0] / "per_class.json").read_text())
    assert content["k"] == 3
    one = {"value": 1, "low": 1, "high": 1}
    figures = {"precision_at_k": one, "recall_at_k": one, "ap_at_k": one}
    assert content["classes"] == [
        {"class": "forest", "queries": 2, "relevant": 3, **figures},  # 9 and 12
        {"class": "water", "queries": 2, "relevant": 3, **figures},
        {"class": "urban", "queries": 1, "relevant": 3, **figures},
    ]


def test_smaller_forms_of_the_searched_encoder_are_scored_too(written):
    first = json.loads((written[0] / "compact.json").read_text())["rows"][0]
    assert (first["name"], first["recall"]["value"], first["f1"]["value"]) == ("float32", 1, 1)


def oracle(rows):
    return np.eye(3, dtype=np.float32)[rows % 3]


def test_a_class_that_no_query_has_is_listed_without_figures(records, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "free_descriptors", lambda *_: {})
    few = dataclasses.replace(records, splits={"gallery": range(9), "query": range(9, 11)})
    evaluate.evaluate({"oracle": oracle}, "s2", few, SETTINGS, tmp_path)
    urban = json.loads((tmp_path / "per_class.json").read_text())["classes"][2]
    figures = dict.fromkeys(("precision_at_k", "recall_at_k", "ap_at_k"))
    assert urban == {"class": "urban", "queries": 0, "relevant": 3, **figures}


def test_where_places_are_shared_both_tables_are_written(records, tmp_path, monkeypatch):
    """Query 9 is of the place of images 0 and 3, query 11 of a place that no image has."""
    place = dict.fromkeys((0, 3, 9), "hill") | {11: "dale"}

    def batches(*arguments):
        number = iter(arguments[1])
        for examples, images in embed.example_batches(*arguments):
            yield (
                [dataclasses.replace(e, place=place.get(next(number), "")) for e in examples],
                images,
            )

    monkeypatch.setattr(
        baselines, "free_descriptors", lambda *_: {"means": FREE["image statistics"]}
    )
    monkeypatch.setattr(evaluate, "example_batches", batches)
    evaluate.evaluate({"oracle": oracle}, "s2", records, SETTINGS, tmp_path)
    table = json.loads((tmp_path / "table.json").read_text())
    apart = table["same_place"]
    assert apart["queries"] == 1
    assert [(line["descriptor"], line["form"]) for line in apart["rows"]] == [
        (line["descriptor"], line["form"]) for line in table["rows"]
    ]
    with_it, without = (
        next(line for line in lines if line["descriptor"] == "oracle encoder")
        for lines in (table["rows"], apart["rows"])
    )
    assert with_it["precision_at_k"]["value"] == 1
    # Query 9 keeps image 6 of its class, then finds 1 and 2.
    assert without["precision_at_k"]["value"] == pytest.approx((4 + 1 / 3) / 5)
    assert without["recall_at_k"]["value"] == 1
    text = (tmp_path / "table.txt").read_text()
    assert "without images of the query's own place, which 1 queries have in the gallery:" in text
    with np.load(tmp_path / "ranking.npz") as ranking:
        assert ranking["hits"].shape == ranking["scores"].shape == (5, 3)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (lambda rows: np.ones((len(rows), 3), np.float32), "same descriptor for all 14 images"),
        (
            lambda rows: np.where(rows == 11, np.nan, oracle(rows).T).T,
            "1 of 14 .* first in rows .2.",
        ),
    ],
)
def test_encoder_whose_descriptors_say_nothing_is_refused(
    records, tmp_path, monkeypatch, vectors, words
):
    monkeypatch.setattr(baselines, "free_descriptors", lambda *_: {})
    with pytest.raises(DataError, match=rf"oracle encoder: got .*{words}"):
        evaluate.evaluate({"oracle": vectors}, "s2", records, SETTINGS, tmp_path)


def test_free_descriptor_that_is_the_same_for_all_is_left_out_and_said(
    records, tmp_path, monkeypatch, caplog
):
    constant = {"image statistics": lambda images: np.ones((len(images), 3), np.float32)}
    monkeypatch.setattr(baselines, "free_descriptors", lambda *_: constant)
    built = evaluate.evaluate({"oracle": oracle}, "s2", records, SETTINGS, tmp_path)
    assert "image statistics are the same for all images" in caplog.text
    assert built.info["table"]["queries"] == {"split": "query", "images": 5}
    assert "image statistics" not in (tmp_path / "table.txt").read_text()


def test_text_names_every_row_and_the_protocol(written, table):
    text = (written[0] / "table.txt").read_text()
    assert text.startswith("5 query images query 9 gallery images, k = 3;")
    for line in table["rows"]:
        assert f"{line['descriptor']} " in text
    assert text.count("whitened") == 6


@pytest.mark.parametrize(("name", "row"), [("target", "target encoder"), ("encoder", "encoder")])
def test_rows_of_an_encoder_are_named_after_it(name, row):
    assert evaluate.encoder_row(name) == row


def test_a_small_gallery_lowers_k(records, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "free_descriptors", lambda *_: {})
    settings = Eval(encoder="oracle", k=10, query_split="gallery", gallery_split="query")
    oracle = {"oracle": lambda rows: np.eye(3, dtype=np.float32)[rows % 3]}
    built = evaluate.evaluate(oracle, "s1", records, settings, tmp_path)
    assert built.info["table"]["k"] == 5
