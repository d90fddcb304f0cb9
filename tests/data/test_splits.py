import collections
import dataclasses
import math

import numpy as np
import pytest
from fake_archive import read, toy_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from rejepa_jax.config import Data
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.archives.footprints import footprint
from rejepa_jax.data.blocks import HALF_CIRCLE_KM, find_block
from rejepa_jax.data.examples import Example
from rejepa_jax.data.splits import (
    SPLITS,
    assign,
    deal,
    find_centres,
    find_leaks,
    refuse_leaks,
)
from rejepa_jax.types import ConfigError, DataError

LOCATION = Data(split_by="location")


def archive(tmp_path, items, reading=read):
    return Archive(toy_schema(), tuple(items), ArchiveFiles(tmp_path), reading)


def placed(places, split="train"):
    return [Item(f"{n:04d}", split, (), {}, place) for n, place in enumerate(places)]


def at(*centres):
    return [
        Item(f"{n:04d}", "train", (), {}, facts={"centre": centre})
        for n, centre in enumerate(centres)
    ]


def kilometres(one, other):
    """The longer side of the rectangle between two places, on a sphere."""
    north = abs(one[1] - other[1])
    east = abs((one[0] - other[0] + 180) % 360 - 180)
    return max(north, east * math.cos(math.radians(max(abs(one[1]), abs(other[1]))))) * (
        HALF_CIRCLE_KM / 180
    )


def test_by_archive_nothing_changes(tmp_path):
    given = archive(tmp_path, placed(["a", "", "b"]))
    assert assign(given, Data()) is given


def test_the_cut_by_hand():
    # sha256: d 18ac..., c 2e7d..., b 3e23..., a ca97...; end to end d 0-1, c 1-4, b 4-8, a 8-10.
    sizes = {"a": 2, "b": 4, "c": 3, "d": 1}
    # Their middles are 0.5, 2.5, 6, 9; the limits 5 and 8.
    assert deal(sizes, (0.5, 0.3, 0.2)) == {
        "d": "train",
        "c": "train",
        "b": "validation",
        "a": "test",
    }
    assert deal(sizes, (1.0, 0.0, 0.0)) == dict.fromkeys("abcd", "train")
    assert set(deal(sizes, (0.1, 0.2, 0.7)).values()) == set(SPLITS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=80),
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5)),
)
def test_shares_are_met_to_within_a_group(sizes, parts):
    shares = tuple(part / sum(parts) for part in parts)
    groups = {f"place {n}": size for n, size in enumerate(sizes)}
    split_of = deal(groups, shares)
    assert split_of.keys() == groups.keys()
    for split, share in zip(SPLITS, shares, strict=True):
        got = sum(groups[group] for group, of in split_of.items() if of == split)
        assert abs(got - share * sum(sizes)) <= max(sizes)
    backwards = deal(dict(reversed(groups.items())), shares)
    assert backwards == split_of


def test_all_images_of_a_place_fall_into_one_split(tmp_path):
    rng = np.random.default_rng(0)
    places = [f"airport_{n}" for n in rng.integers(0, 300, 2000)]
    done = assign(archive(tmp_path, placed(places, "val")), LOCATION)
    splits = collections.defaultdict(set)
    for item in done.items:
        splits[item.place].add(item.split)
    assert all(len(found) == 1 for found in splits.values())
    counts = collections.Counter(item.split for item in done.items)
    for split, share in zip(SPLITS, LOCATION.split_shares, strict=True):
        assert counts[split] == pytest.approx(2000 * share, abs=15)
    assert [(i.split, i.id) for i in done.items] == sorted((i.split, i.id) for i in done.items)
    again = archive(tmp_path, rng.permutation(np.array(placed(places), object)).tolist())
    assert {i.id: i.split for i in assign(again, LOCATION).items} == {
        i.id: i.split for i in done.items
    }


def test_unknown_places_and_too_few_of_them_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="split_by = location: got 1 of 3 images without a place, such as 0001"
    ):
        assign(archive(tmp_path, placed(["a", "", "b"])), LOCATION)
    with pytest.raises(ConfigError, match="got no image for validation, test out of 1 groups"):
        assign(archive(tmp_path, placed(["a", "a"])), LOCATION)
    with pytest.raises(
        ConfigError, match="split_by = block: got 1 of 2 images without a footprint"
    ):
        assign(archive(tmp_path, at((1.0, 2.0), ())), Data(split_by="block"))


def test_an_unusable_scene_does_not_stop_the_splitting(tmp_path):
    bad = Item("bad", "train", (), {}, facts={"fault": "cannot be read"})
    for by, items in (
        ("location", placed("abcde")),
        ("block", at(*((float(n), 0.0) for n in range(5)))),
    ):
        done = assign(archive(tmp_path, [bad, *items]), Data(split_by=by))
        assert {item.id: item.split for item in done.items}["bad"] == "train"
        assert len(done.items) == 6


