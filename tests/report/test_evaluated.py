import dataclasses

import pytest

from rejepa_jax.report import evaluated, verdict
from rejepa_jax.types import DataError


@pytest.fixture
def found(make):
    return evaluated.read(make() / "evaluation")


def with_rows(found, rows, **more):
    return dataclasses.replace(found, table=found.table | {"rows": rows} | more)


def test_metrics_that_are_always_shown_come_first_and_others_keep_their_names(found):
    cell = {"value": 0.5, "low": 0.4, "high": 0.6}
    rows = [{"descriptor": "x", "form": "", "new": cell, "hamming": cell, "f1_micro_sets": cell}]
    words = {"hamming": {"title": "Hamming@4", "meaning": "how far", "is_distance": True}}
    measures = with_rows(found, rows, metrics=words).measures
    assert [(one.name, one.title, one.is_distance) for one in measures] == [
        ("f1_micro_sets", "F1, micro sets @4", False),
        ("new", "new", False),
        ("hamming", "Hamming@4", True),
    ]


@pytest.mark.parametrize(("is_distance", "best"), [(False, 0.7), (True, 0.2)])
def test_the_best_of_a_distance_is_the_smallest(is_distance, best):
    measure = evaluated.Measure("x", "", "", is_distance)
    lines = [{"x": {"value": value}} for value in (0.2, 0.7)] + [{"y": {"value": 0.9}}]
    assert measure.best(measure.cells(lines)) == best


def test_an_older_table_says_nothing_of_places_and_whole_galleries(found):
    assert (found.same_place, found.full, found.unanswerable) == (None, {}, 0)
    assert (found.classes, found.compact) == ([], None)


def test_scores_of_the_whole_gallery_have_their_words(found):
    cell = {"value": 0.5, "low": 0.4, "high": 0.6}
    words = {"map_full": {"title": "mAP", "meaning": "all of it", "is_distance": False}}
    full = with_rows(found, [], full={"map_full": cell}, metrics=words).full
    assert {measure.title: score for measure, score in full.items()} == {"mAP": cell}


def test_f1_of_a_class_is_the_harmonic_mean():
    def score(*values):
        cells = [value and {"value": value} for value in values]
        return evaluated.ClassScore("x", 1, 1, *cells, None).f1

    assert score(0.5, 0.25) == pytest.approx(1 / 3)
    assert score(None, None) is None


def test_a_table_without_the_rival_is_refused(found):
    with pytest.raises(DataError, match=r"table\.json: got rows for .*expected other; evaluate"):
        verdict.judge(found, ["other"])
