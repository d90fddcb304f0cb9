"""How alike queries and gallery rows are, by the type that the gallery is stored in; traced."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped, UInt32

from rejepa_jax.types import DataError

BITS = 32


def likeness(
    queries: Shaped[Array | np.ndarray, "q w"],
    gallery: Shaped[Array | np.ndarray, "r w"],
    scale: Float[Array | np.ndarray, " r"] | None,
) -> Float[Array, "q r"]:
    """Returns inner products; of uint32 words, equal bits less different ones.

    A bfloat16 gallery is multiplied as such, others in float32.
    """
    if gallery.dtype == np.uint32:
        return _equal_bits(jnp.asarray(queries), jnp.asarray(gallery))
    kind = jnp.bfloat16 if gallery.dtype == jnp.bfloat16 else jnp.float32
    # TPUs and GPUs would else round float32.
    precision = jax.lax.Precision.HIGHEST if kind == jnp.float32 else None
    scores = jnp.matmul(
        jnp.asarray(queries, kind),
        jnp.asarray(gallery, kind).T,
        precision=precision,
        preferred_element_type=jnp.float32,
    )
    scores = scores if scale is None else scores * scale[None, :]
    return jnp.where(scores == 0, 0.0, scores)  # -0.0 would rank below 0.0: no tie


def refuse_infinite(is_finite: Bool[Array | np.ndarray, ""] | np.bool_) -> None:
    """Raises a DataError unless all scores were finite."""
    if not is_finite:
        raise DataError(
            "gallery: got scores that are not finite, expected finite vectors; look for NaN in it"
        )


def _equal_bits(
    queries: UInt32[Array, "q w"], gallery: UInt32[Array, "r w"]
) -> Float[Array, "q r"]:
    different = jnp.zeros((len(queries), len(gallery)), jnp.uint32)
    for word in range(gallery.shape[1]):  # one plane of words at a time runs in vectors
        plane = queries[:, word][:, None] ^ gallery[:, word][None, :]
        different = different + jax.lax.population_count(plane)
    return (BITS * gallery.shape[1] - 2 * different.astype(jnp.int32)).astype(jnp.float32)
