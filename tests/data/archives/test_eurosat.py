import io
import pickle
import zipfile

import layout_road
import numpy as np
import pytest
import rasterio
from PIL import Image
from real_pixels import BANDS, geotiff, jpeg, pictures, sentinel, write

from rejepa_jax.data.archives.eurosat import CLASSES, open_archive
from rejepa_jax.data.examples import Sensor, decode, encode
from rejepa_jax.types import ConfigError, DataError

IN_FILE = [band for band in BANDS if band != "B8A"] + ["B8A"]  # the last, as published
COLOUR = ("2750", "EuroSAT_RGB", "EuroSAT")
ALL_BANDS = (
    "EuroSATallBands",
    "EuroSAT_MS",
    "ds/images/remote_sensing/otherDatasets/sentinel_2/tif",
)
COUNTS = {"gallery": 20, "query": 4}
STEMS = [f"{label}_{n}" for label in ("Forest", "SeaLake") for n in range(1, 13)]


def named(root, ending):
    return {stem: f"{root}/{stem.split('_')[0]}/{stem}{ending}" for stem in STEMS}


def colour(root="2750"):
    """Files by name: the corners of real aerial pictures."""
    images = [np.asarray(Image.open(io.BytesIO(data)))[:64, :64] for data in pictures(24)]
    names = named(root, ".jpg").values()
    return {name: jpeg(image) for name, image in zip(names, images, strict=True)}


def all_bands(root="EuroSATallBands"):
    """Files by name: corners of real patches with B8A put last, each with a value of its own."""
    patches, files = sentinel(6), {}
    order = [BANDS.index(band) for band in IN_FILE]
    for number, name in enumerate(named(root, ".tif").values()):
        image, crs, transform = patches[number % 6]
        files[name] = geotiff(image[:64, :64, order] + np.uint16(number), crs, transform)
    return files


def read(archive, name):
    (item,) = [item for item in archive.items if item.id == name]
    example = archive.read(archive.files, item, archive.schema)
    assert decode(encode(example, archive.schema), archive.schema).id == name
    return example


@pytest.mark.parametrize("root", COLOUR)
def test_pictures_are_read_from_every_copy(tmp_path, root):
    files = colour(root)
    archive = open_archive(write(tmp_path, files), "rgb")
    assert archive.schema.classes == CLASSES
    assert archive.schema.sensors == {"rgb": Sensor(("red", "green", "blue"), "uint8", 64, 64)}
    assert sorted(item.id for item in archive.items) == sorted(STEMS)
    example = read(archive, "SeaLake_7")
    expected = Image.open(io.BytesIO(files[f"{root}/SeaLake/SeaLake_7.jpg"]))
    np.testing.assert_array_equal(example.images["rgb"], np.asarray(expected))
    assert (example.labels, example.crs) == ((9,), "")


@pytest.mark.parametrize("root", ALL_BANDS)
def test_thirteen_bands_are_read_from_every_copy(tmp_path, root):
    files = all_bands(root)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    archive = pickle.loads(pickle.dumps(open_archive(tmp_path / "x.zip")))
    assert archive.schema.sensors == {"s2_l1c": Sensor(BANDS, "uint16", 64, 64)}
    example = read(archive, "Forest_11")
    with rasterio.MemoryFile(files[f"{root}/Forest/Forest_11.tif"]) as file, file.open() as dataset:
        for place, band in enumerate(BANDS):
            expected = dataset.read(1 + IN_FILE.index(band))
            np.testing.assert_array_equal(example.images["s2_l1c"][..., place], expected)
        assert example.crs == dataset.crs.to_string()
        assert example.transform == tuple(dataset.transform)[:6]
    assert len(example.geometry) == 93
    assert example.labels == (1,)
    assert example.source == f"{root}/Forest/Forest_11.tif"


def test_b8a_comes_after_b08_in_records_though_last_in_files(tmp_path):
    constants = np.broadcast_to(np.arange(100, 113, dtype=np.uint16), (64, 64, 13))
    name = "EuroSAT_MS/River/River_1.tif"
    archive = open_archive(write(tmp_path, {name: geotiff(constants)}))
    image = read(archive, "River_1").images["s2_l1c"]
    assert image[0, 0].tolist() == [*range(100, 108), 112, *range(108, 112)]
    assert (image == image[0, 0]).all()
    swapped = open_archive(tmp_path, file_bands=BANDS)
    image = read(swapped, "River_1").images["s2_l1c"]
    assert image[0, 0].tolist() == list(range(100, 113))


