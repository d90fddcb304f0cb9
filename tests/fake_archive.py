"""A small archive of random pixels: what the rooms behind the layouts are tested with.

In a module of its own, because processes that write shards import `read` by its name.
"""

import dataclasses
import os
import signal
import time

import numpy as np

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.pipeline import open_records
from rejepa_jax.data.prepare import prepare
from rejepa_jax.types import DataError

CLASSES = ("forest", "water", "urban")


def toy_schema(size=12):
    """Two sensors: s2 whose zeros are no measurement, s1 where every value is one."""
    sensors = {
        "s2": Sensor(("B02", "B03", "B04"), "uint16", size, size),
        "s1": Sensor(("VV", "VH"), "float32", size, size),
    }
    return Schema("toy", sensors, CLASSES)


def pixels(number, schema):
    """The images of place `number`; a tenth of the s2 values is missing."""
    rng = np.random.default_rng(number)
    images = {}
    for name, sensor in schema.sensors.items():
        if sensor.dtype == "uint16":
            image = rng.integers(1, 3000, sensor.shape).astype(np.uint16)
            images[name] = np.where(rng.random(sensor.shape) < 0.1, 0, image).astype(np.uint16)
        else:
            images[name] = rng.normal(-15, 4, sensor.shape).astype(np.float32)
    return images


def read(files, item, schema):
    """Reads raw pixels; a file of another length cannot be used."""
    images = {}
    for name, sensor in schema.sensors.items():
        values = np.frombuffer(files.read(item.files[name]), sensor.dtype)
        if values.size != np.prod(sensor.shape):
            raise DataError(f"{item.files[name]}: got {values.size} values; restore it")
        images[name] = values.reshape(sensor.shape)
    return Example(item.id, images, item.labels, source=item.id)


def read_or_die(files, item, schema):
    """Reads at leisure; kills its own process at the place that the file `deadly` names."""
    (files.path / f"pid-{os.getpid()}").touch()
    deadly = files.path / "deadly"
    if deadly.exists() and deadly.read_text() == item.id:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return read(files, item, schema)


def write_archive(root, counts=None, size=12):
    """Writes raw files under `root` and returns the archive; place numbers run over all splits."""
    schema, items = toy_schema(size), []
    root.mkdir(parents=True, exist_ok=True)
    for split, count in sorted((counts or {"train": 10, "test": 3}).items()):
        for _ in range(count):
            number = len(items)
            files = {name: f"{number:03d}.{name}" for name in schema.sensors}
            for name, image in pixels(number, schema).items():
                (root / files[name]).write_bytes(image.tobytes())
            items.append(Item(f"place{number:03d}", split, (number % 3,), files))
    return Archive(schema, tuple(items), ArchiveFiles(root), read)


def prepared(root, counts=None, size=12):
    """Returns the record set of such an archive, made in `root`; four records a shard."""
    archive = write_archive(root / "archive", counts, size)
    settings = Prepare(workers=1, shard_records=4)
    artifacts.run_stage(root / "records", {}, {}, lambda path: prepare(archive, path, settings))
    return open_records(root / "records")


def prepare_slowly(root, counts, workers=2):
    """Prepares in `root` what `write_archive` wrote there, over whatever is there already."""
    archive = dataclasses.replace(write_archive(root / "archive", counts), read=read_or_die)
    settings = Prepare(workers=workers, shard_records=4)
    return artifacts.run_stage(
        root / "records", {}, {}, lambda path: prepare(archive, path, settings)
    )
