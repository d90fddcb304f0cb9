"""One encoder's weights made to fit another grid of patches and other bands.

Positions are interpolated over the grid: bicubic (Keys, a = -0.5), without antialiasing.

Bands: one that both know keeps its filters; any other gets the mean of all filters. Then all are
multiplied by old bands / new bands, so that the sum over the bands keeps its size.
"""

import math
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Float

from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.models.arrays import named_arrays, with_arrays
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.encoder import abstract_encoder, load_bundle
from rejepa_jax.retrieval.weights.vit_names import position_table
from rejepa_jax.types import DataError

COLOURS = {  # the bands that look red, green and blue are the same band in any sensor
    band: colour
    for sensor in SENSORS.values()
    for band, colour in zip(sensor.natural_colour, ("red", "green", "blue"), strict=False)
}
KEPT = {  # what has to be equal, and the array that shows it
    "patch_size": "patch_embed/kernel",
    "embed_dim": "patch_embed/kernel",
    "depth": "blocks/norm1/scale",
    "mlp_ratio": "blocks/mlp/up/kernel",
    "num_heads": "blocks/attention/qkv/kernel",
    "class_token": "class_token",
}


def load_initial(directory: pathlib.Path, spec: EncoderSpec, bands: Sequence[str]) -> Encoder:
    """Returns a bundle's encoder made to fit a run's sizes and bands, to start training from.

    Raises:
        FileNotFoundError: there is no bundle.
        DataError: its sizes are not those of `spec`; names the array.
    """
    bundle = load_bundle(directory)
    known = [bundle.record.bands[i] for i in bundle.preprocess.inputs[bundle.sensor].bands]
    encoder, notes = adapt(bundle.encoder, spec, known, bands, str(directory))
    for note in [f"starting from {bundle.name} of {directory}", *notes]:
        logging.info("%s", note)
    return encoder


def adapt(
    encoder: Encoder, spec: EncoderSpec, old: Sequence[str], new: Sequence[str], source: str
) -> tuple[Encoder, list[str]]:
    """Returns the encoder with the bands `new` and the positions of `spec`, and what was done.

    Raises:
        DataError: another size differs, or learned positions would have to become fixed ones.
    """
    for field, array in KEPT.items():
        got, expected = getattr(encoder.spec, field), getattr(spec, field)
        if got != expected:
            raise DataError(
                f"{source}: array {array!r} has {field} {got}, expected {expected}; set "
                f"config.model.{field} to {got}, or give other weights"
            )
    if (encoder.spec.positions, spec.positions) == ("learned", "fixed"):
        raise DataError(
            f"{source}: array 'positions' is a learned table, expected the fixed sine-cosine one; "
            "set config.model.positions to learned, or give other weights"
        )
    arrays = named_arrays(encoder)
    kernel = adapt_bands(np.asarray(arrays["patch_embed/kernel"]), old, new)
    arrays["patch_embed/kernel"] = jnp.asarray(kernel)
    if spec.positions == "learned":
        table = jnp.asarray(position_table(encoder))
        arrays["positions"] = interpolate(table, spec.grid_size)
    notes = [_band_note(old, new), *_position_notes(encoder.spec, spec)]
    return with_arrays(abstract_encoder(spec), arrays, source), notes


def adapt_bands(
    kernel: Float[np.ndarray, "p d"], old: Sequence[str], new: Sequence[str]
) -> Float[np.ndarray, "p2 d"]:
    """Returns a patch embedding's kernel, rows in the order (row, column, band), for new bands."""
    filters = kernel.reshape(-1, len(old), kernel.shape[1])
    place = {_colour(name): number for number, name in enumerate(old)}
    mean = filters.mean(1)
    chosen = [filters[:, place[_colour(name)]] if _colour(name) in place else mean for name in new]
    scaled = np.stack(chosen, 1) * (len(old) / len(new))
    return scaled.reshape(-1, kernel.shape[1])


def interpolate(table: Float[Array, "n d"], grid_size: int) -> Float[Array, "n2 d"]:
    """Returns a square table of positions for a grid of another size."""
    old = math.isqrt(len(table))
    if old == grid_size:
        return table
    grid = table.reshape(old, old, -1)
    shape = (grid_size, grid_size, grid.shape[2])
    return jax.image.resize(grid, shape, "cubic", antialias=False).reshape(grid_size**2, -1)


def _colour(band: str) -> str:
    return COLOURS.get(band, band)


def _band_note(old: Sequence[str], new: Sequence[str]) -> str:
    if tuple(old) == tuple(new):
        return f"bands: {', '.join(new)}, as they are"
    source = {_colour(name): name for name in old}
    kept = [f"{name} from {source[_colour(name)]}" for name in new if _colour(name) in source]
    mean = [name for name in new if _colour(name) not in source]
    parts = [", ".join(kept)] * bool(kept) + [f"{', '.join(mean)} from the mean"] * bool(mean)
    return f"bands: {'; '.join(parts)}; all times {len(old)}/{len(new)}"


def _position_notes(old: EncoderSpec, new: EncoderSpec) -> list[str]:
    if (old.positions, old.grid_size) == (new.positions, new.grid_size):
        return []
    grids = f"{old.grid_size} x {old.grid_size} -> {new.grid_size} x {new.grid_size}"
    if new.positions == "fixed":
        return [f"positions: sine-cosine, computed anew for the grid: {grids}"]
    how = "" if old.grid_size == new.grid_size else f", interpolated {grids} (bicubic)"
    return [f"positions: learned ones from {old.positions} ones{how}"]
