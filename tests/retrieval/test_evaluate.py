import json

import fake_archive
import numpy as np
import pytest

from rejepa_jax.config import Eval
from rejepa_jax.retrieval import baselines, embed, evaluate

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
    encoders["encoder"] = lambda rows: np.ones((len(rows), 3), np.float32)
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
    # To a constant descriptor all are alike: rows 0, 1, 2, one of each class.
    (line,) = (x for x in table["rows"] if (x["descriptor"], x["form"]) == ("encoder", "plain"))
    assert line["precision_at_k"]["value"] == pytest.approx(1 / 3)


def test_images_are_read_once_for_all_free_descriptors(written):
    assert written[1] == [9, 10, 11, 12, 13, *range(9)]


def test_free_descriptors_and_labels_are_of_their_own_image(records):
    rows = np.array([2, 9, 11, 0, 5, 13])
    found, labels = evaluate._describe(records, rows, "s2", 4, FREE)
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
