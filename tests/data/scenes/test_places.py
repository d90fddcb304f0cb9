"""Places of the invented archive: names, tiles and splits on the map."""

import datetime
import itertools

from rasterio.warp import transform

from rejepa_jax.data.scenes.places import capacity, place_of


def test_places_are_unique_and_splits_apart():
    columns = {}
    for split in ("train", "validation", "test"):
        places = [place_of(split, index, index) for index in range(capacity(split))]
        assert len({(place.tile.name, place.column, place.row) for place in places}) == len(places)
        columns[split] = {place.column for place in places}
    for one, other in itertools.combinations(columns.values(), 2):
        assert not one & other


def test_tiles_lie_in_their_countries():
    boxes = {  # rough: west, east, south, north
        "Austria": (9, 18, 46, 50), "Belgium": (2, 7, 49, 52), "Finland": (19, 32, 59, 71),
        "Ireland": (-11, -5, 51, 56), "Kosovo": (20, 22.5, 41, 44), "Lithuania": (20, 27, 53, 57),
        "Luxembourg": (5, 7.5, 49, 51), "Portugal": (-10, -6, 36, 43),
        "Serbia": (18, 23, 42, 47), "Switzerland": (5, 11, 45, 48),
    }  # fmt: skip
    seen = set()
    for index in range(200):
        place = place_of("train", index, index)
        middle = [place.tile.left + 50_000], [place.tile.top - 50_000]
        (lon,), (lat,) = transform(place.crs, "EPSG:4326", *middle)
        west, east, south, north = boxes[place.tile.country]
        assert west < lon < east, place
        assert south < lat < north, place
        seen.add(place.tile.country)
    assert seen == set(boxes)


def test_names_follow_bigearthnet():
    place = place_of("train", 3 + 10 * 4, 2)  # the fourth tile, cell 4 x 37 = 148 of 50 columns
    assert (place.column, place.row) == (48, 2)
    assert place.date == datetime.date(2017, 6, 1) + datetime.timedelta(days=63)
    assert place.patch_id == "S2A_MSIL2A_20170803T113321_N9999_R080_T29UPV_48_02"
    assert place.s2v1_name == "S2A_MSIL2A_20170803T113321_48_2"
    assert place.s1_name == "S1A_IW_GRDH_1SDV_20170802T165043_29UPV_48_2"
    assert place.corner == (600_000 + 48 * 1200, 6_000_000 - 2 * 1200)
    assert place.crs == "EPSG:32629"
    assert place.day_of_year == 215
