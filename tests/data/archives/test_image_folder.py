import csv
import io
import pickle
import tarfile
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image

from rejepa_jax.data.archives.image_folder import open_archive, read_example, read_resized_example
from rejepa_jax.data.examples import Schema, Sensor, decode, encode
from rejepa_jax.types import DataError

NAMES = [f"top/{label}/{label}_{n}.png" for label in ("lake", "forest") for n in range(1, 13)]


def noise(seed, *shape, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def geotiff(array, descriptions=(), **profile):
    height, width, count = array.shape
    shape = {"height": height, "width": width, "count": count, "dtype": array.dtype}
    with rasterio.MemoryFile() as file:
        with (
            warnings.catch_warnings(action="ignore"),
            file.open(driver="GTiff", **shape, **profile) as d,
        ):
            d.write(np.moveaxis(array, -1, 0))
            for band, description in enumerate(descriptions, start=1):
                d.set_band_description(band, description)
        return file.read()


def write(root, content):
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def folder(tmp_path):
    content = {name: png(noise(i, 5, 4, 3)) for i, name in enumerate(NAMES)}
    return write(tmp_path / "root", content | {"top/readme.txt": b"not an image"})


def write_split(path, rows, columns=("name", "label", "split")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def rows_for(names):
    return [(name, name.split("/")[1], "test" if "_1" in name else "train") for name in names]


def test_classes_labels_and_images(folder):
    archive = open_archive(folder)
    sensors = {"rgb": Sensor(("red", "green", "blue"), "uint8", 5, 4)}
    assert archive.schema == Schema("image_folder", sensors, ("forest", "lake"))
    assert sorted(item.id for item in archive.items) == sorted(NAMES)
    for item in archive.items:
        example = archive.read(archive.files, item, archive.schema)
        np.testing.assert_array_equal(example.images["rgb"], noise(NAMES.index(item.id), 5, 4, 3))
        assert example.labels == item.labels == (1 if "lake" in item.id else 0,)
        assert example.id == example.source == item.id
        assert (example.crs, example.transform, example.geometry, example.datetime) == (
            "",
            (),
            b"",
            "",
        )
        assert decode(encode(example, archive.schema), archive.schema).id == example.id


def test_every_fifth_in_the_natural_order_is_a_query(folder):
    archive = open_archive(folder)
    queries = [item.id for item in archive.items if item.split == "query"]
    assert queries == [f"top/{c}/{c}_{n}.png" for c in ("forest", "lake") for n in (10, 5)]
    order = [(item.split, item.id) for item in archive.items]
    assert order == sorted(order)
    assert {item.split for item in archive.items} == {"gallery", "query"}


def test_a_tar_of_the_folder_holds_the_same(folder, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(folder, arcname="")
    plain, packed = (
        open_archive(folder),
        pickle.loads(pickle.dumps(open_archive(tmp_path / "x.tar"))),
    )
    assert (packed.schema, packed.items) == (plain.schema, plain.items)
    item = packed.items[3]
    np.testing.assert_array_equal(
        packed.read(packed.files, item, packed.schema).images["rgb"],
        plain.read(plain.files, item, plain.schema).images["rgb"],
    )


def test_a_split_file_is_followed(folder, tmp_path):
    split_file = write_split(tmp_path / "split.csv", rows_for(reversed(NAMES)))
    archive = open_archive(folder, split_file)
    assert {item.id: item.split for item in archive.items} == {n: s for n, _, s in rows_for(NAMES)}
    without_label = [(name, split) for name, _, split in rows_for(NAMES)]
    split_file = write_split(tmp_path / "split.csv", without_label, ("name", "split"))
    assert open_archive(folder, str(split_file)).items == archive.items


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-2], r"got 2 \(.*forest_11.*\) in the archive only"),
        (lambda rows: [*rows, ("x/y/z.png", "y", "a")], r"1 \(x/y/z.png\) but not in the archive"),
        (lambda rows: [*rows, rows[0]], r"1 \(top/lake/lake_1.png\) more than once"),
        (lambda rows: [(rows[0][0], "sea", "train"), *rows[1:]], "the label 'sea' for .* in row 2"),
        (lambda rows: [*rows, ("", "", "")], "row 26 without them"),
        (lambda rows: [*rows[:3], rows[3][:2], *rows[4:]], "row 5 without them"),
    ],
)
def test_a_split_file_that_disagrees_is_refused(folder, tmp_path, change, message):
    split_file = write_split(tmp_path / "split.csv", change(rows_for(NAMES)))
    with pytest.raises(DataError, match=message):
        open_archive(folder, split_file)


