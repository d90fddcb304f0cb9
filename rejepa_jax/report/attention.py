"""Where encoders look, as heat over the image: the last layer's attention, and roll-out.

Heat is in even shares: 1 where a patch gets as much as it would if all got alike. One scale holds
for all pictures, so that colours can be compared between images, encoders and runs.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8
from matplotlib.colors import to_hex
from PIL import Image

from rejepa_jax.data import sensors
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.data.preprocess import Preprocess, SensorInput, plain_view
from rejepa_jax.models.attention import attention_maps, last_attention, rollout
from rejepa_jax.models.vit import Encoder
from rejepa_jax.report import gallery
from rejepa_jax.retrieval.encoder import Bundle

KINDS = ("last layer", "roll-out")
SIZE = 192  # pixels of a picture's side
COLOURS = "viridis"  # perceptually uniform, and legible to those who see no red or no green
DOUBLINGS = 3  # the scale's ends are this many halvings and doublings away from an even share
WEIGHT = 0.6  # of the heat's colour; the rest is the image in grey

Heat = Float[np.ndarray, "g g"]


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """One encoder's heat over one image."""

    encoder: str
    kind: str
    shares: Heat
    uri: str  # data: URI of a JPEG

    @property
    def peak(self) -> str:
        """Where the hottest patch is, in words."""
        row, column = np.unravel_index(self.shares.argmax(), self.shares.shape)
        return f"row {row + 1}, column {column + 1} of {len(self.shares)}"


@dataclasses.dataclass(frozen=True)
class Attended:
    """An image as an encoder sees it, and each encoder's heat over it, kind by kind."""

    picture: gallery.Picture
    heats: tuple[HeatMap, ...]


def show_attention(
    bundles: Mapping[str, Bundle], records: RecordSet, rows: Sequence[int] | np.ndarray
) -> list[Attended]:
    """Returns each row's image, and over it the heat of every encoder, which the keys name."""
    return [_attend(bundles, records, int(row)) for row in rows]


def _attend(bundles: Mapping[str, Bundle], records: RecordSet, row: int) -> Attended:
    (example,) = records.read_examples([row])
    seen = {name: look(bundle, example.images[bundle.sensor]) for name, bundle in bundles.items()}
    heats = tuple(
        HeatMap(name, kind, shares[kind], overlay(picture, shares[kind]))
        for kind in KINDS
        for name, (picture, shares) in seen.items()
    )
    picture, _ = next(iter(seen.values()))
    uri = gallery.data_uri(_fit(Image.fromarray(picture)))
    return Attended(gallery.labelled(example, records, uri), heats)


def look(
    bundle: Bundle, image: Shaped[np.ndarray, "h w c"]
) -> tuple[UInt8[np.ndarray, "s s 3"], dict[str, Heat]]:
    """Returns the image as the encoder sees it, made visible, and its heat by kind."""
    given = bundle.preprocess.inputs[bundle.sensor]
    view, *shares = _look(bundle.encoder, image[None], given, bundle.preprocess.image_size)
    grid, count = bundle.encoder.spec.grid_size, bundle.encoder.spec.num_tokens
    heats = [np.asarray(share).reshape(grid, grid) * count for share in shares]
    pixels = np.asarray(view)[0]
    if given.mean:
        pixels = pixels * np.array(given.std) + np.array(given.mean)
        if bundle.record.dtype == "uint8":
            pixels = np.rint(pixels).clip(0, 255).astype(np.uint8)
    bands = [bundle.record.bands[band] for band in given.bands]
    return sensors.picture(pixels, bands), dict(zip(KINDS, heats, strict=True))


@partial(jax.jit, static_argnames=("given", "size"))
def _look(
    encoder: Encoder, image: Shaped[Array | np.ndarray, "b h w _"], given: SensorInput, size: int
) -> tuple[Float[Array, "b s s c"], Float[Array, "b n"], Float[Array, "b n"]]:
    (view,) = plain_view({"": jnp.asarray(image)}, Preprocess(size, {"": given})).values()
    maps, has_class_token = attention_maps(encoder, view), encoder.spec.class_token
    return view, last_attention(maps, has_class_token), rollout(maps, has_class_token)


def overlay(picture: UInt8[np.ndarray, "s s 3"], heat: Heat) -> str:
    """Lays heat as colour over the image in grey; both are brought to one size."""
    level = np.log2(np.maximum(heat, 2.0**-DOUBLINGS)) / (2 * DOUBLINGS) + 0.5  # an even share: ½
    smooth = np.asarray(_fit(Image.fromarray(level.astype(np.float32)))).clip(0, 1)
    colours = matplotlib.colormaps[COLOURS](smooth, bytes=True)[..., :3]
    grey = _fit(Image.fromarray(picture)).convert("L").convert("RGB")
    return gallery.data_uri(Image.blend(grey, Image.fromarray(colours), WEIGHT))


def _fit(picture: Image.Image) -> Image.Image:
    return picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def ramp() -> str:
    """Returns the colours from cold to hot as a CSS gradient."""
    stops = matplotlib.colormaps[COLOURS](np.linspace(0, 1, 9))
    return f"linear-gradient(to right, {', '.join(map(to_hex, stops))})"
