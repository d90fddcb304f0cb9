"""The files that make a records directory a data set of TensorFlow Datasets."""

import os

import numpy as np

from rejepa_jax.data.examples import SCHEMA_VERSION, TEXTS, Schema


def write_tfds_metadata(
    directory: str | os.PathLike[str],
    schema: Schema,
    splits: dict[str, list[int]],
    num_bytes: dict[str, int],
) -> None:
    """Writes what `tfds.builder_from_directory` reads, without TensorFlow.

    That is `dataset_info.json`, `features.json` and `labels.labels.txt`; the shards must be in
    `directory` already, named by `shard_name`. `splits` gives the number of records in each shard
    of a split, `num_bytes` the size of a split's shards together.
    """
    import tensorflow_datasets as tfds  # heavy, and only this function needs it

    tensor = tfds.features.Tensor
    label = tfds.features.ClassLabel(names=schema.classes)
    features = {
        **{name: tfds.features.Text() for name in TEXTS},
        "geometry": tensor(shape=(), dtype=np.object_),  # tfds's name for bytes
        "transform": tensor(shape=(None,), dtype=np.float64, encoding="bytes"),
        "labels": tfds.features.Sequence(label),
    }
    for name, sensor in schema.sensors.items():
        features[name] = tensor(shape=sensor.shape, dtype=np.dtype(sensor.dtype), encoding="bytes")
    tfds.folder_dataset.write_metadata(
        data_dir=os.fspath(directory),
        features=features,
        split_infos=[
            tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=num_bytes[split])
            for split, lengths in splits.items()
        ],
        version=SCHEMA_VERSION,
        check_data=False,  # the check reads a record through TensorFlow
    )