def test_both_kinds_in_one_folder_are_told_by_the_sensor(tmp_path):
    write(tmp_path, colour() | all_bands())
    pairs = [open_archive(tmp_path, sensor) for sensor in ("rgb", "s2_l1c")]
    ids = [[(item.id, item.split, item.labels) for item in archive.items] for archive in pairs]
    assert ids[0] == ids[1]
    queries = [item.id for item in pairs[0].items if item.split == "query"]
    assert queries == ["Forest_10", "Forest_5", "SeaLake_10", "SeaLake_5"]


def test_published_lists_name_the_pictures_for_both_kinds(tmp_path):
    root = write(tmp_path / "data", all_bands())
    parts = {"train": STEMS[:12], "val": STEMS[12:15], "test": STEMS[15:20]}
    lists = {
        f"eurosat-spatial-{split}.txt": "".join(f"{stem}.jpg\n" for stem in part)
        for split, part in parts.items()
    }
    others = {f"eurosat-{split}.txt": "Forest_1.jpg\n" for split in parts}  # the random ones
    write(tmp_path, lists | others)
    for split in parts:
        archive = open_archive(root, split_file=tmp_path / f"eurosat-spatial-{split}.txt")
        found = {item.id: item.split for item in archive.items}
        assert found == {stem: split for split, part in parts.items() for stem in part}
    with pytest.raises(DataError, match=r"Forest_1\.jpg, expected an image of the archive, in one"):
        open_archive(root, split_file=tmp_path / "eurosat-val.txt")
    write(tmp_path, {"eurosat-train.txt": "Forest_99.jpg", "no.csv": "name,split\n"})
    with pytest.raises(DataError, match=r"eurosat-train\.txt: got Forest_99\.jpg"):
        open_archive(root, split_file=tmp_path / "eurosat-train.txt")
    with pytest.raises(DataError, match=r"24 .* in the archive only"):
        open_archive(root, split_file=tmp_path / "no.csv")


def test_what_cannot_be_right_is_refused(tmp_path):
    files = all_bands()
    first, second = (f"EuroSATallBands/Forest/Forest_{n}.tif" for n in (1, 2))
    files[first] = geotiff(np.ones((64, 64, 10), np.uint16))
    files[second] = geotiff(np.ones((65, 64, 13), np.uint16))
    archive = open_archive(write(tmp_path, files))
    for name, message in (("Forest_1", "got 10 bands"), ("Forest_2", r"uint16 \(65, 64, 13\)")):
        with pytest.raises(DataError, match=message):
            read(archive, name)
    with pytest.raises(DataError, match=r"no image, .*_<n>\.jpg.* data.sensor to one of rgb, s2"):
        open_archive(tmp_path, "rgb")
    with pytest.raises(ConfigError, match=r"data\.sensor: got 's2', expected rgb or s2_l1c"):
        open_archive(tmp_path, "s2")
    with pytest.raises(ConfigError, match=r"data\.file_bands"):
        open_archive(tmp_path, file_bands=BANDS[:12])
    write(tmp_path, all_bands("EuroSAT_MS"))
    with pytest.raises(DataError, match=r"got both EuroSATallBands/.* and EuroSAT_MS/.* one copy"):
        open_archive(tmp_path)


@pytest.mark.parametrize(("sensor", "bands"), [("rgb", 3), ("s2_l1c", 13)])
def test_config_takes_either_kind(tmp_path, sensor, bands):
    archive = write(tmp_path / "data", colour() | all_bands())
    run = tmp_path / "run"
    records, seen, config = layout_road.prepared(run, "eurosat", archive, data__sensor=sensor)
    assert {split: len(rows) for split, rows in records.splits.items()} == COUNTS
    assert (config.eval.query_split, config.eval.gallery_split) == ("query", "gallery")
    assert len(seen.inputs[sensor].bands) == bands
    pixels = records.read(records.rows("gallery"), [sensor])["image"][sensor]
    np.testing.assert_allclose(seen.inputs[sensor].mean, pixels.mean((0, 1, 2)), rtol=1e-5)


@pytest.mark.slow
def test_configs_road_runs_to_its_end(tmp_path):
    archive = write(tmp_path / "data", all_bands())
    found = layout_road.walked(tmp_path / "run", "eurosat", archive)
    assert found == (COUNTS, 13, ("query", "gallery"))
