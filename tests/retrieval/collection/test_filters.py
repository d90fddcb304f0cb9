"""Columns without a list of labels, and which rows a filter lets pass."""

import numpy as np
import pyarrow as pa
import pytest
import searched_run
import shapely

from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.collection.filters import Filter, in_box
from rejepa_jax.retrieval.collection.places import EDGES, nearest
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.types import ConfigError, DataError

NOWHERE, ACROSS = searched_run.NOWHERE, searched_run.ACROSS


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    run = searched_run.make(tmp_path_factory.mktemp("filters"))
    return Catalogue(reading.read_columns(run / "embeddings")[0])


def passing(catalogue, **where):
    return np.flatnonzero(Filter(**where).mask(catalogue)).tolist()


def test_an_empty_filter_asks_nothing(catalogue):
    assert Filter().mask(catalogue) is None


def test_names_labels_and_places(catalogue):
    train = list(range(6, 24))
    assert passing(catalogue, splits=("train",)) == train
    assert passing(catalogue, splits=("train", "test")) == list(range(24))
    assert passing(catalogue, sensors=("s2",), collections=("toy",)) == list(range(24))
    assert (
        passing(catalogue, labels=("water",))
        == [r for r in range(24) if r % 3 == 1 != NOWHERE][:-1]
    )
    both = [row for row in range(24) if row % 3 < 2 and row != NOWHERE]
    assert passing(catalogue, labels=("water", "forest")) == both
    # Of an image of which no place is known, no place can be left out.
    there = passing(catalogue, not_places=("ground0", "ground3", "no such place"))
    assert there == [row for row in range(24) if row not in (0, 1, 6, 7)]


def test_days_are_whole_and_moments_exact(catalogue):
    assert passing(catalogue, start="2018-01-03", end="2018-01-05") == [2, 3, 4]
    assert passing(catalogue, end="2018-01-02") == [0, 1]
    assert passing(catalogue, start="2018-01-03T10:00:01Z", end="2018-01-05T10:00:00Z") == [3, 4]
    assert passing(catalogue, start="2018-01-05T11:00:00+02:00", end="2018-01-05") == [4]
    assert NOWHERE not in passing(catalogue, start="1970-01-01")


def test_boxes_also_over_the_antimeridian(catalogue):
    assert passing(catalogue, bbox=(3.0, 39.0, 5.0, 41.0)) == [3, 4, 5]
    assert passing(catalogue, bbox=(3.1, 39.0, 4.9, 41.0)) == [4]
    assert passing(catalogue, bbox=(3.0, 10.0, 5.0, 39.0)) == []
    assert passing(catalogue, bbox=(20.5, 39.0, 1.5, 41.0)) == [0, 1, 21, ACROSS]
    assert passing(catalogue, bbox=(179.0, 39.0, -179.0, 41.0)) == [ACROSS]
    assert passing(catalogue, bbox=(-180.0, 39.0, -179.999, 41.0)) == [ACROSS]
    assert passing(catalogue, bbox=(-180.0, -90.0, 180.0, 90.0)) == [*range(22), ACROSS]
    assert catalogue.facts(ACROSS)["bbox"] == pytest.approx((179.99, 40, -179.99, 40.01), abs=1e-4)
    assert abs(catalogue.facts(ACROSS)["lon"]) == pytest.approx(180, abs=1e-4)


def test_a_box_meets_what_shares_a_meridian_with_it():
    """Two arcs of a circle meet where one begins within the other."""
    rng = np.random.default_rng(0)
    west, east = rng.uniform(-180, 180, (2, 400)).astype(np.float32)
    kind = pa.struct([(edge, pa.float32()) for edge in EDGES])
    edges = dict(zip(EDGES, (west, np.zeros(400), east, np.ones(400)), strict=True))
    boxes = pa.Table.from_pydict(edges).cast(pa.schema(kind)).to_struct_array()
    catalogue = Catalogue(pa.table({"id": list(map(str, range(400))), "bbox": boxes}))
    for start, end in rng.uniform(-180, 180, (60, 2)):
        begins = (west - start) % 360 <= (end - start) % 360
        meets = begins | ((start - west) % 360 <= (east - west) % 360)
        np.testing.assert_array_equal(in_box(catalogue, (start, 0.5, end, 3.0)), meets)


