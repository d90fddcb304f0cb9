"""What `rejepa inspect` says of archives, records and shards."""

import shutil

import fake_archive
import numpy as np
import pytest
from PIL import Image

from rejepa_jax import inspection
from rejepa_jax.data import in_words
from rejepa_jax.resolve import resolve
from rejepa_jax.types import DataError

SHARD = "toy-train.tfrecord-00001-of-00003"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    fake_archive.prepared(root, size=6)
    return root / "records"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Seven pictures of two classes in folders of their own."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(7):
        path = root / ("lake", "road")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6), (number, 0, 0)).save(path)
    return root


def copy(records, tmp_path):
    return shutil.copytree(records, tmp_path / "records")


def test_shard_is_read_to_its_end(records):
    lines = inspection.describe(records / SHARD).splitlines()
    size = (records / SHARD).stat().st_size
    assert lines[0] == f"{records / SHARD}: shard, 4 records, {size} bytes"
    assert lines[1].split("; ") == [
        "  every checksum holds",
        "every record is as the schema says",
        "the index agrees",
    ]
    payload = size // 4 - 16  # equal records, each in a frame of 16 bytes
    assert lines[2:] == [
        f"  records of {payload} to {payload} bytes",
        "  first place007, last place010",
    ]


def test_shard_alone_says_what_could_not_be_checked(records, tmp_path):
    shutil.copy(records / SHARD, tmp_path)
    text = inspection.describe(tmp_path / SHARD)
    assert "every checksum holds; no schema.json beside it; no index beside it" in text
    assert "first place007, last place010" in text


def test_flipped_byte_in_a_shard_is_named(records, tmp_path):
    directory = copy(records, tmp_path)
    content = bytearray((directory / SHARD).read_bytes())
    content[len(content) // 2 + 50] ^= 4
    (directory / SHARD).write_bytes(content)
    with pytest.raises(DataError, match=rf"{SHARD}, record 2: got checksum .* of the data"):
        inspection.describe(directory / SHARD)


@pytest.mark.parametrize(("column", "message"), [(0, "got offset"), (2, "other lengths or parts")])
def test_index_that_disagrees_is_named(records, tmp_path, column, message):
    path = copy(records, tmp_path) / f"{SHARD}.index.npy"
    index = np.load(path)
    index[1, column] += 1
    np.save(path, index)
    with pytest.raises(DataError, match=message):
        inspection.describe(path.parent / SHARD)


def test_records_show_their_summary(records):
    text = inspection.describe(records)
    assert "records: records, " in text
    rows = [line.split() for line in text.splitlines()]
    assert next(row for row in rows if row[:1] == ["train"])[:2] == ["train", "10"]
    assert ["class", "test", "train", "all"] in rows
    assert ["urban", "1", "3", "4"] in rows
    assert any(row[:2] == ["s1", "VH"] for row in rows)


def test_archive_is_recognised(pictures):
    lines = inspection.describe(pictures).splitlines()
    assert lines[:6] == [
        f"{pictures}: archive, layout image_folder, data.sensor=rgb (which takes nearly any "
        "folder), 7 images: 7 gallery",
        "  rgb: uint8 [6 8 3], red, green, blue",
        "  records of it: about 0.0 MB",
        "  gallery lake/0.png: lake",
        "  gallery lake/2.png: lake",
        "  gallery lake/4.png: lake",
    ]
    assert [line.split(":")[0] for line in lines[6:]] == [
        "  not bigearthnet",
        "  not eurosat",
        "  not fmow_rgb",
        "  not fmow_sentinel",
        "  not tfds",
        "  not scenes",
    ]


def test_config_describes_its_archive_before_its_model(pictures):
    data = {"layout": "image_folder", "archive": str(pictures), "sensor": "rgb", "image_size": 32}
    model = {"size": "tiny", "depth": 1, "predictor_depth": 1}
    text = inspection.describe_config(resolve({"data": data, "model": model}))
    assert text.startswith(f"{pictures}: archive, layout image_folder, 7 images")
    assert "method rejepa" in text


def test_config_of_an_archive_that_is_not_here_describes_its_model():
    assert in_words.describe_archive(resolve({"data": {"archive": "/nowhere"}})) == ""


def test_what_is_nothing_says_why_not(tmp_path):
    with pytest.raises(DataError) as caught:
        inspection.describe(tmp_path)
    assert "got no run, records or archive" in str(caught.value)
    assert "  not bigearthnet: " in str(caught.value)
    assert "  not image_folder: got no image" in str(caught.value)
    with pytest.raises(DataError, match="lost: got nothing there"):
        inspection.describe(tmp_path / "lost")
