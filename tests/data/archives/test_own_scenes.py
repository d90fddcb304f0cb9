import dataclasses
import itertools
import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest
import rasterio
import road
from PIL import Image
from rasterio.warp import transform_bounds
from scene_writer import CORNER, noise, write, write_archive, write_bands

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare, Scenes
from rejepa_jax.data.archives.footprints import centre, footprint, rings
from rejepa_jax.data.archives.scenes.archive import open_archive, read_example
from rejepa_jax.data.archives.scenes.scene_files import time_in
from rejepa_jax.data.examples import decode, encode
from rejepa_jax.data.prepare import prepare
from rejepa_jax.types import ConfigError, DataError

CUT = Scenes(patch=12, min_valid=0.0)
SAFE = "S2A_MSIL2A_20220613T101031_N0400_R022_T34TDN_20220613T151608.SAFE"


def read(archive, place=0):
    return read_example(archive.files, archive.items[place], archive.schema)


def image(archive, place=0):
    (pixels,) = read(archive, place).images.values()
    return pixels


def names(archive):
    return [item.id for item in archive.items]


def bands(archive):
    ((key, sensor),) = archive.schema.sensors.items()
    return key, sensor.bands


def bicubic(window, size):
    picture = Image.fromarray(window.astype(np.float32)).resize((size, size), Image.BICUBIC)
    return np.clip(np.rint(np.asarray(picture)), 1, None).astype(window.dtype)


def test_bands_of_three_resolutions_are_cut_on_the_grid_of_the_finest(tmp_path):
    written = write_bands(tmp_path, "a/x", {"B04": 10, "B01": 60, "B05": 20, "B02": 10})
    archive = open_archive(tmp_path, CUT)
    assert bands(archive) == ("s2", ("B01", "B02", "B04", "B05"))
    assert names(archive) == [f"a/x/{r:05d}_{c:05d}" for r in (0, 12) for c in (0, 12)]
    example = read(archive, 1)
    expected = [
        bicubic(written["B01"][:2, 2:], 12),
        written["B02"][:12, 12:],
        written["B04"][:12, 12:],
        bicubic(written["B05"][:6, 6:], 12),
    ]
    np.testing.assert_array_equal(example.images["s2"], np.stack(expected, -1))
    assert example.transform == (10.0, 0.0, CORNER[0] + 120, 0.0, -10.0, CORNER[1])
    assert (example.crs, example.labels, archive.schema.classes) == ("EPSG:32634", (), ())
    west, north = CORNER[0] + 120, CORNER[1]
    box = transform_bounds(example.crs, "OGC:CRS84", west, north - 120, west + 120, north)
    (ring,) = rings(example.geometry)
    np.testing.assert_allclose([*ring.min(0), *ring.max(0)], box, atol=1e-5)
    middle = archive.items[1].facts["centre"]
    np.testing.assert_allclose(middle, [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], atol=1e-5)
    assert example.place == archive.items[1].place == f"{middle[0]:.4f} {middle[1]:.4f}"
    assert json.loads(json.dumps(archive.items[1].facts))["corner"] == [0, 12]
    assert decode(encode(example, archive.schema), archive.schema).id == "a/x/00000_00012"


@pytest.mark.parametrize(
    "options",
    [
        {"driver": "COG", "compress": "deflate", "BLOCKSIZE": "128"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "BIGTIFF": "YES"},
        {"interleave": "pixel", "compress": "lzw"},
        {"jp2": True},
    ],
    ids=["cog", "tiled-bigtiff", "pixel-lzw", "jp2"],
)
def test_every_kind_of_file_gives_the_pixels_that_were_written(tmp_path, options):
    ending = "jp2" if options.pop("jp2", False) else "tif"
    order = ("B03", "B8A", "B02")
    written = noise(0, 3, 520, 300)
    path = write(
        tmp_path / f"x.{ending}", written, names=order if ending == "tif" else (), **options
    )
    if options.get("driver") == "COG":
        with rasterio.open(path) as dataset:
            assert dataset.overviews(1) == [2, 4, 8]
    archive = open_archive(tmp_path, Scenes(patch=100, min_valid=0.0), order)
    assert bands(archive) == ("s2", ("B02", "B03", "B8A"))
    assert len(archive.items) == 5 * 3
    for place in (0, 8, 14):
        top, left = archive.items[place].facts["corner"]
        window = written[[2, 0, 1], top : top + 100, left : left + 100]
        np.testing.assert_array_equal(image(archive, place), np.moveaxis(window, 0, -1))