@pytest.mark.parametrize("km", [10.0, 200.0])
def test_blocks_have_nearly_the_area_that_was_asked_for(km):
    """Counts places spread evenly over the sphere: as many fall into each block as it is large."""
    rows = round(HALF_CIRCLE_KM / km)
    for latitude in (-60.0, 0.0, 45.0, 80.0):
        step = 180 / rows
        row = int((latitude + 90) / step)
        around = np.linspace(-180, 180, 20_001)[:-1]
        names = [find_block((x, -90 + (row + 0.5) * step), km) for x in around]
        columns = len(set(names))
        south, north = (math.radians(-90 + n * step) for n in (row, row + 1))
        area = 6371.0**2 * 2 * math.pi * (math.sin(north) - math.sin(south)) / columns
        assert area == pytest.approx(km**2, rel=0.03)
    assert find_block((180.0, 10.0), km) == find_block((-180.0, 10.0), km)
    assert find_block((540.0, 10.0), km) == find_block((-179.999, 10.0), km)
    for pole in (-90.0, 90.0):
        assert find_block((3.0, pole), km)


def test_neighbours_on_both_sides_of_a_zone_and_of_the_antimeridian_share_blocks():
    # 18 degrees east is where UTM zone 33 meets 34: the same ground in both has one name.
    assert find_block((17.99999, 45.03), 10.0) == find_block((18.00001, 45.03), 10.0)
    names = {find_block((x, 0.01), 100.0) for x in (179.99, -179.99)}
    assert names == {"100_399", "100_0"} or len(names) == 1


def test_a_block_falls_into_one_split_whole(tmp_path):
    rng = np.random.default_rng(0)
    centres = [tuple(point) for point in rng.uniform((20.0, 44.0), (21.5, 45.0), (3000, 2))]
    done = assign(archive(tmp_path, at(*centres)), Data(split_by="block", block_km=10.0))
    splits = collections.defaultdict(set)
    for item in done.items:
        splits[find_block(item.facts["centre"], 10.0)].add(item.split)
    assert len(done.items) == 3000
    assert len(splits) > 100
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize("middle", [(20.0, 45.0), (179.9, -20.0), (5.0, 70.0)])
def test_with_a_gap_no_two_splits_come_near_each_other(tmp_path, middle):
    rng = np.random.default_rng(1)
    spread = rng.uniform(-1, 1, (700, 2)) * (0.6 / math.cos(math.radians(middle[1])), 0.6)
    spread = spread[rng.random(700) < 0.6]
    centres = [((x + middle[0] + 180) % 360 - 180, y + middle[1]) for x, y in spread]
    data = Data(split_by="block", block_km=15.0)
    done = assign(archive(tmp_path, at(*centres)), data, gap_km=3.0)
    whole = assign(archive(tmp_path, at(*centres)), data)

    def nearest(items):
        by_split = collections.defaultdict(list)
        for item in items:
            by_split[item.split].append(item.facts["centre"])
        pairs = [("train", "validation"), ("train", "test"), ("validation", "test")]
        return min(kilometres(a, b) for p, q in pairs for a in by_split[p] for b in by_split[q])

    assert nearest(whole.items) < 2
    assert nearest(done.items) >= 3.0 * 0.99  # kilometres east are those of one latitude of two
    kept = {item.id for item in done.items}
    lost = [item for item in whole.items if item.id not in kept]
    assert len(lost) < len(centres) / 2
    assert {item.split for item in lost} == {"train", "validation"}  # none of the last split
    with pytest.raises(ConfigError, match=r"block_gap_km = 20.0: at most config.data.block_km"):
        assign(archive(tmp_path, at(*centres)), data, gap_km=20.0)


def read_placed(files, item, schema):  # noqa: ARG001
    """Stands for a layout that knows places only from pixels."""
    if item.id == "0002":
        raise DataError("damaged")
    geometry = b""
    if item.id != "0003":
        geometry = footprint("EPSG:4326", (0.1, 0.0, float(item.id), 0.0, -0.1, 10.0), 10, 10)
    return Example(item.id, {}, (), source=item.id, geometry=geometry)


def test_places_that_the_listing_does_not_tell_are_read_from_the_images(tmp_path, caplog):
    given = archive(tmp_path, placed([""] * 4), read_placed)
    with caplog.at_level("INFO"):
        centres = find_centres(given)
    assert centres[0] == pytest.approx((0.5, 9.5))
    assert centres[1] == pytest.approx((1.5, 9.5))
    assert centres[2:] == [None, ()]
    assert "all are read for that" in caplog.text


def test_places_in_two_splits_are_told_and_refused_between_queries_and_gallery(tmp_path, caplog):
    items = [
        dataclasses.replace(item, split=split)
        for item, split in zip(
            placed(["a", "a", "b", "b", "b", "c", ""]),
            ["train", "test", "train", "validation", "train", "test", "test"],
            strict=True,
        )
    ]
    given = archive(tmp_path, items)
    leaks = find_leaks(given)
    refuse_leaks(leaks, "validation", "test", is_allowed=False)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split(",")[0] for text in texts] == [
        "SPLITS LEAK: 1 of 3 places are both in test (1 images) and in train (1 images)",
        "SPLITS LEAK: 1 of 3 places are both in train (2 images) and in validation (1 images)",
    ]
    with pytest.raises(
        ConfigError, match=r"both in test .* and in train .*such as a: queries would"
    ):
        refuse_leaks(leaks, "train", "test", is_allowed=False)
    refuse_leaks(leaks, "train", "test", is_allowed=True)
    caplog.clear()
    mended = assign(
        archive(tmp_path, items[:6]), Data(split_by="location", split_shares=(0.5, 0.0, 0.5))
    )
    assert not find_leaks(mended)
    assert not [record for record in caplog.records if record.levelname != "INFO"]
