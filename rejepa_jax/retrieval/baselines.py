"""Descriptors that anyone has for free: what a trained encoder must beat to mean something."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from rejepa_jax.data import sensors
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.data.preprocess import SensorInput
from rejepa_jax.retrieval import random_features
from rejepa_jax.retrieval.embed import example_batches
from rejepa_jax.retrieval.histograms import colour_and_gradient_histogram

FREE = (  # their names in the table
    "image statistics",
    "random conv features",
    "ZCA patches",
    "colour + gradient histogram",
)
SAMPLE = 1000  # images of the gallery that patches are cut from
PATCHES = 20_000
SEED = 0

Describe = Callable[[Shaped[Array, "b h w c"]], Float[Array, "b d"]]


def free_descriptors(
    records: RecordSet, split: str, sensor: str, batch_size: int
) -> dict[str, Describe]:
    """Returns by name what describes images; what has to be fitted sees the gallery `split`."""
    given = gallery_input(records, split, sensor)
    rng = np.random.default_rng(SEED)
    rows = records.rows(split)
    rows = np.sort(rng.choice(rows, min(SAMPLE, len(rows)), replace=False))
    count, patches = -(-PATCHES // len(rows)), []
    for examples, images in example_batches(records, rows, sensor, batch_size):
        pixels = np.asarray(random_features.half_size(images, given))[: len(examples)]
        patches.append(random_features.draw_patches(pixels, count, rng))
    return describers(given, np.concatenate(patches))


def describers(given: SensorInput, patches: Float[np.ndarray, "p s s c"]) -> dict[str, Describe]:
    """Returns the same from the gallery's statistics and patches of it."""
    banks = (
        random_features.gaussian_bank(len(given.bands), SEED),
        random_features.zca_bank(patches, SEED),
    )
    describe = [
        partial(image_statistics, nodata=given.nodata),
        *(partial(random_features.mean_responses, bank=bank, given=given) for bank in banks),
        partial(colour_and_gradient_histogram, given=given),
    ]
    return dict(zip(FREE, describe, strict=True))


def gallery_input(records: RecordSet, split: str, sensor: str) -> SensorInput:
    """Returns what standardises every band of the sensor with the split's own statistics."""
    measured = records.statistics(split, sensor)
    return SensorInput(
        bands=tuple(range(len(measured["mean"]))),
        mean=tuple(measured["mean"]),
        std=tuple(std or 1.0 for std in measured["std"]),
        nodata=sensors.nodata(sensor),
    )


@partial(jax.jit, static_argnames="nodata")
def image_statistics(
    image: Shaped[Array, "b h w c"] | Shaped[np.ndarray, "b h w c"], nodata: float | None
) -> Float[Array, "b 4*c"]:
    """Returns mean, standard deviation, minimum and maximum of each band's known pixels.

    Pixels of the value `nodata` are unknown; a band without a known pixel counts as zeros.
    """
    pixels = image.astype(jnp.float32)
    known = jnp.ones(pixels.shape, bool) if nodata is None else pixels != nodata
    mean = pixels.mean((1, 2), where=known)
    std = pixels.std((1, 2), where=known)
    low = pixels.min((1, 2), where=known, initial=jnp.inf)
    high = pixels.max((1, 2), where=known, initial=-jnp.inf)
    return jnp.nan_to_num(jnp.concatenate([mean, std, low, high], axis=1), posinf=0, neginf=0)
