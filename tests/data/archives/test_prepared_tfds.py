import io
import pickle

import layout_road
import numpy as np
import prepared_sets
import pytest
from PIL import Image
from prepared_sets import NAMES, label, picture, png, tensor
from real_pixels import BANDS, pictures, sentinel

from rejepa_jax.data.archives.tfds.archive import open_archive
from rejepa_jax.data.archives.tfds.shards import find_places, read_record
from rejepa_jax.data.examples import Sensor, decode, encode
from rejepa_jax.types import ConfigError, DataError

FORMATS = ("tfrecord", "array_record")
SQUARE = np.random.default_rng(0).integers(0, 256, (9, 6, 6, 3), np.uint8)


def coloured(kind="PNG"):
    """Nine examples of two splits, the last without a label."""
    examples = [
        {"image": png(a, kind), "label": n % 3, "name": f"{n}"} for n, a in enumerate(SQUARE)
    ]
    return {"train": examples[:7], "test": [examples[7], examples[8] | {"label": -1}]}


def write(root, features, splits, file_format="tfrecord"):
    return prepared_sets.write(root, features, splits, file_format)[0]


def write_coloured(root, file_format="tfrecord", kind="PNG"):
    text = prepared_sets.tfds.features.Text()
    features = {"image": picture(), "label": label(), "name": text}
    return write(root, features, coloured(kind), file_format)


def read_all(archive):
    examples = [archive.read(archive.files, item, archive.schema) for item in archive.items]
    return [decode(encode(example, archive.schema), archive.schema) for example in examples]


@pytest.mark.parametrize("file_format", FORMATS)
def test_records_are_read_at_random_without_an_index(tmp_path, file_format):
    folder = write_coloured(tmp_path, file_format)
    archive = pickle.loads(pickle.dumps(open_archive(folder, "rgb")))
    assert archive.schema.name == "places"
    assert archive.schema.classes == NAMES
    assert archive.schema.sensors == {"rgb": Sensor(("red", "green", "blue"), "uint8", 6, 6)}
    shards = [f"places-train.{file_format}-0000{n}-of-00002" for n in (0, 1)]
    assert [i.id for i in archive.items if i.split == "train"] == [
        *(f"{shards[0]}__{n:06d}" for n in range(4)),
        *(f"{shards[1]}__{n:06d}" for n in range(3)),
    ]
    backwards = list(reversed(archive.items))
    examples = [archive.read(archive.files, item, archive.schema) for item in backwards][::-1]
    for example, number in zip(examples, (7, 8, *range(7)), strict=True):
        np.testing.assert_array_equal(example.images["rgb"], SQUARE[number])
        assert example.labels == (() if number == 8 else (number % 3,))
    assert examples[2].source == shards[0]


def test_jpeg_is_decoded_as_pillow_does(tmp_path):
    data = pictures(3)
    examples = [{"image": io.BytesIO(each), "label": 0} for each in data]
    folder = write(tmp_path, {"image": picture(), "label": label()}, {"train": examples})
    for example, each in zip(read_all(open_archive(folder)), data, strict=True):
        expected = np.asarray(Image.open(io.BytesIO(each)))
        np.testing.assert_array_equal(example.images["rgb"], expected)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("encoding", ["none", "bytes", "zlib"])
def test_tensors_of_named_bands_come_in_the_records_order(tmp_path, encoding, file_format):
    order = (*BANDS[:8], *BANDS[9:], "B8A")
    places = [BANDS.index(band) for band in order]
    images = [patch[:16, :16] for patch, _, _ in sentinel(3)]
    labels = ([0, 2], [], [1])
    rows = zip(images, labels, strict=True)
    examples = [{"bands": image[..., places], "labels": each} for image, each in rows]
    features = {
        "bands": tensor((16, 16, 13), np.uint16, encoding),
        "labels": prepared_sets.tfds.features.Sequence(label()),
    }
    folder = write(tmp_path, features, {"train": examples}, file_format)
    archive = open_archive(folder, "s2_l1c", file_bands=order)
    assert archive.schema.sensors == {"s2_l1c": Sensor(BANDS, "uint16", 16, 16)}
    for example, image, each in zip(read_all(archive), images, labels, strict=True):
        np.testing.assert_array_equal(example.images["s2_l1c"], image)
        assert example.labels == tuple(each)
    plain = open_archive(folder)
    assert plain.schema.sensors["image"].bands == tuple(f"band{n}" for n in range(1, 14))
    np.testing.assert_array_equal(read_all(plain)[0].images["image"], images[0][..., places])
    with pytest.raises(ConfigError, match=r"data\.file_bands: got none for 13 bands .*'s2_l1c'"):
        open_archive(folder, "s2_l1c")
    with pytest.raises(ConfigError, match="B99"):
        open_archive(folder, "s2_l1c", file_bands=("B99", *order[1:]))
    with pytest.raises(DataError, match="got 13 bands, named B01"):
        open_archive(folder, "s2_l1c", file_bands=order[:12])


