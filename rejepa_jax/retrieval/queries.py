"""What is asked for, and how several examples become one vector."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from rejepa_jax.types import ConfigError, DataError

NEGATIVE_WEIGHT = 0.5
LEAST_LENGTH = 1e-3  # of combined examples: below, what is left of them is chance

Image = Shaped[np.ndarray, "h w c"]
Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """Examples of what is wanted, and of what is not; any of them may be left out but not all.

    Images are paths, or pixels in the sensor's own units. `crop` is a part x0, y0, x1, y1 in
    pixels, x to the right, y down, x1 and y1 beyond its last pixel: of the one image, or of the
    one positive id, whose pixels are then read from the records. `point` is a longitude and
    latitude, and stands for the image whose middle is nearest to it.
    """

    positive: tuple[str, ...] = ()  # ids
    negative: tuple[str, ...] = ()
    images: tuple[Path | Image, ...] = ()
    vectors: tuple[Float[np.ndarray, " d"], ...] = ()
    crop: Box | None = None
    point: tuple[float, float] | None = None
    mode: str = "resize"  # of images of another size: central square | grid of patches, averaged
    fingerprint: str = ""  # of the encoder that made the vectors, where it is known


def combine(
    positives: Float[np.ndarray, "p d"], negatives: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, " d"]:
    """Returns mean(positives) - 0.5 mean(negatives), of length 1 (Rocchio).

    Raises:
        ConfigError: there is no positive one, or they cancel each other out.
    """
    if not len(positives):
        raise ConfigError(
            "got no example of what to look for, expected an image, an id, a vector or a point; "
            "add one, as negative examples only weaken others"
        )
    vector = positives.mean(axis=0)
    if len(negatives):
        vector = vector - NEGATIVE_WEIGHT * negatives.mean(axis=0)
    length = float(np.linalg.norm(vector))
    if length < LEAST_LENGTH:
        raise ConfigError(
            f"got examples that cancel each other out (length {length:.1e}), expected some that "
            "have something in common; leave one of them out"
        )
    return (vector / length).astype(np.float32)


def read_vectors(path: Path) -> tuple[tuple[Float[np.ndarray, " d"], ...], str]:
    """Reads vectors and the fingerprint of what made them, "" where the file does not say.

    A .npy holds [d] or [n d] numbers; a .npz those as `vectors`, and `fingerprint`.

    Raises:
        DataError: it is no such file.
    """
    try:
        found, mark = np.load(path, allow_pickle=False), ""
        if not isinstance(found, np.ndarray):
            with found as file:
                found = file["vectors"]
                mark = str(file["fingerprint"]) if "fingerprint" in file else ""
        if found.dtype.kind not in "fiu":  # of complex numbers half would go, in silence
            raise ValueError(f"numbers of the type {found.dtype}")
        vectors = np.asarray(found, np.float32)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: got {error}, expected vectors as .npy, or .npz with `vectors` and "
            "`fingerprint`; save them so"
        ) from error
    if vectors.ndim not in (1, 2) or not vectors.size:
        raise DataError(f"{path}: got the shape {vectors.shape}, expected [d] or [n d]")
    return tuple(np.atleast_2d(vectors)), mark
