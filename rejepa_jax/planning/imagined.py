"""A training step's inputs without records: the form that an archive's records would have."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rejepa_jax.config import Config
from rejepa_jax.data.archives import eurosat
from rejepa_jax.data.archives.bigearthnet import patches
from rejepa_jax.data.archives.fmow import rgb, sentinel
from rejepa_jax.data.archives.layouts import WRITTEN
from rejepa_jax.data.examples import Schema, Sensor
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.data.records import Records
from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.training import sharding
from rejepa_jax.types import Batch, ConfigError

SIZES = {
    "bigearthnet": patches.SIZE,
    WRITTEN: patches.SIZE,
    "eurosat": eurosat.SIZE,
    "fmow_rgb": rgb.SIZE,
    "fmow_sentinel": sentinel.SIZE,
}


def record_form(config: Config) -> Sensor:
    """Returns bands, dtype and size of the sensor that a config trains on.

    Where the layout leaves the size to the images, they are taken to have the model's.

    Raises:
        ConfigError: the sensor has no known bands, and the config names none.
    """
    data, known = config.data, SENSORS.get(config.data.sensor)
    bands = known.band_names if known else data.bands
    if not bands:
        raise ConfigError(f"sensor {data.sensor!r} has no known bands; set config.data.bands")
    size = data.record_size or SIZES.get(data.layout, data.image_size)
    if data.layout == "scenes":
        size = config.scenes.patch
    return Sensor(bands, known.dtype if known else "uint8", size, size)


def imagined_records(config: Config) -> RecordSet:
    """Returns a set of one record that nobody can read, with statistics that change nothing."""
    sensor, data = record_form(config), config.data
    schema = Schema("imagined", {data.sensor: sensor}, ())
    width = len(sensor.bands)
    statistics = {"mean": [0.0] * width, "std": [1.0] * width}
    statistics |= {"min": [-1.0] * width, "max": [1.0] * width}
    split = {"statistics": {data.sensor: statistics}}
    manifest = {"info": {"splits": {data.train_split: split}}}
    return RecordSet(schema, {data.train_split: range(1)}, manifest, Records([]))


def abstract_batch(config: Config, batch_size: int, mesh: Mesh) -> Batch:
    """Returns shapes, dtypes and places of the batch that a step takes."""
    place, sensor = sharding.batch_sharding(mesh), record_form(config)

    def array(shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *shape), jnp.dtype(dtype), sharding=place)

    return Batch(
        image={config.data.sensor: array(sensor.shape, sensor.dtype)},  # pyrefly: ignore
        id=array((), "int32"),  # pyrefly: ignore
        valid=array((), "bool"),  # pyrefly: ignore
    )


def for_platform(config: Config, platform: str) -> Config:
    """Returns the config with the activations' dtype that it would have on a platform."""
    if config.model.dtype != "auto":
        return config
    dtype = "float32" if platform == "cpu" else "bfloat16"
    return dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))