def test_names_with_spaces_letters_and_signs_and_a_loop_of_links(tmp_path):
    name = "Grüße an α/50% #1?&x=y"
    write(tmp_path / f"{name}.tif", noise(0, 12, 12), names=["B02"])
    os.symlink(tmp_path, tmp_path / "loop")
    archive = open_archive(tmp_path, CUT)
    assert names(archive) == [f"{name}/00000_00000"]
    np.testing.assert_array_equal(image(archive)[..., 0], noise(0, 12, 12))


def known_patches(tmp_path, array, least, stride=0, **options):
    write(tmp_path / "x.tif", array, names=["B02", "B03"], **options)
    archive = open_archive(tmp_path, Scenes(patch=4, stride=stride, min_valid=least))
    return archive, [tuple(item.facts["corner"]) for item in archive.items]


@pytest.mark.parametrize("stride", [2, 3, 4, 5])
@pytest.mark.parametrize("least", [0.25, 0.75, 1.0])
def test_patches_with_too_little_in_any_band_are_left_out(tmp_path, stride, least):
    array = noise(0, 2, 13, 17)
    array[np.random.default_rng(1).random(array.shape) < 0.25] = 0
    array[:, :4, :4] = 1
    archive, corners = known_patches(tmp_path, array, least, stride)
    every = itertools.product(range(0, 13 - 3, stride), range(0, 17 - 3, stride))
    share = lambda r, c: (array[:, r : r + 4, c : c + 4] > 0).mean((1, 2)).min()  # noqa: E731
    assert corners == [corner for corner in every if share(*corner) >= least]
    for place in range(0, len(corners), 7):
        read(archive, place)  # finds the same shares


def test_what_was_left_out_is_counted(tmp_path, caplog):
    array = noise(0, 2, 8, 8)
    array[1, :2, :4] = 0  # half of a patch, in one band
    with caplog.at_level("INFO"):
        _, corners = known_patches(tmp_path, array, 0.51)
    assert corners == [(0, 4), (4, 0), (4, 4)]
    assert "3 of 4 patches of 4 px from 1 scenes; 1 left out: less than 0.51" in caplog.text
    with pytest.raises(DataError, match=r"0 of 4 patches.*lower --config.scenes.min_valid"):
        known_patches(tmp_path, array * 0, 0.51)


def test_the_files_own_no_data_value_counts_and_becomes_the_sensors(tmp_path):
    array = noise(0, 2, 4, 4)
    array[0, 0, 0] = 65535
    archive, _ = known_patches(tmp_path, array, 0.9, nodata=65535)
    assert image(archive)[0, 0].tolist() == [0, array[1, 0, 0]]
    np.testing.assert_array_equal(image(archive)[1:], np.moveaxis(array, 0, -1)[1:])


def test_without_a_no_data_value_the_mean_of_the_known_stands_in(tmp_path):
    array = -10 - np.arange(2 * 16, dtype=np.float32).reshape(2, 4, 4)
    array[0, 0, 0], array[1, 3, 3] = np.nan, -np.inf
    write(tmp_path / "x.tif", array, names=["VH", "VV"])
    archive = open_archive(tmp_path, Scenes(patch=4))
    assert bands(archive) == ("s1", ("VV", "VH"))
    pixels = image(archive)
    assert pixels[0, 0, 1] == np.float32(-np.arange(1, 16).mean() - 10)
    assert pixels[3, 3, 0] == np.float32(-np.arange(16, 31).mean() - 10)
    np.testing.assert_array_equal(pixels[1, :, 0], array[1, 1])
    with pytest.raises(DataError, match="0 of 1 patches"):
        open_archive(tmp_path, Scenes(patch=4, min_valid=1.0))


def test_masks_inside_a_file_count(tmp_path):
    alpha = np.full((1, 4, 8), 255, np.uint8)
    alpha[0, :, 4:] = 0
    colours = np.concatenate([noise(0, 3, 4, 8, dtype=np.uint8), alpha])
    write(tmp_path / "x.tif", colours, photometric="RGB", ALPHA="YES")
    archive = open_archive(tmp_path, Scenes(patch=4))
    assert bands(archive) == ("rgb", ("red", "green", "blue"))
    assert names(archive) == ["x/00000_00000"]
    np.testing.assert_array_equal(image(archive), np.moveaxis(colours[:3, :, :4], 0, -1))
    # Told that there are four bands, the fourth is no longer what says where the others are.
    archive = open_archive(tmp_path, Scenes(patch=4), ("red", "green", "blue", "nir"))
    assert bands(archive) == ("image", ("red", "green", "blue", "nir"))
    np.testing.assert_array_equal(image(archive, 1), np.moveaxis(colours[:, :, 4:], 0, -1))


