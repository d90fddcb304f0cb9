"""Images of any size, as the encoder takes them: read, checked, cropped, resampled or cut up."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.bigearthnet import archive as bigearthnet
from rejepa_jax.retrieval.encoder import Bundle, Embedder
from rejepa_jax.retrieval.queries import Box, Image, combine
from rejepa_jax.types import ConfigError, DataError

MAX_PATCHES = 1024
AT_ONCE = 16
MODES = ("resize", "grid")


def read_query(path: Path, bundle: Bundle) -> Image:
    """Reads an image file, or a BigEarthNet patch directory, as the bundle's encoder takes it.

    An image of another size is cut to its central square and resampled to the records' size, so
    that square should cover about as much ground as an image of the archive.

    Raises:
        ConfigError: it has other bands or another dtype than the encoder's images.
        DataError: it cannot be read, or holds numbers that are not finite.
    """
    return patches(read_image(path, bundle), bundle, "resize", str(path))[0][0]


def read_image(path: Path, bundle: Bundle) -> Image:
    """Reads the same in its own size."""
    if path.is_dir():
        found = bigearthnet.read_patch(path)
        if bundle.sensor not in found:
            raise ConfigError(
                f"{path} holds bands of {sorted(found)}; the encoder takes {bundle.sensor!r} "
                f"({', '.join(bundle.record.bands)}): give a patch of that sensor"
            )
        image = found[bundle.sensor]
    elif path.exists():
        image = rasters.read_image(path.read_bytes(), str(path))
    else:
        raise DataError(f"{path}: no such file; give an image file or a patch directory")
    check_image(image, bundle, str(path))
    return image


def check_image(image: Shaped[np.ndarray, "..."], bundle: Bundle, name: str) -> None:
    """Refuses pixels that the encoder cannot take, whatever their number.

    Raises:
        ConfigError: other bands or another dtype.
        DataError: pixels that are not finite, or none that is known.
    """
    given, record = (image.shape[-1], str(image.dtype)), bundle.record
    wanted = (len(record.bands), record.dtype)
    if image.ndim != 3 or given != wanted:
        raise ConfigError(
            f"{name} has {given[0]} bands of {given[1]}; the encoder takes {wanted[0]} bands of "
            f"{wanted[1]} ({', '.join(record.bands)}): give an image of sensor "
            f"{bundle.sensor!r} in the archive's own units"
        )
    if not np.isfinite(image).all():
        raise DataError(f"{name}: {(~np.isfinite(image)).sum()} pixels are not finite; fill them")


def crop(image: Image, box: Box, name: str) -> Shaped[np.ndarray, "_ _ c"]:
    """Returns the part x0, y0, x1, y1 of an image; a ConfigError if it is not within it."""
    height, width, _ = image.shape
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ConfigError(
            f"{name}: got crop {x0},{y0},{x1},{y1}, expected x0 < x1 within 0 to {width} and "
            f"y0 < y1 within 0 to {height}, in pixels; correct it"
        )
    return image[y0:y1, x0:x1]


def patches(
    image: Image, bundle: Bundle, mode: str, name: str
) -> tuple[Shaped[np.ndarray, "p _ _ c"], str]:
    """Returns an image of any size as images of the records' size, and a sentence of what was done.

    `resize`: the central square, resampled. `grid`: an image larger than a record as the fewest
    patches that cover it, evenly spread, without those of no-data; a smaller one as with `resize`.

    Raises:
        ConfigError: another mode, or too many patches.
        DataError: no pixel is known.
    """
    if mode not in MODES:
        raise ConfigError(f"got mode {mode!r}, expected {' or '.join(MODES)}; choose one")
    (height, width, _), shape = image.shape, bundle.record.shape
    nodata = bundle.preprocess.inputs[bundle.sensor].nodata
    is_larger = height >= shape[0] and width >= shape[1]
    if image.shape == shape:
        cut, note = image[None], ""
    elif mode == "grid" and is_larger:
        cut = _grid(image, shape[0], shape[1], name)
        note = f"{name}: {len(cut)} patches of {shape[0]} x {shape[1]} pixels, descriptors averaged"
    else:
        cut = rasters.fit(rasters.Raster(image), shape[0], nodata).array[None]
        side = min(height, width)
        central = f"its central {side} x {side} of " if height != width else ""
        note = f"{name}: {central}{height} x {width} pixels, resampled"
    known = np.ones(len(cut), bool) if nodata is None else (cut != nodata).any(axis=(1, 2, 3))
    if not known.any():
        raise DataError(f"{name}: got no-data ({nodata}) alone, expected an image; give another")
    return cut[known], note


def _grid(image: Image, height: int, width: int, name: str) -> Shaped[np.ndarray, "p _ _ c"]:
    starts = []
    for length, size in zip(image.shape[:2], (height, width), strict=True):
        starts.append(np.rint(np.linspace(0, length - size, -(-length // size))).astype(int))
    count = len(starts[0]) * len(starts[1])
    if count > MAX_PATCHES:
        raise ConfigError(
            f"{name}: got {count} patches of {height} x {width}, expected {MAX_PATCHES} at most; "
            "crop the image, or use the mode resize"
        )
    return np.stack([image[y : y + height, x : x + width] for y in starts[0] for x in starts[1]])


def embed(embedder: Embedder, cut: Shaped[np.ndarray, "p h w c"]) -> Float[np.ndarray, " d"]:
    """Returns the mean of the patches' descriptors, of length 1."""
    vectors = embed_each(embedder, cut)
    return combine(vectors, vectors[:0])


def embed_each(
    embedder: Embedder, images: Shaped[np.ndarray, "p h w c"]
) -> Float[np.ndarray, "p d"]:
    """Returns the descriptor of each image of the records' size."""
    size = AT_ONCE if len(images) > 1 else 1  # two shapes to compile for, not one a count
    vectors = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        padded = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])
        vectors.append(embedder({embedder.bundle.sensor: padded})[: len(part)])
    return np.concatenate(vectors)
