import base64
import io

import numpy as np
import pytest
from PIL import Image

from rejepa_jax.report import gallery

RGB = ("red", "green", "blue")


def open_uri(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.fixture
def ranking(make):
    return gallery.read_ranking(make() / "evaluation" / "ranking.npz")


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [(9, 3, [1, 4, 7]), (10, 2, [2, 7]), (3, 8, [0, 1, 2]), (5, 1, [2]), (5, 0, []), (0, 4, [])],
)
def test_queries_are_the_middles_of_equal_parts(count, wanted, places):
    assert gallery.spread(count, wanted).tolist() == places


@pytest.mark.parametrize(("count", "wanted"), [(1200, 8), (7, 5), (100, 99)])
def test_no_query_is_shown_twice(count, wanted):
    places = gallery.spread(count, wanted)
    assert len(places) == wanted
    assert (np.diff(places) > 0).all()


def test_right_is_what_shares_a_label(ranking, records):
    answers = gallery.show_answers(ranking, records, "rgb", 3)
    rights = [[hit.is_relevant for hit in answer.hits] for answer in answers]
    # Labels of the queries: {0, 1}, {2}, {}; of gallery rows 0 to 4: {0}, {1}, {2}, {0, 1}, {}.
    assert rights == [
        [True, True, False, False],  # hits 3 0 2 4
        [False, True, False, False],  # hits 0 2 1 3
        [False, False, False, False],  # hits 4 1 0 2
    ]
    classes = records.schema.classes
    assert [hit.shared for hit in answers[0].hits] == [classes[:2], classes[:1], (), ()]
    assert [hit.rank for hit in answers[0].hits] == [1, 2, 3, 4]
    assert answers[0].hits[3].score == -0.25


def test_each_picture_is_its_record(ranking, records):
    answers = gallery.show_answers(ranking, records, "rgb", 3)
    for place, answer in enumerate(answers):
        rows = [ranking.queries[place], *ranking.hits[place]]
        shown = [answer.query, *(hit.picture for hit in answer.hits)]
        for row, picture in zip(rows, shown, strict=True):
            (example,) = records.read_examples(np.array([row]))
            assert picture.id == example.id
            assert picture.labels == tuple(records.schema.classes[i] for i in example.labels)
            colour = np.asarray(open_uri(picture.uri), int)
            assert np.abs(colour - example.images["rgb"][0, 0]).max() <= 4  # JPEG's rounding


def test_only_queries_asked_for_are_shown(ranking, records):
    (answer,) = gallery.show_answers(ranking, records, "rgb", 1)
    assert answer.query.id == records.read_examples(np.array([6]))[0].id
    assert gallery.show_answers(ranking, records, "rgb", 0) == []


@pytest.mark.parametrize(
    ("shape", "size"), [((8, 8), (120, 120)), ((60, 30), (60, 120)), ((240, 480), (120, 60))]
)
def test_the_longer_side_becomes_120_pixels(shape, size):
    uri = gallery.thumbnail(np.full((*shape, 3), 128, np.uint8), RGB)
    assert open_uri(uri).size == size


def test_few_pixels_stay_squares():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = image[1, 1] = 255
    grey = np.asarray(open_uri(gallery.thumbnail(image, RGB)).convert("L"), int)
    expected = np.kron([[255, 0], [0, 255]], np.ones((60, 60), int))
    distance = np.abs(grey - expected)
    assert np.median(distance) <= 2
    assert distance[:52, :52].max() <= 8  # away from the edge, where JPEG rings


def test_a_picture_with_gaps_is_drawn():
    image = np.full((10, 10, 2), -12.0, np.float32)
    image[:5] = np.nan
    assert open_uri(gallery.thumbnail(image, ("VV", "VH"))).size == (120, 120)