def write_clouds(root, classes):
    written = write_bands(root, "x", {"B02": 10, "B05": 20})
    write(root / "x_SCL_20m.tif", classes.astype(np.uint8), 20)
    return written


def test_masked_pixels_are_unknown(tmp_path):
    classes = np.full((12, 12), 4)
    classes[:3, :6], classes[6:, 6:] = 9, 10  # half of one patch, all of another
    written = write_clouds(tmp_path, classes)
    cut = Scenes(patch=12, min_valid=0.5, mask="_SCL_20m.tif")
    archive = open_archive(tmp_path, cut)
    assert names(archive) == ["x/00000_00000", "x/00000_00012", "x/00012_00000"]
    pixels = image(archive)
    assert (pixels[:6] == 0).all()
    np.testing.assert_array_equal(pixels[6:, :, 0], written["B02"][6:12, :12])
    np.testing.assert_array_equal(pixels[6:, :, 1], bicubic(written["B05"][:6, :6], 12)[6:])
    (tmp_path / "y_B02.tif").write_bytes((tmp_path / "x_B02.tif").read_bytes())
    (tmp_path / "y_B05.tif").write_bytes((tmp_path / "x_B05.tif").read_bytes())
    archive = open_archive(tmp_path, cut)
    with pytest.raises(DataError, match="scene y: got no mask"):
        read(archive, names(archive).index("y"))


