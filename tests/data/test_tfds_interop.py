"""What TensorFlow Datasets prepared with TensorFlow, we read as it reads it itself."""

import numpy as np
import pytest
from real_pixels import pictures, sentinel

from rejepa_jax.data.archives.tfds.archive import open_archive

pytestmark = pytest.mark.interop

KINDS = ("png", "grey", "grey16", "plain", "bytes", "zlib", "any size", "float")


@pytest.fixture(scope="module")
def tfds():
    """tfds beside TensorFlow, imported only if one of these tests runs."""
    pytest.importorskip("tensorflow")
    return pytest.importorskip("tensorflow_datasets")


def noise(number, *shape, dtype=np.uint8):
    return np.random.default_rng(number).integers(
        0, np.iinfo(dtype).max, shape, dtype, endpoint=True
    )


def kinds(tfds):
    """Features of an image, and what makes one."""
    image, tensor = tfds.features.Image, tfds.features.Tensor
    deep = {"shape": (16, 16, 13), "dtype": np.uint16}

    def patch(number):
        return sentinel(6)[number % 6][0][:16, :16]

    return {
        "png": (image(shape=(None, None, 3), encoding_format="png"), lambda n: noise(n, 9, 7, 3)),
        "grey": (image(shape=(9, 7, 1), encoding_format="png"), lambda n: noise(n, 9, 7, 1)),
        "grey16": (
            image(shape=(9, 7, 1), dtype=np.uint16, encoding_format="png"),
            lambda n: noise(n, 9, 7, 1, dtype=np.uint16),
        ),
        "plain": (tensor(**deep), patch),
        "bytes": (tensor(**deep, encoding="bytes"), patch),
        "zlib": (tensor(**deep, encoding="zlib"), patch),
        "any size": (
            tensor(shape=(None, None, 2), dtype=np.int16, encoding="zlib"),
            lambda n: noise(n, 5, 4, 2, dtype=np.int16),
        ),
        "float": (
            tensor(shape=(5, 4, 2), dtype=np.float32),
            lambda n: np.random.default_rng(n).normal(size=(5, 4, 2)).astype(np.float32),
        ),
    }


def prepare(tfds, root, image, make, labels, file_format):
    """Has tfds prepare a data set of two splits, the first in two shards."""

    class Places(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"image": image, "label": labels})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):  # noqa: ARG002, the name is tfds's
            return {"train": self._generate_examples(0, 9), "test": self._generate_examples(9, 12)}

        def _generate_examples(self, start, stop):
            for n in range(start, stop):
                label = [[0, 2], [], [1]][n % 3] if hasattr(labels, "feature") else n % 4 - 1
                yield n, {"image": make(n), "label": label}

    builder = Places(data_dir=root, file_format=file_format)
    config = tfds.download.DownloadConfig(num_shards=2)
    builder.download_and_prepare(download_config=config)
    return builder


def ours(builder):
    """Our reading by tfds's own name of each example."""
    archive = open_archive(str(builder.data_path))
    found = {}
    for item in archive.items:
        example = archive.read(archive.files, item, archive.schema)
        shard, number = item.id.split("__")
        (image,) = example.images.values()
        found[f"{shard}__{int(number)}"] = (item.split, image, list(example.labels))
    return found


def theirs(tfds, builder, decoders=None):
    """TensorFlow's reading, or that without it where TensorFlow cannot read the format."""
    for split in ("train", "test"):
        if builder.info.file_format.value == "array_record":
            paths = builder.info.splits[split].filepaths
            lengths = builder.info.splits[split].shard_lengths
            names = [
                f"{p.name}__{n}" for p, k in zip(paths, lengths, strict=True) for n in range(k)
            ]
            for name, example in zip(names, builder.as_data_source(split), strict=True):
                yield split, name, example
            continue
        config = tfds.ReadConfig(add_tfds_id=True)
        data = builder.as_dataset(split, read_config=config, decoders=decoders)
        for example in tfds.as_numpy(data):
            yield split, example["tfds_id"].decode(), example


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_and_labels_are_those_that_tfds_reads(tfds, tmp_path, kind, file_format):
    if (kind, file_format) == ("grey16", "array_record"):
        pytest.skip("tfds does not read 16-bit pictures without TensorFlow and OpenCV")
    image, make = kinds(tfds)[kind]
    labels = tfds.features.ClassLabel(names=["a", "b", "c"])
    if kind in ("plain", "png"):
        labels = tfds.features.Sequence(labels)
    builder = prepare(tfds, tmp_path, image, make, labels, file_format)
    assert len(builder.info.splits["train"].shard_lengths) == 2
    found = ours(builder)
    for split, name, example in theirs(tfds, builder):
        our_split, array, our_labels = found.pop(name)
        assert our_split == split
        assert array.dtype == example["image"].dtype
        np.testing.assert_array_equal(array, example["image"])
        assert our_labels == [v for v in np.ravel(example["label"]).tolist() if v >= 0]
    assert not found


def test_jpeg_is_as_every_reader_but_tensorflows_fast_transform_has_it(tfds, tmp_path):
    import tensorflow as tf

    image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    label = tfds.features.ClassLabel(names=["a", "b", "c"])
    paths = [tmp_path / f"{n}.jpg" for n in range(12)]
    for path, data in zip(paths, pictures(12), strict=True):
        path.write_bytes(data)
    made = [
        prepare(tfds, tmp_path / kind, image, lambda n: str(paths[n]), label, kind)
        for kind in ("tfrecord", "array_record")
    ]
    found = ours(made[1])
    for _, name, example in theirs(tfds, made[1]):
        np.testing.assert_array_equal(found[name][1], example["image"])
    found, furthest = ours(made[0]), 0
    for _, name, example in theirs(tfds, made[0], {"image": tfds.decode.SkipDecoding()}):
        exact = tf.io.decode_jpeg(example["image"], dct_method="INTEGER_ACCURATE").numpy()
        np.testing.assert_array_equal(found[name][1], exact)
    for _, name, example in theirs(tfds, made[0]):
        distance = np.abs(found[name][1].astype(int) - example["image"])
        furthest = max(furthest, distance.max())
        assert distance.mean() < 2
    assert furthest < 32
