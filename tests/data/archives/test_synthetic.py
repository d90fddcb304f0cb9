"""The invented archive is BigEarthNet v2 to its readers, repeatable, and honest about labels."""

import hashlib
import itertools
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.warp import transform

from rejepa_jax.data.archives import bigearthnet, scenes, synthetic
from rejepa_jax.data.archives.scene_landscapes import LANDSCAPES, Cover
from rejepa_jax.data.archives.scene_layout import draw_class_map, labels_of
from rejepa_jax.data.archives.scene_materials import spectra
from rejepa_jax.data.archives.scene_patterns import slope_towards, trees
from rejepa_jax.data.archives.scene_places import capacity, place_of
from rejepa_jax.data.archives.scene_surfaces import SURFACES
from rejepa_jax.types import ConfigError

COUNTS = {"train": 3, "validation": 2, "test": 1}
SIDES = {"B02 B03 B04 B08": 120, "B05 B06 B07 B8A B11 B12": 60, "B01 B09": 20}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    directory = tmp_path_factory.mktemp("synthetic") / "archive"
    return directory, synthetic.write_archive(directory, seed=5, counts=COUNTS, workers=1)


def digests(directory):
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_files_lie_where_bigearthnet_puts_them(archive):
    directory, _ = archive
    expected = {
        "metadata.parquet",
        "metadata_for_patches_with_snow_cloud_or_shadow.parquet",
        "generator.json",
    }
    for row in pq.read_table(directory / "metadata.parquet").to_pylist():
        patch, s1 = row["patch_id"], row["s1_name"]
        s2_folder, s1_folder = patch.rsplit("_", 2)[0], s1.rsplit("_", 3)[0]
        for band in " ".join(SIDES).split():
            expected.add(f"BigEarthNet-S2/{s2_folder}/{patch}/{patch}_{band}.tif")
        for band in ("VV", "VH"):
            expected.add(f"BigEarthNet-S1/{s1_folder}/{s1}/{s1}_{band}.tif")
    assert set(digests(directory)) == expected


def test_bands_have_the_published_types_sizes_and_grid(archive):
    directory, _ = archive
    sides = {band: side for bands, side in SIDES.items() for band in bands.split()}
    for row in pq.read_table(directory / "metadata.parquet").to_pylist():
        tile, column, row_number = row["patch_id"].rsplit("_", 3)[1:]
        patch = directory / "BigEarthNet-S2" / row["patch_id"].rsplit("_", 2)[0] / row["patch_id"]
        s1 = directory / "BigEarthNet-S1" / row["s1_name"].rsplit("_", 3)[0] / row["s1_name"]
        for path in itertools.chain(patch.iterdir(), s1.iterdir()):
            band = path.stem.rsplit("_", 1)[1]
            side = sides.get(band, 120)
            with rasterio.open(path) as dataset:
                pixels = dataset.read()
                assert pixels.shape == (1, side, side)
                assert pixels.dtype == ("float32" if band in ("VV", "VH") else "uint16")
                assert dataset.crs.to_epsg() == 32600 + int(tile[1:3])
                assert dataset.res == (1200 / side, 1200 / side)
                left, top = dataset.bounds.left, dataset.bounds.top
            assert np.isfinite(pixels).all()
            assert pixels.std() > 0
            # 33UUP begins at 300 km east, 5,400 km north.
            place = place_of(row["split"], 0, 0)
            if tile == "T33UUP":
                assert (left, top) == (
                    300_000 + 1200 * int(column),
                    5_400_000 - 1200 * int(row_number),
                )
                assert place.tile.name == "33UUP"