GREY = np.arange(36, dtype=np.uint8).reshape(6, 6)


@pytest.mark.parametrize(
    ("channels", "dtype", "data", "expected"),
    [
        (1, np.uint8, GREY, GREY[..., None]),
        (1, np.uint16, GREY.astype(np.uint16) * 1000, GREY[..., None].astype(np.uint16) * 1000),
        (3, np.uint8, GREY, np.repeat(GREY[..., None], 3, axis=-1)),
    ],
)
def test_pictures_have_the_channels_that_their_feature_says(
    tmp_path, channels, dtype, data, expected
):
    features = {"image": picture(channels, dtype, "png")}
    folder = write(tmp_path, features, {"train": [{"image": png(data)}]})
    archive = open_archive(folder)
    (image,) = read_all(archive)[0].images.values()
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == dtype
    assert (archive.schema.classes, read_all(archive)[0].labels) == ((), ())


def test_sizes_that_differ_need_a_record_size(tmp_path):
    images = [SQUARE[0], SQUARE[1][:4], SQUARE[2]]
    examples = [{"image": png(image), "label": 0} for image in images]
    folder = write(tmp_path, {"image": picture(), "label": label()}, {"train": examples})
    archive = open_archive(folder)
    with pytest.raises(DataError, match=r"000001: got uint8 \(4, 6, 3\).*data.record_size=SIZE"):
        archive.read(archive.files, archive.items[1], archive.schema)
    fitted = read_all(open_archive(folder, record_size=4))
    np.testing.assert_array_equal(fitted[1].images["rgb"], images[1][:, 1:5])


def test_a_single_split_can_be_dealt_into_two(tmp_path):
    archive = open_archive(write_coloured(tmp_path), selection="every_fifth")
    assert [item.split for item in archive.items].count("query") == 1
    assert [item.split for item in archive.items].count("gallery") == 8
    with pytest.raises(ConfigError, match="got 'tenth', expected none or every_fifth"):
        open_archive(tmp_path, selection="tenth")


def test_features_that_kinds_do_not_tell_apart_are_named(tmp_path):
    features = {
        "before": tensor((4, 4, 2), np.float32),
        "after": tensor((4, 4, 2), np.float32),
        "mask": prepared_sets.tfds.features.LabeledImage(labels=3, shape=(4, 4, 1)),
        "kind": label(),
        "use": label(),
    }
    one, two = (np.full((4, 4, 2), value, np.float32) for value in (1, 2))
    mask = png(np.zeros((4, 4), np.uint8))
    example = {"before": one, "after": two, "mask": mask, "kind": 1, "use": 2}
    folder = write(tmp_path, features, {"train": [example]})
    (read,) = read_all(open_archive(folder, features=("after", "use")))
    np.testing.assert_array_equal(read.images["image"], two)
    assert read.labels == (2,)
    assert read_all(open_archive(folder, features=("before", "")))[0].labels == ()
    for wanted in ((), ("after",), ("mask", "use"), ("after", "before"), ("now", "use")):
        match = r"images \['after', 'before'\] and the labels \['kind', 'use'\]"
        with pytest.raises(ConfigError, match=match):
            open_archive(folder, features=wanted)


def test_types_that_records_do_not_have_are_refused(tmp_path):
    features = {"image": tensor((4, 4, 2), np.int64)}
    folder = write(tmp_path, features, {"train": [{"image": np.ones((4, 4, 2), np.int64)}]})
    with pytest.raises(DataError, match="the images are int64, expected one of uint8, uint16"):
        open_archive(folder)


def many():
    """A data set of a single split, as most of remote sensing are, with real pictures."""
    return {"train": [{"image": io.BytesIO(p), "label": n % 3} for n, p in enumerate(pictures(15))]}