def test_what_no_image_can_fit_is_refused(catalogue):
    for where, match in (
        ({"labels": ("watre",)}, "the label 'watre', which no image has.*did you mean 'water'"),
        ({"splits": ("validation",)}, "the split 'validation'.*some of test, train"),
        ({"start": "June"}, "the date 'June', expected ISO 8601"),
        ({"start": "2018-02-01", "end": "2018-01-01"}, "swap them"),
        ({"bbox": (0.0, 10.0, 1.0, 5.0)}, "ymin <= ymax"),
        ({"bbox": (0.0, 0.0, 190.0, 5.0)}, "-180 to 180"),
        ({"bbox": (0.0, float("nan"), 1.0, 5.0)}, "bbox"),
    ):
        with pytest.raises(ConfigError, match=match):
            Filter(**where).mask(catalogue)


def test_ids_are_only_ids(catalogue):
    rows = catalogue.find(["place007", "place000", "place007"])
    assert rows.tolist() == [7, 0, 7]
    odd = ["../place000", "/etc/passwd", "place000\0", "", "\ud800", "x" * 10**6]
    for name in odd:
        with pytest.raises(DataError, match="1 ids that are not there"):
            catalogue.find([name])
    table = pa.table({"id": odd[:4]})
    assert Catalogue(table).find(odd[3::-1]).tolist() == [3, 2, 1, 0]


def test_deleted_rows_are_not_found_but_a_second_one_of_the_id_is():
    live = np.array([False, True, True])
    catalogue = Catalogue(pa.table({"id": ["a", "b", "a"], "split": ["x", "y", "y"]}), live)
    assert catalogue.find(["a", "b"]).tolist() == [2, 1]
    assert catalogue.names("split") == ["y"]
    assert catalogue.known(["a", "c"]) == {"a": 2}


def test_columns_that_an_export_does_not_have_are_unknown():
    fact = Catalogue(pa.table({"id": ["a"]})).facts(0)
    assert (fact["labels"], fact["place"], fact["datetime"], fact["bbox"]) == ([], "", "", None)
    assert not Catalogue(pa.table({"id": ["a"]})).has_places
    empty = Catalogue(pa.table({"id": pa.array([], pa.string())}))
    assert empty.names("labels") == empty.names("split") == []
    assert empty.boxes.shape == (0, 4)


def test_parts_with_different_dictionaries_are_one_column():
    kind = pa.dictionary(pa.int32(), pa.string())
    tables = [pa.table({"id": ids, "split": pa.array(splits, kind), "labels": labels})
              for ids, splits, labels in (
                  (["a", "b"], ["x", None], [["p"], ["q", "p"]]),
                  (["c", "d"], ["y", "x"], [None, ["r"]]))]  # fmt: skip
    catalogue = Catalogue(pa.concat_tables(tables, promote_options="permissive"))
    assert passing(catalogue, splits=("x",)) == [0, 3]
    assert passing(catalogue, labels=("p", "r")) == [0, 1, 3]
    assert catalogue.names("labels") == ["p", "q", "r"]


def test_nearest_image_to_a_point(catalogue):
    row, kilometres = nearest(catalogue.points, catalogue.live, 7.4, 41.0)
    assert row == 7
    # One degree of latitude is 111.195 km; 0.4 of longitude there about 0.4 * cos(40.5 deg) of it.
    assert kilometres == pytest.approx(
        111.195 * np.hypot(1, 0.4 * np.cos(np.radians(40.5))), rel=1e-4
    )
    assert nearest(catalogue.points, catalogue.live, -179.5, 40.0)[0] == ACROSS
    only = np.arange(24) == 3
    assert nearest(catalogue.points, only, 100.0, -20.0)[0] == 3
    with pytest.raises(ConfigError, match="no image it is known where it lies"):
        nearest(catalogue.points, np.arange(24) == NOWHERE, 0.0, 0.0)
    with pytest.raises(ConfigError, match="longitude,latitude in degrees"):
        nearest(catalogue.points, catalogue.live, 41.0, 107.4)


def test_footprints_all_around_the_earth_keep_their_boxes():
    shape = shapely.to_wkb(shapely.box(-180, 60, 180, 70))
    box = {"xmin": -180, "ymin": 60, "xmax": 180, "ymax": 70}
    catalogue = Catalogue(pa.table({"id": ["a"], "geometry": [shape], "bbox": [box]}))
    assert catalogue.boxes.tolist() == [[-180, 60, 180, 70]]