def test_metadata_has_the_published_columns(archive):
    directory, summary = archive
    table = pq.read_table(directory / "metadata.parquet")
    empty = pq.read_table(directory / "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
    assert table.column_names == [
        "patch_id", "labels", "split", "country", "s1_name", "s2v1_name",
        "contains_seasonal_snow", "contains_cloud_or_shadow",
    ]  # fmt: skip
    assert empty.schema == table.schema
    assert empty.num_rows == 0
    rows = table.to_pylist()
    assert [row["split"] for row in rows] == ["train"] * 3 + ["validation"] * 2 + ["test"]
    for row in rows:
        assert re.fullmatch(
            r"S2A_MSIL2A_20\d{6}T\d{6}_N9999_R\d{3}_T\d\d[A-Z]{3}_\d\d_\d\d", row["patch_id"]
        )
        assert re.fullmatch(r"S1A_IW_GRDH_1SDV_20\d{6}T\d{6}_\d\d[A-Z]{3}_\d+_\d+", row["s1_name"])
        assert set(row["labels"]) <= set(bigearthnet.CLASSES)
        assert row["labels"] == sorted(row["labels"])
    for name, count in summary["labels"].items():
        assert count == sum(name in row["labels"] for row in rows)
    assert json.loads((directory / "generator.json").read_text()) == {
        "name": "synthetic",
        "version": synthetic.GENERATOR_VERSION,
        "seed": 5,
        "counts": COUNTS,
    }


def test_the_reader_of_the_real_archive_reads_it(archive):
    directory, _ = archive
    opened = bigearthnet.open_archive(directory)
    assert len(opened.items) == 6
    example = opened.read(opened.files, opened.items[0], opened.schema)
    assert example.images["s2"].shape == (120, 120, 12)
    assert example.images["s1"].dtype == np.float32
    assert example.labels


def test_same_seed_same_bytes_for_any_number_of_workers(archive, tmp_path):
    directory, summary = archive
    again = synthetic.write_archive(tmp_path / "again", seed=5, counts=COUNTS, workers=2)
    assert again == summary
    assert digests(tmp_path / "again") == digests(directory)


def test_another_seed_draws_other_pixels(archive, tmp_path):
    synthetic.write_archive(tmp_path / "other", seed=6, counts={"train": 1}, workers=1)
    tables = {"metadata_for_patches_with_snow_cloud_or_shadow.parquet"}
    shared = set(digests(tmp_path / "other").values()) & set(digests(archive[0]).values())
    assert shared == {digests(archive[0])[name] for name in tables}


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_labels_are_what_covers_three_percent(landscape):
    scene = scenes.draw_scene(0, 3, landscape)
    covered = [c for c in range(19) if (scene.class_map == c).sum() >= 0.03 * 120 * 120]
    assert scene.labels == tuple(covered)


def test_a_class_below_three_percent_is_no_label():
    class_map = np.full((120, 120), Cover.PASTURES, np.uint8)
    class_map[0, :] = Cover.URBAN  # 0.8 %
    class_map[1:5, :108] = Cover.ARABLE  # 3 % exactly
    assert labels_of(class_map) == (Cover.ARABLE, Cover.PASTURES)


def test_cover_names_are_short_for_the_classes():
    assert [cover.value for cover in Cover] == list(range(len(bigearthnet.CLASSES)))
    for cover in Cover:
        first = re.split("[_ ]", cover.name)[0].capitalize()
        name = bigearthnet.CLASSES[cover]
        assert first in name or cover is Cover.NATURAL_AGRICULTURE


def test_all_classes_occur_often_enough():
    """Each of the 19 in at least 2 % of the patches that an archive would hold."""
    seen = np.zeros(19)
    for index in range(600):
        rng = scenes.stream(1, index, scenes.Purpose.PLACE)
        landscape = str(rng.choice(place_of("train", index, 0).tile.landscapes))
        content = scenes.stream(1, index, scenes.Purpose.CONTENT)
        seen[list(labels_of(draw_class_map(content, landscape)))] += 1
    assert (seen / 600).min() >= 0.02


def test_the_sea_lies_only_in_coastal_landscapes():
    for landscape, plan in LANDSCAPES.items():
        labels = {label for i in range(10) for label in scenes.draw_scene(2, i, landscape).labels}
        assert (Cover.MARINE_WATERS in labels) == ("coast" in plan.features)


def test_conditions_change_pixels_and_not_labels():
    scene = scenes.draw_scene(0, 1, "plain")
    seen = [scenes.render(0, 1, scene, scenes.scene_conditions(seed, 1, 170)) for seed in (0, 1)]
    assert abs(np.log(seen[0]["B08"].mean() / seen[1]["B08"].mean())) > 0.05
    assert scenes.draw_scene(0, 1, "plain").labels == scene.labels
    np.testing.assert_array_equal(scenes.draw_scene(0, 1, "plain").cover, scene.cover)


def test_every_pixel_is_made_of_something_whole():
    for index, landscape in enumerate(LANDSCAPES):
        cover = scenes.draw_scene(4, index, landscape).cover
        np.testing.assert_allclose(cover.sum(0), 1, atol=1e-5)
        assert cover.min() >= 0


def test_each_surface_draws_its_own_ground():
    for cover, draw in SURFACES.items():
        mixture, height = draw(np.random.default_rng(0))
        assert height.shape == (120, 120), cover
        assert mixture.keys() <= scenes.MATERIAL_INDEX.keys()
        total = sum(np.asarray(share) for share in mixture.values())
        assert np.min(total) >= 0, cover
        assert np.max(total) < 1.4, cover  # the rest is scaled down, what is missing is soil


def test_seasons_turn_fields_and_broad_leaved_trees():
    summer, winter = spectra(200.0), spectra(15.0)
    band = [band.name for band in scenes.SENSORS["s2"].bands] if hasattr(scenes, "SENSORS") else []
    red, near_infrared = 3, 7
    assert not band or (band[red], band[near_infrared]) == ("B04", "B08")
    for material in ("summer_crop", "broadleaf"):
        index = scenes.MATERIAL_INDEX[material]
        contrast = [t[index, near_infrared] / t[index, red] for t in (summer, winter)]
        assert contrast[0] > 3 * contrast[1]
    index = scenes.MATERIAL_INDEX["conifer"]
    np.testing.assert_array_equal(summer[index], winter[index])


def test_slope_towards_the_sun():
    height = np.zeros((120, 120), np.float32)
    height[60, 60] = 1
    south = slope_towards(height, np.pi)
    assert south[60, 60] == pytest.approx(1)  # falls to the south: lit from there
    assert south[59, 60] == pytest.approx(-1)  # the pixel behind it lies in its shadow
    assert np.abs(slope_towards(height, np.pi / 2)[60, 59:61]) == pytest.approx([1, 1])


def test_trees_stand_on_a_lattice():
    crowns = trees(np.random.default_rng(0), spacing=8.0, radius=0.8, jitter=0.0)
    stems = (crowns[1:-1, 1:-1] > 0.9).sum()
    assert stems == pytest.approx((120 / 8) ** 2, rel=0.15)


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


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"counts": {"val": 3}}, "got 3 patches for split 'val'"),
        ({"counts": {"train": -1}}, "got -1 patches"),
        ({"counts": {"test": 10**6}}, "got 1000000 patches for split 'test'"),
        ({"counts": {}}, "expected at least one patch"),
        ({"workers": 0}, "0 workers"),
        ({"seed": -1}, "got seed -1"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, change, match):
    arguments = {"seed": 0, "counts": {"train": 1}, "workers": 1} | change
    with pytest.raises(ConfigError, match=match):
        synthetic.write_archive(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_a_used_directory_is_refused(archive):
    with pytest.raises(ConfigError, match="not empty"):
        synthetic.write_archive(archive[0], seed=5, counts=COUNTS, workers=1)
