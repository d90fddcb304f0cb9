"""From native pixels to what the model sees, inside jit: fill, standardise, crop, resample, flip.

The host ships the archive's own dtypes, a tenth of the bytes of float32 at the model's size; all
arithmetic happens here, beside the step, on the accelerator.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Shaped

from rejepa_jax.config import Augment

QUARTER_TURNS = ((0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1))  # mirror rows, columns, swap axes
STD_FLOOR = 1e-6  # of a band without contrast
Images = dict[str, Shaped[Array, "b _ _ _"]]
Boxes = Float[Array, "b 4"]  # top, left, height, width, as shares of the image


@dataclasses.dataclass(frozen=True)
class SensorInput:
    """Which bands of a sensor the model takes, and what brings them to zero mean, unit spread."""

    bands: tuple[int, ...]  # places in the record's array
    mean: tuple[float, ...]  # of those bands, in the record's units; () = each image's own
    std: tuple[float, ...]
    nodata: float | None  # pixels of this value are unknown
    clip: float | None = None  # cut at so many std from the mean, and bring to 0..1


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """All that decides how a record's pixels reach an encoder; part of its fingerprint."""

    image_size: int
    inputs: dict[str, SensorInput]


def plain_view(images: Images, spec: Preprocess) -> dict[str, Float[Array, "b s s c"]]:
    """Returns the whole images as the encoder sees them when it embeds."""
    whole = jnp.tile(jnp.array([[0.0, 0.0, 1.0, 1.0]]), (_batch(images), 1))
    return {
        sensor: _fit(standardise(images[sensor], given), whole, spec.image_size, is_whole=True)
        for sensor, given in spec.inputs.items()
    }


def random_view(
    images: Images, spec: Preprocess, augment: Augment, key: Key[Array, ""]
) -> dict[str, Float[Array, "b s s c"]]:
    """Returns a random view of each image; all sensors of a place share crop, flips and turn."""
    crop_key, turn_key, colour_key = jax.random.split(key, 3)
    boxes = random_boxes(crop_key, _batch(images), augment.crop_scale, augment.crop_ratio)
    turn = random_turns(turn_key, _batch(images), augment)
    is_whole = augment.crop_scale == (1.0, 1.0)
    views = {}
    for number, (sensor, given) in enumerate(spec.inputs.items()):
        view = _fit(standardise(images[sensor], given), boxes, spec.image_size, is_whole)
        view = change_radiometry(jax.random.fold_in(colour_key, number), view, augment)
        views[sensor] = apply_turns(view, turn)
    return views


def standardise(image: Shaped[Array, "b h w _"], given: SensorInput) -> Float[Array, "b h w c"]:
    """Returns (x - mean) / std of the chosen bands; unknown pixels become the mean.

    With `clip` what lies further than so many std from the mean is cut off, and the rest of that
    range brought to 0..1, where the mean is 0.5.
    """
    chosen = image[..., jnp.array(given.bands)].astype(jnp.float32)
    known = jnp.ones(chosen.shape, bool) if given.nodata is None else chosen != given.nodata
    if given.mean:
        mean, std = (jnp.array(values)[None, None, None] for values in (given.mean, given.std))
    else:
        mean = chosen.mean((1, 2), where=known, keepdims=True)
        std = jnp.maximum(chosen.std((1, 2), where=known, keepdims=True), STD_FLOOR)
    value = jnp.where(known, (chosen - mean) / std, 0.0)
    if given.clip is None:
        return value
    return (jnp.clip(value, -given.clip, given.clip) + given.clip) / (2 * given.clip)


def random_boxes(
    key: Key[Array, ""], batch: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Boxes:
    """Draws crops of uniform area and log-uniform aspect ratio, anywhere inside the image."""
    if scale == (1.0, 1.0):
        return jnp.tile(jnp.array([[0.0, 0.0, 1.0, 1.0]]), (batch, 1))
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (batch,), minval=scale[0], maxval=scale[1])
    low, high = (jnp.log(jnp.float32(edge)) for edge in ratio)
    aspect = jnp.exp(jax.random.uniform(ratio_key, (batch,), minval=low, maxval=high))
    sides = jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)], axis=1)
    sides = jnp.minimum(sides, 1.0)
    corner = jax.random.uniform(place_key, (batch, 2)) * (1 - sides)
    return jnp.concatenate([corner, sides], axis=1)


def resample(image: Float[Array, "b h w c"], boxes: Boxes, size: int) -> Float[Array, "b s s c"]:
    """Brings each image's box to `size` pixels a side by antialiased bicubic interpolation."""
    pixels = jnp.array(image.shape[1:3], jnp.float32)[None]
    scale = size / (boxes[:, 2:] * pixels)
    shift = -boxes[:, :2] * pixels * scale
    shape = (size, size, image.shape[-1])
    one = partial(jax.image.scale_and_translate, shape=shape, spatial_dims=(0, 1), method="cubic")
    return jax.vmap(lambda image, scale, shift: one(image, scale=scale, translation=shift))(
        image, scale, shift
    )


def random_turns(key: Key[Array, ""], batch: int, augment: Augment) -> Bool[Array, "b 3"]:
    """Draws, for each image, whether to mirror rows, mirror columns, and swap the two axes."""
    flip_key, quarter_key = jax.random.split(key)
    flips = jax.random.bernoulli(flip_key, shape=(batch, 2)) & augment.flip
    quarters = jax.random.randint(quarter_key, (batch,), 0, 4 if augment.rotate else 1)
    return jnp.array(QUARTER_TURNS, bool)[quarters] ^ jnp.pad(flips, ((0, 0), (0, 1)))


def apply_turns(
    image: Float[Array, "b s s c"], turns: Bool[Array, "b 3"]
) -> Float[Array, "b s s c"]:
    """Mirrors and transposes square images; all eight ways of laying a tile down are reached."""
    flips = (lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: x.transpose(0, 2, 1, 3))
    for number, flip in enumerate(flips):
        image = jnp.where(turns[:, number, None, None, None], flip(image), image)
    return image


def change_radiometry(
    key: Key[Array, ""], image: Float[Array, "b s s c"], augment: Augment
) -> Float[Array, "b s s c"]:
    """Scales and shifts each image, all bands alike and each by itself, as light and haze do."""
    if not (augment.gain or augment.offset or augment.band_gain or augment.band_offset):
        return image
    b, *_, c = image.shape
    shared, single = jax.random.split(key)
    gain, offset = jax.random.normal(shared, (2, b, 1, 1, 1))
    band_gain, band_offset = jax.random.normal(single, (2, b, 1, 1, c))
    gain = jnp.exp(augment.gain * gain + augment.band_gain * band_gain)
    return image * gain + augment.offset * offset + augment.band_offset * band_offset


def _fit(
    image: Float[Array, "b h w c"], boxes: Boxes, size: int, is_whole: bool
) -> Float[Array, "b s s c"]:
    return image if is_whole and image.shape[1:3] == (size, size) else resample(image, boxes, size)


def _batch(images: Images) -> int:
    return len(next(iter(images.values())))
