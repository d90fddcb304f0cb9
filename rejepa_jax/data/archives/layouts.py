"""Every layout that an archive on disk can have, by the name that `data.layout` takes.

A layout is one file beside this one: its `open_archive` lists the items, its `read_example`, which
the `Archive` carries, reads one of them; worker processes find that function by module and name.
A layout of your own needs no change here: docs/how-to-layout.md.
"""

import dataclasses
from collections.abc import Callable

from rejepa_jax.config import Config, Data
from rejepa_jax.data import splits
from rejepa_jax.data.archives import eurosat, image_folder
from rejepa_jax.data.archives.bigearthnet import archive as bigearthnet
from rejepa_jax.data.archives.files import Archive
from rejepa_jax.data.archives.fmow import rgb as fmow_rgb
from rejepa_jax.data.archives.fmow import sentinel as fmow_sentinel
from rejepa_jax.data.archives.scenes import archive as own_scenes
from rejepa_jax.data.archives.tfds import archive as prepared_tfds
from rejepa_jax.types import ConfigError

WRITTEN = "synthetic"  # not read from a layout: written into the run first, as bigearthnet


def _bigearthnet(data: Data) -> Archive:
    selection = data.selection or "clean"
    return bigearthnet.open_archive(
        data.archive, selection, data.split_file, data.file_bands, data.file_sensors
    )


def _eurosat(data: Data) -> Archive:
    return eurosat.open_archive(data.archive, data.sensor, data.split_file, data.file_bands)


def _fmow_rgb(data: Data) -> Archive:
    size = data.record_size or fmow_rgb.SIZE
    return fmow_rgb.open_archive(data.archive, data.selection, data.split_file, size)


def _fmow_sentinel(data: Data) -> Archive:
    size = data.record_size or fmow_sentinel.SIZE
    return fmow_sentinel.open_archive(data.archive, data.split_file, data.file_bands, size)


def _image_folder(data: Data) -> Archive:
    return image_folder.open_archive(data.archive, data.split_file, data.record_size)


def _scenes(config: Config) -> Archive:
    data, labels = config.data, config.scenes.labels
    return own_scenes.open_archive(
        data.archive, config.scenes, data.file_bands, data.sensor, labels
    )


def _tfds(data: Data) -> Archive:
    return prepared_tfds.open_archive(
        data.archive, data.sensor, data.features, data.selection, data.file_bands, data.record_size
    )


LAYOUTS: dict[str, Callable[[Config], Archive]] = {
    "bigearthnet": lambda config: _bigearthnet(config.data),
    "eurosat": lambda config: _eurosat(config.data),
    "fmow_rgb": lambda config: _fmow_rgb(config.data),
    "fmow_sentinel": lambda config: _fmow_sentinel(config.data),
    "image_folder": lambda config: _image_folder(config.data),
    "scenes": _scenes,
    "tfds": lambda config: _tfds(config.data),
}


def check_layout(config: Config) -> None:
    """Raises a ConfigError if there is no such layout."""
    known = sorted([*LAYOUTS, WRITTEN])
    if config.data.layout not in known:
        raise ConfigError(f"config.data.layout = {config.data.layout!r}: choose one of {known}")


def open_archive(config: Config) -> Archive:
    """Lists the archive in the layout, and with the splits, that the config asks for.

    Raises:
        ConfigError: there is no such layout, it does not know a setting, or the same ground is in
            the splits of the queries and of the gallery.
        DataError: the archive is not as the layout has it.
    """
    check_layout(config)
    archive = splits.assign(
        LAYOUTS[config.data.layout](config), config.data, config.data.block_gap_km
    )
    known = archive.schema.sensors
    if config.data.sensor not in known:
        held = "; ".join(f"{name} ({', '.join(sensor.bands)})" for name, sensor in known.items())
        raise ConfigError(
            f"config.data.sensor = {config.data.sensor!r}: the archive has {held}; choose one of "
            f"{sorted(known)}, or name the bands with config.data.file_bands"
        )
    leaks, asked = splits.find_leaks(archive), config.eval
    splits.refuse_leaks(leaks, asked.query_split, asked.gallery_split, asked.shared_places)
    return dataclasses.replace(archive, facts={**archive.facts, "leaks": leaks})


def as_written(config: Config, archive: str) -> Config:
    """Returns the config that reads the synthetic archive where it has been written."""
    data = dataclasses.replace(config.data, layout="bigearthnet", archive=archive)
    return dataclasses.replace(config, data=data)