def test_a_split_file_that_is_none_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r"missing\.csv.*set --config\.data\.split_file=PATH"):
        open_archive(folder, tmp_path / "missing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(DataError, match=r"binary\.csv"):
        open_archive(folder, tmp_path / "binary.csv")
    columns = write_split(tmp_path / "columns.csv", rows_for(NAMES), ("file", "label", "split"))
    with pytest.raises(DataError, match="expected the columns name and split"):
        open_archive(folder, columns)


@pytest.mark.parametrize(
    "other", [noise(0, 4, 4, 3), noise(0, 4, 5, 3), noise(0, 5, 4, dtype=np.uint16)]
)
def test_an_image_unlike_the_first_is_refused_by_name(folder, other):
    write(folder, {NAMES[0]: png(other)})
    archive = open_archive(folder)
    (item,) = [item for item in archive.items if item.id == NAMES[0]]
    with pytest.raises(
        DataError, match=f"{NAMES[0]}: got .* expected uint8 .*data.record_size=SIZE"
    ):
        read_example(archive.files, item, archive.schema)


def test_a_damaged_or_vanished_image_is_refused_by_name(folder):
    archive = open_archive(folder)
    write(folder, {NAMES[0]: b"no picture"})
    (folder / NAMES[1]).unlink()
    for name in NAMES[:2]:
        (item,) = [item for item in archive.items if item.id == name]
        with pytest.raises(DataError, match=name):
            archive.read(archive.files, item, archive.schema)


def test_record_size_brings_mixed_sizes_together(tmp_path):
    content = {
        "a/1.png": noise(1, 6, 4, 3),
        "a/2.png": noise(2, 4, 4, 3),
        "a/3.png": noise(3, 9, 8, 3),
    }
    archive = open_archive(write(tmp_path, {n: png(a) for n, a in content.items()}), record_size=4)
    assert archive.schema.sensors["rgb"] == Sensor(("red", "green", "blue"), "uint8", 4, 4)
    assert archive.read is read_resized_example
    images = {
        i.id: archive.read(archive.files, i, archive.schema).images["rgb"] for i in archive.items
    }
    np.testing.assert_array_equal(images["a/1.png"], content["a/1.png"][1:5])
    np.testing.assert_array_equal(images["a/2.png"], content["a/2.png"])
    square = Image.fromarray(content["a/3.png"][:8]).resize((4, 4), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(images["a/3.png"], np.asarray(square, np.int64), atol=1)


def test_record_size_does_not_hide_other_bands(tmp_path):
    write(
        tmp_path,
        {"a/1.png": png(noise(0, 4, 4, 3)), "a/2.png": png(noise(0, 4, 4, dtype=np.uint16))},
    )
    archive = open_archive(tmp_path, record_size=4)
    with pytest.raises(DataError, match=r"a/2\.png: got uint16 \(4, 4, 1\), expected uint8"):
        archive.read(archive.files, archive.items[1], archive.schema)


def test_geotiffs_keep_bands_and_place(tmp_path):
    transform = rasterio.Affine(10, 0, 500000, 0, -10, 0)
    array = noise(1, 6, 6, 4, dtype=np.uint16)
    data = geotiff(array, ["B02", "", "B04"], crs="EPSG:32634", transform=transform)
    archive = open_archive(write(tmp_path, {"field/1.tif": data}))
    sensor = Sensor(("B02", "band2", "B04", "band4"), "uint16", 6, 6)
    assert archive.schema.sensors == {"image": sensor}
    example = archive.read(archive.files, archive.items[0], archive.schema)
    np.testing.assert_array_equal(example.images["image"], array)
    assert example.crs == "EPSG:32634"
    assert example.transform == (10, 0, 500000, 0, -10, 0)
    corner = np.frombuffer(example.geometry, "<f8", count=2, offset=13)
    np.testing.assert_allclose(corner, [21, 0], atol=1e-9)  # the zone's central meridian
    assert decode(encode(example, archive.schema), archive.schema).transform == example.transform


def test_three_bands_of_eight_bits_are_a_colour_picture_in_any_format(tmp_path):
    archive = open_archive(
        write(tmp_path, {"a/1.tiff": geotiff(noise(1, 4, 4, 3), ["x", "y", "z"])})
    )
    assert archive.schema.sensors == {"rgb": Sensor(("red", "green", "blue"), "uint8", 4, 4)}


def test_archives_without_images_or_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match="got no image, expected <Class>/<name>"):
        open_archive(write(tmp_path, {"a/notes.txt": b"x"}))
    with pytest.raises(DataError, match=r"got 1 \(loose\.png\) outside of a folder"):
        open_archive(write(tmp_path, {"a/1.png": png(noise(0, 4, 4, 3)), "loose.png": b""}))


def test_aid(shared_data):
    tar, split_file = (
        shared_data / "aid" / "aid-150px-200-per-class.tar",
        shared_data / "aid/split.csv",
    )
    archive = open_archive(tar, split_file)
    splits = [item.split for item in archive.items]
    assert (splits.count("gallery"), splits.count("query")) == (4800, 1200)
    assert len(archive.schema.classes) == 30
    assert archive.schema.sensors == {"rgb": Sensor(("red", "green", "blue"), "uint8", 150, 150)}
    assert open_archive(tar).items == archive.items  # the rule without a file is the file's rule
    with tarfile.open(tar) as reference:
        for item in archive.items[::1500]:
            example = archive.read(archive.files, item, archive.schema)
            expected = np.asarray(Image.open(reference.extractfile(item.id)))
            np.testing.assert_array_equal(example.images["rgb"], expected)
            assert archive.schema.classes[example.labels[0]] == item.id.split("/")[1]