def test_a_safe_product_is_one_scene_and_reflectance(tmp_path):
    data = tmp_path / "forest" / SAFE / "GRANULE" / "L2A_T34TDN" / "IMG_DATA"
    stem = "T34TDN_20220613T101031"
    for metres, band in ((10, "B02"), (20, "B02"), (20, "B05"), (60, "B01"), (60, "B02")):
        array = noise(metres, 240 // metres, 240 // metres) + 500
        write(data / f"R{metres}m" / f"{stem}_{band}_{metres}m.jp2", array, metres)
    write(data / "R10m" / f"{stem}_TCI_10m.jp2", noise(0, 3, 24, 24, dtype=np.uint8))
    write(data.parent / "QI_DATA" / "MSK_DETFOO_B02.jp2", noise(0, 24, 24, dtype=np.uint8))
    archive = open_archive(tmp_path, CUT, labels="folder")
    assert bands(archive) == ("s2", ("B01", "B02", "B05"))
    example = read(archive)
    assert example.id == f"{SAFE.removesuffix('.SAFE')}/00000_00000"
    assert example.datetime == "2022-06-13T10:10:31Z"
    assert (archive.schema.classes, example.labels) == (("forest",), (0,))
    raw = (noise(10, 24, 24) + 500)[:12, :12].astype(int)
    np.testing.assert_array_equal(example.images["s2"][..., 1], np.clip(raw - 1000, 1, None))
    shutil.move(tmp_path / "forest" / SAFE, tmp_path / SAFE.replace("2A_2", "1C_2"))
    assert bands(open_archive(tmp_path, CUT))[0] == "s2_l1c"
    with pytest.raises(ConfigError, match=r"config.scenes.labels = 'folder'"):
        open_archive(tmp_path, CUT, labels="folder")


@pytest.mark.parametrize(
    ("description", "given", "expected"),
    [
        (("B03", "B02"), (), ("s2", ("B02", "B03"))),
        (("B03", "B02"), ("B02", "B03"), ("s2", ("B02", "B03"))),
        (("one", "two"), (), ("image", ("one", "two"))),
        (("blue", "green"), ("B02", "B03"), ("s2", ("B02", "B03"))),
        ((), ("B10", "B03"), ("s2_l1c", ("B03", "B10"))),
        ((), ("nir", "swir"), ("image", ("nir", "swir"))),
        ((), (), r"2 bands, described as \('', ''\), expected names for them"),
        (("B04", "B02"), ("B02", "B03"), r"described as \('B04', 'B02'\), expected B02, B03"),
        (("b", "x"), ("a", "b"), r"described as \('b', 'x'\), expected a, b"),
        ((), ("B02",), "got 2 bands"),
    ],
)
def test_bands_go_by_name_and_never_by_guess(tmp_path, description, given, expected):
    written = noise(0, 2, 12, 12)
    write(tmp_path / "x.tif", written, names=description)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            open_archive(tmp_path, CUT, given)
        return
    archive = open_archive(tmp_path, CUT, given)
    assert bands(archive) == expected
    order = description if set(given) <= set(description) else given
    for band, pixels in zip(expected[1], np.moveaxis(image(archive), -1, 0), strict=True):
        np.testing.assert_array_equal(pixels, written[order.index(band)])


def test_the_name_of_a_file_and_its_description_may_not_contradict(tmp_path):
    write(tmp_path / "x_B02.tif", noise(0, 12, 12), names=["B03"])
    with pytest.raises(DataError, match=r"x_B02.tif: got 1 bands, described as \('B03',\)"):
        open_archive(tmp_path, CUT)


def test_sentinel_2_names_with_other_values_are_no_reflectance_of_ours(tmp_path):
    write(tmp_path / "x_B02.tif", noise(0, 12, 12).astype(np.float32) / 1e4)
    assert bands(open_archive(tmp_path, CUT))[0] == "image"
    write(tmp_path / "x_B02.tif", noise(0, 12, 12))
    assert bands(open_archive(tmp_path, CUT, sensor="s2_l1c"))[0] == "s2_l1c"


def test_radar_that_is_not_in_decibel_is_refused_unless_it_may_be_anything(tmp_path):
    write(tmp_path / "x_vv.tif", np.full((12, 12), 0.02, np.float32))
    with pytest.raises(
        DataError, match=r"got values from 0.02 to 0.02, expected backscatter in dB"
    ):
        read(open_archive(tmp_path, CUT))
    assert image(open_archive(tmp_path, CUT, sensor="image")).max() == np.float32(0.02)


FAULTS = {
    "empty": (lambda path: path.write_bytes(b""), "nothing that opens"),
    "text": (lambda path: path.write_text("no image"), "nothing that opens"),
    "cut in its header": (lambda path: path.write_bytes(path.read_bytes()[:60]), "nothing that"),
    "uint8": (lambda path: write(path, noise(0, 24, 24, dtype=np.uint8)), "bands of uint16, uint8"),
    "float64": (lambda path: write(path, np.ones((24, 24))), "bands of float64"),
    "two bands": (lambda path: write(path, noise(0, 2, 24, 24)), "got 2 bands"),
    "half a pixel off": (
        lambda path: write(path, noise(0, 24, 24), corner=(CORNER[0] + 5, CORNER[1])),
        "got the grid EPSG:32634",
    ),
    "another CRS": (lambda path: write(path, noise(0, 24, 24), crs="EPSG:32635"), "EPSG:32635"),
    "no CRS": (lambda path: write(path, noise(0, 24, 24), crs=None), "the grid without CRS"),
    "missing": (lambda path: path.unlink(), r"got \('s2', \('B02',\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_scene_with_a_fault_is_one_unusable_item_and_the_others_stay(tmp_path, caplog, fault):
    for name in "abc":
        write_bands(tmp_path, name, {"B02": 10, "B03": 10})
    damage, reason = FAULTS[fault]
    damage(tmp_path / "b_B03.tif")
    archive = open_archive(tmp_path, CUT)
    assert len(archive.items) == 9
    assert bands(archive) == ("s2", ("B02", "B03"))
    (bad,) = (item for item in archive.items if "fault" in item.facts)
    assert bad.id == "b"
    with pytest.raises(DataError, match=reason):
        archive.read(archive.files, bad, archive.schema)
    assert "b cannot be used" in caplog.text


def test_no_scene_at_all_and_no_usable_one(tmp_path):
    with pytest.raises(DataError, match=r"got no scene, expected files .tif"):
        open_archive(tmp_path, CUT)
    (tmp_path / "x_B02.tif").touch()
    with pytest.raises(DataError, match=r"none of 1 scenes can be used; the first: .*x_B02.tif"):
        open_archive(tmp_path, CUT)
    write(tmp_path / "x_B02.tif", noise(0, 1, 1))
    with pytest.raises(DataError, match="0 of 0 patches of 12 px from 1 scenes"):
        open_archive(tmp_path, CUT)
    (tmp_path / "x.tar").touch()
    with pytest.raises(DataError, match=r"unpack a .tar or .zip"):
        open_archive(tmp_path / "x.tar", CUT)


@pytest.mark.parametrize("other", ["B02_10m.jp2", "B02.tif"])
def test_a_band_in_two_files_of_which_neither_is_finer_is_refused(tmp_path, other):
    write(tmp_path / "x_B02_10m.tif", noise(0, 12, 12))
    write(tmp_path / "x_B02_20m.tif", noise(0, 6, 6), 20)
    assert len(open_archive(tmp_path, CUT).items) == 1
    write(tmp_path / f"x_{other}", noise(0, 12, 12))
    with pytest.raises(DataError, match=r"got the same band in x_B02.* too"):
        open_archive(tmp_path, CUT)


def test_one_by_one_pixel_scenes_and_blocks_that_do_not_decode(tmp_path):
    array = noise(0, 64, 64)
    path = write(
        tmp_path / "x_B02.tif", array, tiled=True, blockxsize=16, blockysize=16, compress="deflate"
    )
    write(tmp_path / "tiny_B02.tif", noise(0, 1, 1))
    data = bytearray(path.read_bytes())
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    archive = open_archive(tmp_path, Scenes(patch=16))
    assert len(archive.items) == 16  # the tiny scene has room for none
    for place, item in enumerate(archive.items):
        top, left = item.facts["corner"]
        if (top, left) == (16, 16):
            with pytest.raises(DataError, match=r"x_B02.tif: got blocks that do not decode"):
                read(archive, place)
        else:
            window = array[top : top + 16, left : left + 16]
            np.testing.assert_array_equal(image(archive, place)[..., 0], window)


def test_files_that_vanish_or_change_after_the_listing(tmp_path):
    write_bands(tmp_path, "x", {"B02": 10, "B03": 10})
    archive = open_archive(tmp_path, Scenes(patch=12))
    write(tmp_path / "x_B02.tif", noise(0, 12, 12))
    with pytest.raises(DataError, match=r"x_B02.tif: got 12x12 pixels, expected as many as when"):
        read(archive, 3)
    write(tmp_path / "x_B03.tif", noise(0, 24, 24) * 0)
    with pytest.raises(DataError, match=r"got 0.000 of a band's pixels known, expected 0.9"):
        read(archive, 0)
    shutil.rmtree(tmp_path)
    moved = open_archive(write_archive(tmp_path / "new", 1, 1), Scenes(patch=24))
    shutil.rmtree(tmp_path / "new")
    with pytest.raises(DataError, match="nothing that opens"):
        read(moved)


def test_scenes_in_two_systems_and_without_any(tmp_path, caplog):
    write(tmp_path / "a_B02.tif", noise(0, 12, 12))
    write(tmp_path / "b_B02.tif", noise(0, 12, 12), crs="EPSG:32635")
    write(tmp_path / "c_B02.tif", noise(0, 12, 12), crs=None)
    archive = open_archive(tmp_path, CUT)
    examples = [read(archive, place) for place in range(3)]
    assert [example.crs for example in examples] == ["EPSG:32634", "EPSG:32635", ""]
    first, second = (centre(example.geometry) for example in examples[:2])
    assert second[0] - first[0] == pytest.approx(6)  # neighbouring zones of UTM
    unplaced = examples[2]
    assert (unplaced.geometry, unplaced.transform, unplaced.place) == (b"", (), "")
    assert "1 without CRS, such as c" in caplog.text


def test_footprints_across_the_antimeridian_and_around_a_pole():
    whole = footprint("EPSG:4326", (0.1, 0.0, 170.0, 0.0, -0.1, 10.0), 10, 10)
    assert rings(whole)[0].tolist() == [[170, 10], [170, 9], [171, 9], [171, 10], [170, 10]]
    west, east = rings(footprint("EPSG:4326", (0.1, 0.0, 179.5, 0.0, -0.1, 10.0), 10, 20))
    assert west.tolist() == [[179.5, 10], [179.5, 9], [180, 9], [180, 10], [179.5, 10]]
    assert sorted(map(tuple, east.tolist()[:-1])) == [
        (-180, 9),
        (-180, 10),
        (-178.5, 9),
        (-178.5, 10),
    ]
    # In degrees from 0 to 360, and ending exactly on the line.
    other = footprint("EPSG:4326", (0.1, 0.0, 359.5, 0.0, -0.1, 10.0), 10, 10)
    assert (rings(other)[0][:, 0].min(), rings(other)[0][:, 0].max()) == (-0.5, 0.5)
    assert len(rings(footprint("EPSG:4326", (0.1, 0.0, 179.0, 0.0, -0.1, 10.0), 10, 10))) == 1
    assert centre(footprint("EPSG:4326", (0.1, 0.0, 179.5, 0.0, -0.1, 10.0), 10, 20)) == (
        -179.5,
        9.5,
    )
    # UTM zone 1 begins at the antimeridian: 166,021 m east at the equator.
    across = footprint("EPSG:32601", (100.0, 0.0, 163021.0, 0.0, -100.0, 3000.0), 60, 60)
    assert [ring[:, 0].max() > 0 for ring in rings(across)] == [True, False]
    assert abs(centre(across)[0]) == pytest.approx(180, abs=1e-4)
    polar = (100.0, 0.0, -3000.0, 0.0, -100.0, 3000.0)
    assert footprint("EPSG:3413", polar, 60, 60) == b""
    assert (
        rings(footprint("EPSG:3413", (100.0, 0.0, 3000.0, 0.0, -100.0, 3000.0), 60, 60))[0][
            :, 1
        ].min()
        > 89
    )
    assert footprint("", (), 1, 1) == footprint("EPSG:999999", polar, 1, 1) == b""


def test_patches_must_not_cut_coarser_pixels(tmp_path):
    write_bands(tmp_path, "x", {"B02": 10, "B01": 60})
    with pytest.raises(ConfigError, match=r"scenes.patch = 8.*give multiples of 6"):
        open_archive(tmp_path, Scenes(patch=8))
    with pytest.raises(ConfigError, match=r"config.scenes.stride = 4"):
        open_archive(tmp_path, Scenes(patch=12, stride=4))


def test_a_huge_scene_is_never_whole_in_memory(tmp_path):
    path = tmp_path / "x_B02.tif"
    profile = {"height": 9000, "width": 9000, "count": 1, "dtype": "uint16", "crs": "EPSG:32634"}
    transform = rasterio.Affine(10, 0, *CORNER[:1], 0, -10, CORNER[1])
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        tiled=True,
        SPARSE_OK=True,
        BIGTIFF="YES",
        transform=transform,
        **profile,
    ) as dataset:
        dataset.write(noise(0, 120, 120), 1, window=((8880, 9000), (8880, 9000)))
    tracemalloc.start()
    archive = open_archive(tmp_path, Scenes())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert names(archive) == ["x/08880_08880"]
    assert peak < 40 * 2**20  # of 162 MB: strips of 120 rows, 2 MB, and counts along them, 9 MB
    np.testing.assert_array_equal(image(archive)[..., 0], noise(0, 120, 120))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("T34TDN_20170613T101031", "2017-06-13T10:10:31Z"),
        ("scene_20170613", "2017-06-13T00:00:00Z"),
        ("scene_20170613_20170614", ""),
        ("field_12345678", ""),
        ("20171345", ""),
        ("x120170613", ""),
        ("scene", ""),
    ],
)
def test_times_in_names(name, expected):
    assert time_in(name) == expected


