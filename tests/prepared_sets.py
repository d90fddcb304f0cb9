"""Data sets as TensorFlow Datasets prepares them, written without TensorFlow."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from rejepa_jax.data import tfrecord

NAMES = ("forest", "water", "urban")


def png(array, kind="PNG"):
    """The bytes of a picture, in the form in which tfds takes them without TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return io.BytesIO(file.getvalue())


def label():
    """A feature of one of three classes."""
    return tfds.features.ClassLabel(names=NAMES)


def tensor(shape, dtype, encoding="none"):
    """A feature of rank 3 or any other."""
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=encoding)


def picture(channels=3, dtype=np.uint8, encoding=None):
    """A feature of pictures of any size."""
    shape = (None, None, channels)
    return tfds.features.Image(shape=shape, dtype=dtype, encoding_format=encoding)


def write(root, features, splits, file_format):
    """Prepares a data set `places`; returns its folder and its examples' serialised forms.

    `splits` gives the examples of each split; each is dealt into two shards.
    """
    features = tfds.features.FeaturesDict(features)
    folder = root / "places" / "1.0.0"
    folder.mkdir(parents=True)
    lengths, written = {}, {}
    for split, examples in splits.items():
        records = [features.serialize_example(example) for example in examples]
        half = (len(records) + 1) // 2
        parts = [records[:half], records[half:]]
        lengths[split] = [len(part) for part in parts]
        for number, part in enumerate(parts):
            path = folder / f"places-{split}.{file_format}-{number:05d}-of-00002"
            if file_format == "tfrecord":
                tfrecord.write_shard(path, part)
                path.with_name(path.name + tfrecord.INDEX_SUFFIX).unlink()
            else:
                tfds.core.file_adapters.ArrayRecordFileAdapter.write_examples(path, enumerate(part))
        written[split] = records
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=features,
        split_infos=[
            tfds.core.SplitInfo(name=split, shard_lengths=part, num_bytes=0)
            for split, part in lengths.items()
        ],
        version="1.0.0",
        check_data=False,
    )
    if file_format != "tfrecord":
        info = folder / "dataset_info.json"
        info.write_text(info.read_text().replace('"tfrecord"', f'"{file_format}"'))
    return folder, written
