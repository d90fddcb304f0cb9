"""Which tokens are seen and which are predicted: drawn on the device, sizes fixed beforehand."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from rejepa_jax.types import Masks


def token_counts(num_tokens: int, target_ratio: float) -> tuple[int, int]:
    """Returns how many tokens are context and how many are targets: 147 and 49 of 196 at 0.25."""
    targets = int(target_ratio * num_tokens)
    return num_tokens - targets, targets


def sample_masks(key: Key[Array, ""], batch: int, num_tokens: int, target_ratio: float) -> Masks:
    """Splits a random permutation of each image's tokens into context and one target group.

    Context and target are disjoint and together cover the grid (paper 3.3, "disjoint random
    masking"), and every split of these sizes is equally likely.
    """
    num_context, _ = token_counts(num_tokens, target_ratio)
    order = jnp.argsort(jax.random.uniform(key, (batch, num_tokens)), axis=1)
    return {"context": order[:, :num_context], "target": order[:, None, num_context:]}
