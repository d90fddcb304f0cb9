"""Which tokens are seen and which are predicted: drawn on the device, sizes fixed beforehand.

A strategy gives one pair of context and targets, or several (V-JEPA) over which the loss is
averaged. Where the number of tokens varies between images (blocks overlap), arrays have the largest
possible length, or `mask.context_ratio` of the grid, and say which of their entries are valid.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from rejepa_jax.config import Mask
from rejepa_jax.methods import blocks
from rejepa_jax.types import Masks

DRAWS = 8  # of a context, before the one with the most tokens is taken


def sample_masks(key: Key[Array, ""], batch: int, grid_size: int, mask: Mask) -> tuple[Masks, ...]:
    """Draws masks for a batch by the strategy that the settings name."""
    if mask.strategy == "multimask":
        keys = jax.random.split(key, len(mask.multimask))
        return tuple(
            complement_masks(key, batch, grid_size, mask, int(count), scale)
            for key, (count, scale) in zip(keys, mask.multimask, strict=True)
        )
    if mask.strategy == "multiblock":
        return (block_masks(key, batch, grid_size, mask),)
    return (random_masks(key, batch, grid_size**2, mask),)


def mask_sizes(grid_size: int, mask: Mask) -> list[tuple[int, int, int]]:
    """Returns the static (context tokens, target groups, tokens a group) of each drawn pair."""
    drawn = jax.eval_shape(lambda: sample_masks(jax.random.key(0), 1, grid_size, mask))
    return [(masks["context"].shape[1], *masks["target"].shape[1:]) for masks in drawn]


def token_counts(num_tokens: int, mask: Mask) -> tuple[int, int]:
    """Returns how many tokens random masks take as context and as targets: 147, 49 of 196."""
    targets = int(mask.target_ratio * num_tokens)
    ratio = mask.context_ratio
    return num_tokens - targets if ratio is None else int(ratio * num_tokens), targets


def random_masks(key: Key[Array, ""], batch: int, num_tokens: int, mask: Mask) -> Masks:
    """Takes tokens at random, every set of the wanted size equally likely.

    `partition` splits one permutation, so that context and targets are disjoint and, unless the
    context is sub-sampled, cover the grid (paper 3.3, "disjoint random masking");
    `context_minus_target` draws the context by itself and takes the targets out; `none` leaves
    them in.
    """
    num_context, num_targets = token_counts(num_tokens, mask)
    order = _random_order(key, batch, num_tokens)
    target = order[:, num_tokens - num_targets :].reshape(batch, mask.num_target_groups, -1)
    if mask.disjoint == "partition":
        return _all_valid(order[:, :num_context], target)
    drawn = _random_order(jax.random.fold_in(key, 1), batch, num_tokens)[:, :num_context]
    if mask.disjoint == "none":
        return _all_valid(drawn, target)
    free = ~_membership(target.reshape(batch, -1), num_tokens)
    context, valid = blocks.pack(free & _membership(drawn, num_tokens), num_context)
    return Masks(context=context, target=target, context_valid=valid, target_valid=None)


def _all_valid(context: Int[Array, "b k"], target: Int[Array, "b m t"]) -> Masks:
    return Masks(context=context, target=target, context_valid=None, target_valid=None)


def block_masks(key: Key[Array, ""], batch: int, grid_size: int, mask: Mask) -> Masks:
    """Takes blocks as targets and a large block without them as context (I-JEPA, multi-block)."""
    faithful = mask.block_law == "faithful"
    target_law = blocks.Law(grid_size, mask.target_scale, mask.target_aspect, faithful)
    context_law = blocks.Law(grid_size, mask.context_scale, (1.0, 1.0), faithful)
    target_key, context_key, pack_key = jax.random.split(key, 3)
    target = blocks.draw(target_key, batch, mask.num_target_groups, target_law)
    draws = blocks.draw(context_key, batch, DRAWS, context_law) & ~target.any(1, keepdims=True)
    context = _first_large_enough(draws, mask.min_context)
    most = min(context_law.largest, grid_size**2 - target_law.smallest)
    tie_key = None if faithful else pack_key
    target, target_valid = blocks.pack(target, target_law.largest)
    context, valid = blocks.pack(context, _limit(most, grid_size, mask), tie_key)
    return Masks(context=context, target=target, context_valid=valid, target_valid=target_valid)


def complement_masks(
    key: Key[Array, ""], batch: int, grid_size: int, mask: Mask, count: int, scale: float
) -> Masks:
    """Takes the union of `count` blocks as one target and all else as context (V-JEPA)."""
    faithful = mask.block_law == "faithful"
    law = blocks.Law(grid_size, (scale, scale), mask.target_aspect, faithful)
    block_key, pack_key = jax.random.split(key)
    drawn = blocks.draw(block_key, batch, DRAWS * count, law)
    draws = ~drawn.reshape(batch, DRAWS, count, grid_size**2).any(2)
    context = _first_large_enough(draws, mask.min_context)
    tie_key = None if faithful else pack_key
    target, target_valid = blocks.pack(~context[:, None], min(grid_size**2, count * law.largest))
    most = grid_size**2 - law.smallest
    context, valid = blocks.pack(context, _limit(most, grid_size, mask), tie_key)
    return Masks(context=context, target=target, context_valid=valid, target_valid=target_valid)


def _limit(most: int, grid_size: int, mask: Mask) -> int:
    """Returns the length of a context array: `most` tokens, or fewer where the settings say so."""
    return most if mask.context_ratio is None else min(most, int(mask.context_ratio * grid_size**2))


def _first_large_enough(draws: Bool[Array, "b c n"], minimum: int) -> Bool[Array, "b n"]:
    """Picks each image's first draw of at least `minimum` tokens, else the largest of them."""
    size = draws.sum(2)
    chosen = jnp.where((size >= minimum).any(1), (size >= minimum).argmax(1), size.argmax(1))
    return jnp.take_along_axis(draws, chosen[:, None, None], axis=1)[:, 0]


def _random_order(key: Key[Array, ""], batch: int, num_tokens: int) -> Int[Array, "b n"]:
    return jnp.argsort(jax.random.uniform(key, (batch, num_tokens)), axis=1)


def _membership(indices: Int[Array, "b k"], num_tokens: int) -> Bool[Array, "b n"]:
    return (indices[:, :, None] == jnp.arange(num_tokens)[None, None]).any(1)
