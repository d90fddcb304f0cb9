"""The exported encoder: weights, preprocessing, pooling and their fingerprint; image to embedding.

A bundle is a directory of `bundle.json` and `weights.safetensors`, and needs nothing else: no
config, no checkpoint, no training code. Its fingerprint covers everything that decides what an
embedding of an image is, so embeddings with different fingerprints are never compared.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from rejepa_jax import artifacts
from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Images, Preprocess, SensorInput, plain_view
from rejepa_jax.models.arrays import named_arrays, with_arrays
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.pooling import POOLS
from rejepa_jax.types import ConfigError, DataError

SCHEMA = "rejepa-encoder/1"
DESCRIPTION = "bundle.json"
WEIGHTS = "weights.safetensors"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An encoder and all that turns a record's pixels into its embedding."""

    name: str  # which of the method's encoders it is
    encoder: Encoder
    preprocess: Preprocess
    sensor: str
    record: Sensor  # what the pixels look like before preprocessing
    pool: str  # how tokens become one vector
    step: int  # of training, 0 = untrained or imported
    fingerprint: str = ""  # filled in by `load_bundle`


def save_bundle(bundle: Bundle, directory: pathlib.Path) -> None:
    """Writes a bundle into a new directory."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(array) for name, array in named_arrays(bundle.encoder).items()}
    # Not save_file, whose error on a full disk is no OSError.
    (directory / WEIGHTS).write_bytes(safetensors.numpy.save(arrays))
    description = _describe(bundle)
    weights = artifacts.sha256_file(directory / WEIGHTS)
    mark = artifacts.fingerprint({"weights": weights, "description": description})
    artifacts.write_json(directory / DESCRIPTION, {"fingerprint": mark, **description})


def _describe(bundle: Bundle) -> dict[str, Any]:
    names = ("name", "preprocess", "sensor", "record", "pool", "step")
    parts = {name: getattr(bundle, name) for name in names}
    plain = {
        name: dataclasses.asdict(part) if dataclasses.is_dataclass(part) else part
        for name, part in parts.items()
    }
    encoder: dict[str, Any] = dataclasses.asdict(bundle.encoder.spec)
    del encoder["remat"]  # of training alone, and no part of what an embedding is
    return {"schema": SCHEMA, **plain, "encoder": encoder}


def load_bundle(directory: pathlib.Path) -> Bundle:
    """Reads a bundle and checks that it is whole.

    Raises:
        FileNotFoundError: it is not there.
        DataError: weights and description do not belong together.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (directory / name).exists():
            raise FileNotFoundError(f"{directory} holds no {name}; run the export stage")
    description = artifacts.read_json(directory / DESCRIPTION)
    mark = description.pop("fingerprint")
    weights = artifacts.sha256_file(directory / WEIGHTS)
    if artifacts.fingerprint({"weights": weights, "description": description}) != mark:
        raise DataError(
            f"{directory}: weights and description do not match their fingerprint {mark[:12]}; "
            "a file was changed or damaged: export again"
        )
    spec = EncoderSpec(**description["encoder"])
    arrays = safetensors.numpy.load_file(directory / WEIGHTS)
    encoder = with_arrays(
        abstract_encoder(spec), jax.tree.map(jnp.asarray, arrays), str(directory / WEIGHTS)
    )
    record = Sensor(**description["record"] | {"bands": tuple(description["record"]["bands"])})
    return Bundle(
        name=description["name"],
        encoder=encoder,
        preprocess=_read_preprocess(description["preprocess"]),
        sensor=description["sensor"],
        record=record,
        pool=description["pool"],
        step=description["step"],
        fingerprint=mark,
    )


@functools.cache
def abstract_encoder(spec: EncoderSpec) -> Encoder:
    """Returns the encoder with shapes and dtypes in place of arrays, for `with_arrays` to fill."""
    return jax.eval_shape(lambda: Encoder(spec, rngs=nnx.Rngs(0)))


def _read_preprocess(value: dict[str, Any]) -> Preprocess:
    inputs = {
        sensor: SensorInput(
            bands=tuple(given["bands"]),
            mean=tuple(given["mean"]),
            std=tuple(given["std"]),
            nodata=given["nodata"],
            clip=given.get("clip"),  # bundles of earlier releases have none
        )
        for sensor, given in value["inputs"].items()
    }
    return Preprocess(value["image_size"], inputs)


class Embedder:
    """A bundle compiled for one batch size; the only place where embeddings are made.

    `place` splits batches over devices; without it one device has them whole.
    """

    def __init__(self, bundle: Bundle, place: NamedSharding | None = None):
        self.bundle, self._place, self._encoder = bundle, place, bundle.encoder
        if place is not None:
            everywhere = NamedSharding(place.mesh, PartitionSpec())
            self._encoder = jax.device_put(bundle.encoder, everywhere)
        self._run = jax.jit(
            lambda encoder, images: embed(encoder, images, bundle.preprocess, bundle.pool)
        )

    def __call__(self, images: dict[str, np.ndarray]) -> Float[np.ndarray, "b d"]:
        """Embeds native pixels [b h w c] of the bundle's sensor."""
        image = images[self.bundle.sensor]
        given = (*image.shape[1:], str(image.dtype))
        wanted = (*self.bundle.record.shape, self.bundle.record.dtype)
        if given != wanted:
            raise ConfigError(
                f"got images {given} (height, width, bands, dtype), expected {wanted} of sensor "
                f"{self.bundle.sensor!r} with bands {list(self.bundle.record.bands)}: give an "
                "image like those that the encoder was trained on"
            )
        placed = jax.device_put({self.bundle.sensor: image}, self._place)
        return np.asarray(self._run(self._encoder, placed))


def embed(
    encoder: Encoder, images: Images, preprocess: Preprocess, pool: str
) -> Float[Array, "b d"]:
    """Returns each image's descriptor: its normalised tokens pooled, of length 1 (paper 4.2)."""
    (view,) = plain_view(images, preprocess).values()
    pooled = POOLS[pool](encoder, view)
    return pooled / jnp.linalg.norm(pooled, axis=1, keepdims=True)
