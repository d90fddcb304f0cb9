"""The files that make a records directory a data set of TensorFlow Datasets."""

import os
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np

from rejepa_jax.data.examples import SCHEMA_VERSION, TEXTS, Schema, shard_name


def write_tfds_metadata(
    directory: str | os.PathLike[str],
    schema: Schema,
    splits: dict[str, list[int]],
    num_bytes: dict[str, int],
) -> None:
    """Writes what `tfds.builder_from_directory` reads, without TensorFlow.

    That is `dataset_info.json`, `features.json` and `labels.labels.txt`. `splits` gives the number
    of records in each shard of a split, the shards being named by `shard_name`; `num_bytes` the
    size of a split's shards together.
    """
    import tensorflow_datasets as tfds  # heavy, and only this function needs it

    tensor = tfds.features.Tensor
    label = tfds.features.ClassLabel(names=schema.classes)
    features: dict[str, Any] = {
        **{name: tfds.features.Text() for name in TEXTS},
        "geometry": tensor(shape=(), dtype=np.object_),  # tfds's name for bytes
        "transform": tensor(shape=(None,), dtype=np.float64, encoding="bytes"),
        "labels": tfds.features.Sequence(label),
    }
    for name, sensor in schema.sensors.items():
        features[name] = tensor(shape=sensor.shape, dtype=np.dtype(sensor.dtype), encoding="bytes")
    with tempfile.TemporaryDirectory() as folder:
        # tfds looks at the shards' names alone; the shards themselves may be in a bucket.
        for split, lengths in splits.items():
            for shard in range(len(lengths)):
                pathlib.Path(folder, shard_name(schema.name, split, shard, len(lengths))).touch()
        tfds.folder_dataset.write_metadata(
            data_dir=folder,
            features=features,
            split_infos=[
                tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=num_bytes[split])
                for split, lengths in splits.items()
            ],
            version=SCHEMA_VERSION,
            check_data=False,  # the check reads a record through TensorFlow
        )
        for path in pathlib.Path(folder).iterdir():
            if path.suffix in (".json", ".txt"):
                shutil.copyfile(path, pathlib.Path(directory, path.name))
