"""What a data set that TensorFlow Datasets prepared says of itself, and what takes it apart.

All without TensorFlow, which tfds imports only where it needs it.
"""

import functools
import pathlib
from typing import Any

from google.protobuf import json_format

from rejepa_jax.data.archives.split_files import some
from rejepa_jax.data.archives.tfds.shards import FORMATS
from rejepa_jax.types import ConfigError, DataError


def read_info(path: pathlib.Path) -> Any:
    """Reads tfds's DatasetInfo.

    Raises:
        DataError: If it is no folder of a prepared data set, or its shards have another format.
    """
    import tensorflow_datasets as tfds  # heavy, and only this layout needs it

    missing = [n for n in ("features.json", "dataset_info.json") if not (path / n).is_file()]
    try:
        info = None if missing else tfds.builder_from_directory(path).info
    except (ValueError, KeyError, TypeError, AttributeError, json_format.ParseError) as error:
        raise bad_folder(path, f"{type(error).__name__} for its description") from error
    if info is None:
        found = [str(file.parent) for file in path.glob("**/features.json")]
        raise bad_folder(path, f"no {missing[0]}{f' but in {some(found)}' if found else ''}")
    if info.file_format.value not in FORMATS:
        raise bad_folder(path, f"shards in the format {info.file_format.value}")
    return info


def bad_folder(path: pathlib.Path, got: str) -> DataError:
    """Makes the error that says which folder is needed."""
    return DataError(
        f"archive {path}: got {got}, expected the folder of one version of a data set that "
        f"TensorFlow Datasets prepared, with features.json, dataset_info.json and shards in "
        f"{' or '.join(FORMATS)}; set --config.data.archive=PATH"
    )


def choose(features: Any, wanted: tuple[str, ...]) -> tuple[str, str]:
    """Chooses the features of the image and of the label ("" = none).

    Raises:
        ConfigError: If their kinds leave more than one choice and no names are given, or those
            given are of other kinds.
    """
    images = sorted(name for name, feature in features.items() if _is_image(feature))
    labels = sorted(name for name, feature in features.items() if classes_of(feature))
    if len(wanted) == 2 and wanted[0] in images and wanted[1] in ("", *labels):
        return wanted[0], wanted[1]
    if wanted or len(images) != 1 or len(labels) > 1:
        raise ConfigError(
            f"data.features: got {wanted or 'none'} for a data set with the images {images} and "
            f"the labels {labels}, expected one of each; set --config.data.features=IMAGE,LABEL"
        )
    return images[0], labels[0] if labels else ""


def _is_image(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Image):
        return not isinstance(feature, tfds.features.LabeledImage)  # the labels of each pixel
    return type(feature) is tfds.features.Tensor and len(feature.shape) == 3


def classes_of(feature: Any) -> tuple[str, ...]:
    """Gives the classes that a feature's labels stand for; () if it holds no labels."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    is_label = isinstance(feature, tfds.features.ClassLabel) and feature.num_classes
    return tuple(feature.names) if is_label else ()


@functools.lru_cache(8)
def connectors(directory: str, image: str, label: str) -> tuple[Any, dict[str, Any]]:
    """Gives what takes records apart into these two features, but leaves pictures encoded."""
    import tensorflow_datasets as tfds

    features = tfds.builder_from_directory(directory).info.features
    chosen = tfds.features.FeaturesDict({n: features[n] for n in (image, label) if n})
    is_picture = isinstance(features[image], tfds.features.Image)
    return chosen, {image: tfds.decode.SkipDecoding()} if is_picture else {}
