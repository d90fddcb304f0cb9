"""Single modules of the page, called in a real Chromium; and the files of others that it ships."""
# ruff: noqa: F811 (fixtures are imported)

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
from browsing import browsers, url, visit  # noqa: F401

import rejepa_jax

STATIC = Path(rejepa_jax.__file__).parent / "serve" / "static"


def test_files_of_others_are_unchanged_and_licensed():
    listed = dict(
        re.findall(
            r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$",
            (STATIC / "vendor/README.md").read_text(),
            re.M,
        )
    )
    found = {
        path.relative_to(STATIC / "vendor").as_posix() for path in (STATIC / "vendor").rglob("*.*")
    }
    assert set(listed) == {path for path in found if not re.search("LICENSE|README", path)}
    for path, checksum in listed.items():
        assert hashlib.sha256((STATIC / "vendor" / path).read_bytes()).hexdigest() == checksum
        assert list((STATIC / "vendor" / path).parent.glob("LICENSE*"))


def test_page_names_no_other_host_and_writes_no_markup():
    ours = [path for path in STATIC.iterdir() if path.is_file()]
    assert {path.suffix for path in ours} == {".js", ".css", ".html", ".svg"}
    for path in ours:
        text = path.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\bon\w+=\"", text
        ), path


@pytest.fixture
def page(visit):
    """A tab in which modules of the page can be imported."""
    return visit().page


@pytest.mark.service
def test_state_in_the_address_comes_back_and_hostile_addresses_are_harmless(page):
    state = {
        "positive": ["a&b=c", "ü #1"], "negative": ["n"], "images": ["x y.tif"], "mode": "grid",
        "point": [16.4, -48.2], "k": 48, "score": 0.25, "elsewhere": True,
        "bbox": [170, -10, -170, 10],
        "start": "2017-01-01", "end": "2017-02-01", "sensors": ["s2"], "labels": ["A, b", "<i>"],
        "collections": ["c"], "splits": ["test"],
    }  # fmt: skip
    call = "async ([name, value]) => (await import('/static/state.js'))[name](value)"
    address = page.evaluate(call, ["toHash", state])
    assert page.evaluate(call, ["fromHash", "#" + address]) == state
    start = page.evaluate(call, ["emptyState", None])
    assert page.evaluate(call, ["toHash", start]) == ""
    hostile = (
        "#k=-5&score=NaN&point=1&bbox=1,2,x,4&mode=rm&__proto__=1&constructor=2&elsewhere=maybe"
    )
    assert page.evaluate(call, ["fromHash", hostile]) == start
    assert page.evaluate(call, ["readQuestion", " 48.2, 16.4 "]) == {"point": [16.4, 48.2]}
    assert page.evaluate(call, ["readQuestion", "S2A_33UUP_74_41"]) == {
        "positive": ["S2A_33UUP_74_41"]
    }


@pytest.mark.service
def test_base_map_has_the_countries_where_they_are(page):
    call = "async () => JSON.stringify(await (await import('/static/base_map.js')).loadBaseMap())"
    base = json.loads(page.evaluate(call))
    rings = [
        np.array(ring)
        for piece in base["land"]["features"]
        for ring in piece["geometry"]["coordinates"]
    ]
    assert (
        max(np.abs(np.diff(ring[:, 0])).max() for ring in rings if np.abs(ring[:, 1]).max() < 85)
        < 180
    )
    assert all((ring[0] == ring[-1]).all() for ring in rings)
    land = shapely.union_all(shapely.buffer([shapely.polygons(ring) for ring in rings], 0))
    turns = np.array([-360, 0, 360])

    def is_land(lon, lat):
        return bool(shapely.contains_xy(land, lon + turns, np.full(3, lat)).any())

    # Vienna, Chukotka beyond the date line, Fiji's Vanua Levu, inner Antarctica, Kansas.
    assert all(
        is_land(*at)
        for at in [(16.4, 48.2), (-175, 66.5), (179.2, -16.6), (0, -85), (100, -85), (-98, 38)]
    )
    # North Sea, mid-Atlantic, the Pacific at the date line, the Arctic.
    assert not any(is_land(*at) for at in [(3, 56), (-30, 30), (180, 0), (0, 88)])
    names = {
        feature["properties"]["name"]: feature["geometry"]["coordinates"]
        for feature in base["names"]["features"]
    }
    for name, (lon, lat) in {
        "Austria": (14.1, 47.6),
        "Russia": (97, 62),
        "France": (2.5, 46.5),
    }.items():
        assert np.hypot(*(np.array(names[name]) - (lon, lat))) < 3


@pytest.mark.service
def test_bounds_take_the_short_way_round_the_earth(page):
    call = "async (places) => (await import('/static/geojson.js')).boundsOf(places)"
    assert page.evaluate(call, [[10, 1], [-5, 3]]) == [-5, 1, 10, 3]
    assert page.evaluate(call, [[179, 0], [-178, 5]]) == [179, 0, 182, 5]
    assert page.evaluate(call, []) is None
