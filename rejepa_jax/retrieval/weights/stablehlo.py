"""A bundle as one StableHLO module: native pixels in, descriptors out, to run without this package.

Weights, preprocessing and pooling are constants inside; `jax.export` wraps it and runs it again.
"""

import jax
from jax import export
from jaxtyping import Array, Float, Shaped

from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.retrieval.encoder import Bundle, embed
from rejepa_jax.types import ConfigError

PLATFORMS = ("cpu", "cuda", "tpu")
MOST_BYTES = 2**31 - 2**20  # what the container can address, less the program around the weights


def to_stablehlo(bundle: Bundle) -> bytes:
    """Returns the module for a batch of any size; raises a ConfigError where it is too large."""
    size = 4 * count_parameters(bundle.encoder)
    if size > MOST_BYTES:
        raise ConfigError(
            f"encoder {bundle.name!r} has {size / 1e9:.1f} GB of weights, expected at most "
            f"{MOST_BYTES / 1e9:.1f} in a StableHLO file; pass its bundle on instead"
        )

    def embed_one(image: Shaped[Array, "h w c"]) -> Float[Array, " d"]:
        images = {bundle.sensor: image[None]}
        return embed(bundle.encoder, images, bundle.preprocess, bundle.pool)[0]

    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *bundle.record.shape), bundle.record.dtype)
    # One image at a time, mapped: only the map has to know that the batch has no size yet.
    exported = export.export(jax.jit(jax.vmap(embed_one)), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())