def test_config_deals_a_single_split_into_queries_and_gallery(tmp_path):
    folder = write(tmp_path, {"image": picture(), "label": label()}, many(), "array_record")
    records, seen, _ = layout_road.prepared(tmp_path / "run", "tfds", folder)
    assert {split: len(rows) for split, rows in records.splits.items()} == {
        "gallery": 12,
        "query": 3,
    }
    assert seen.image_size == 128
    assert len(seen.inputs["rgb"].mean) == 3


@pytest.mark.slow
def test_configs_road_runs_to_its_end(tmp_path):
    folder = write(tmp_path, {"image": picture(), "label": label()}, many())
    found = layout_road.walked(tmp_path / "run", "tfds", folder)
    assert found == ({"gallery": 12, "query": 3}, 3, ("query", "gallery"))


def damage(path, change):
    data = bytearray(path.read_bytes())
    changed = change(data)
    path.write_bytes(data if changed is None else changed)


def flip(place):
    def change(data):
        data[place] ^= 1

    return change


@pytest.mark.parametrize(
    ("file_format", "change", "message"),
    [
        ("tfrecord", flip(0), "no head of a record at byte 0, expected one with its checksum"),
        ("tfrecord", lambda data: data[:-1], "cut off"),
        ("tfrecord", lambda data: data[:5], "no head of a record at byte 0"),
        ("tfrecord", lambda _: b"", "got 0 records, expected 4, as in dataset_info"),
        ("array_record", lambda _: b"", "got 0 records, expected 4"),
        ("array_record", lambda data: data[: len(data) // 2], "got 0 records, expected 4"),
    ],
)
def test_cut_and_damaged_shards_are_found_when_listed(tmp_path, file_format, change, message):
    folder = write_coloured(tmp_path, file_format)
    shard = folder / f"places-train.{file_format}-00000-of-00002"
    damage(shard, change)
    with pytest.raises(DataError, match=f"{shard}: .*{message}"):
        open_archive(folder)
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard}: got no such file"):
        open_archive(folder)


def test_a_record_too_few_at_a_boundary_is_found(tmp_path):
    folder = write_coloured(tmp_path)
    shard = folder / "places-train.tfrecord-00000-of-00002"
    last = find_places(str(shard), "tfrecord", 4)[-1]
    damage(shard, lambda data: data[:last])
    with pytest.raises(DataError, match=r"got 3 records, expected 4, as in dataset_info\.json"):
        open_archive(folder)


def test_one_damaged_record_is_refused_and_the_others_are_not(tmp_path):
    folder = write_coloured(tmp_path)
    shard = folder / "places-train.tfrecord-00000-of-00002"
    place = find_places(str(shard), "tfrecord", 4)[2]
    archive = open_archive(folder)
    damage(shard, flip(place + 40))
    train = [item for item in archive.items if item.split == "train"]
    for number, item in enumerate(train):
        if number == 2:
            with pytest.raises(DataError, match=f"a record at byte {place} cut or damaged"):
                archive.read(archive.files, item, archive.schema)
        else:
            archive.read(archive.files, item, archive.schema)


def test_a_damaged_array_record_is_refused(tmp_path):
    folder = write_coloured(tmp_path, "array_record")
    archive = open_archive(folder)
    shard = folder / "places-test.array_record-00000-of-00002"
    for place in range(40, 400, 20):
        damage(shard, flip(place))
    with pytest.raises(DataError, match="record 0 damaged, expected its checksum"):
        read_record(str(shard.rename(shard.with_name("moved"))), "array_record", 0)
    assert len(archive.items) == 9


def test_a_record_that_is_none_is_refused_by_name(tmp_path):
    folder = write_coloured(tmp_path)
    archive = open_archive(folder)
    for data, message in (
        (b"\xff\xff no message", "DecodeError"),
        (b"", r"KeyError on decoding, expected the features \['image', 'label'\] as in"),
    ):
        prepared_sets.tfrecord.write_shard(folder / "places-test.tfrecord-00000-of-00002", [data])
        with pytest.raises(DataError, match=f"of-00002__000000: got {message}"):
            archive.read(archive.files, archive.items[0], archive.schema)


def test_other_folders_are_refused(tmp_path):
    folder = write_coloured(tmp_path)
    with pytest.raises(DataError, match=r"got no features.json but in 1 \(.*places/1.0.0\)"):
        open_archive(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"got no features\.json, expected the folder of one version"
    ):
        open_archive(tmp_path / "empty")
    (folder / "features.json").write_text("{")
    with pytest.raises(DataError, match="for its description, expected the folder"):
        open_archive(folder)