def test_records_hold_the_patches_and_list_what_is_unusable(tmp_path):
    write_archive(tmp_path / "scenes")
    (tmp_path / "scenes" / "T34TDN_20170611T101031_B11.tif").write_bytes(b"II*\0")
    archive = open_archive(tmp_path / "scenes", Scenes(patch=24))
    settings = Prepare(workers=1, shard_records=5, max_bad_fraction=0.4)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="16 of 32 images cannot be used"):  # a scene has sixteen
        prepare(archive, tmp_path / "none", settings)
    settings = dataclasses.replace(settings, max_bad_fraction=0.5)
    artifacts.run_stage(tmp_path / "one", {}, {}, lambda path: prepare(archive, path, settings))
    manifest = artifacts.load(tmp_path / "one")
    assert manifest["info"]["quarantined"] == 1
    assert manifest["info"]["splits"]["train"]["records"] == 16
    (line,) = (tmp_path / "one" / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "T34TDN_20170611T101031"


@pytest.mark.slow
def test_whole_road_without_labels(tmp_path):
    write_archive(tmp_path / "scenes", patches=6)
    flags = road.arguments(
        tmp_path / "run",
        "own_scenes",
        data__archive=tmp_path / "scenes",
        data__block_km=0.5,
        scenes__patch=24,
        eval__k=3,
    )
    done = road.run("main", *flags)
    assert done.returncode == 0, done.stderr
    splits = artifacts.load(tmp_path / "run" / "records")["info"]["splits"]
    counts = {name: split["records"] for name, split in splits.items()}
    assert sum(counts.values()) == 72
    assert min(counts.values()) >= 8
    assert (tmp_path / "run" / "report" / "report.html").exists()
