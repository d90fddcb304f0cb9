"""Block masks beside their law: rectangles, static lengths, validity, and the published quirks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import QUICK

from rejepa_jax.config import Mask, base_config
from rejepa_jax.methods import blocks, masking
from rejepa_jax.presets import PRESETS
from rejepa_jax.resolve import resolve

IMAGES, GRID = 512, 14
BLOCKS = Mask(strategy="multiblock", num_target_groups=4)
LONG = Mask(strategy="multimask")


sample = jax.jit(masking.sample_masks, static_argnums=(1, 2, 3), compiler_options=QUICK)


def draw(mask, seed=0, images=IMAGES):
    return jax.tree.map(np.asarray, sample(jax.random.key(seed), images, GRID, mask))


def sets(indices, valid):
    """The valid entries of the last axis, as a map of the grid."""
    out = np.zeros((*indices.shape[:-1], GRID**2), bool)
    np.put_along_axis(out, np.where(valid, indices, indices[..., :1]), True, axis=-1)
    return out


@pytest.fixture(scope="module", params=["fixed", "faithful"])
def law(request):
    return request.param


@pytest.fixture(scope="module")
def drawn(law):
    (masks,) = draw(dataclasses.replace(BLOCKS, block_law=law))
    return masks


def test_every_target_is_a_rectangle_of_one_size_inside_the_grid(drawn):
    maps = sets(drawn["target"], drawn["target_valid"]).reshape(-1, GRID, GRID)
    sizes = set()
    for image in maps:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert image.sum() == height * width
        sizes.add((height, width))
    ((height, width),) = sizes  # one size a step, for all images and blocks
    # Area 0.15 to 0.2 of 196 tokens, sides rounded; aspect 0.75 to 1.5.
    assert 24 <= height * width <= 44
    assert 0.6 < height / width < 1.8


def test_context_and_targets_are_disjoint(drawn):
    context = sets(drawn["context"], drawn["context_valid"])
    targets = sets(drawn["target"], drawn["target_valid"]).any(1)
    assert not (context & targets).any()
    assert context.sum(1).min() >= 10  # min_context


def test_indices_of_an_image_are_distinct(drawn):
    for name in ("context", "target"):
        ordered = np.sort(drawn[name], axis=-1)
        assert (np.diff(ordered, axis=-1) > 0).all()


def test_context_is_what_its_block_leaves(law):
    # A context block of the whole grid (`fixed`) leaves exactly the complement of the targets.
    mask = dataclasses.replace(BLOCKS, context_scale=(1.0, 1.0), block_law=law)
    (masks,) = draw(mask)
    context = sets(masks["context"], masks["context_valid"])
    rest = ~sets(masks["target"], masks["target_valid"]).any(1)
    if law == "fixed":
        np.testing.assert_array_equal(context, rest)
    else:  # the published block is one smaller, and lies in the upper left corner
        inside = np.zeros((GRID, GRID), bool)
        inside[:-1, :-1] = True
        np.testing.assert_array_equal(context, rest & inside.ravel())


@pytest.mark.parametrize(("law", "places"), [("fixed", 11), ("faithful", 10)])
def test_positions_are_uniform_over_those_the_law_allows(law, places):
    """Blocks of 4 x 4: 11 places a side; the published code never touches the last row."""
    scale = (16 / 196 + 1e-6,) * 2
    rule = blocks.Law(GRID, scale, (1.0, 1.0), law == "faithful")
    maps = np.asarray(blocks.draw(jax.random.key(1), 4096, 1, rule)).reshape(-1, GRID, GRID)
    for axis in (1, 2):
        first = maps.any(3 - axis).argmax(1)
        counts = np.bincount(first, minlength=places)
        assert len(counts) == places
        chi_square = ((counts - 4096 / places) ** 2 / (4096 / places)).sum()
        assert chi_square < 29.6  # 10 degrees of freedom: one draw in a thousand


def test_faithful_ties_scale_to_aspect():
    """One random number: the largest area comes with the largest aspect, and no other."""
    tied, free = (
        blocks.Law(GRID, (0.15, 0.2), (0.75, 1.5), faithful) for faithful in (True, False)
    )
    first, second = jnp.float32(0.999), jnp.float32(0.0)
    assert [int(side) for side in tied.size(first, second)] == [8, 5]  # 39 tokens at 1.5
    assert [int(side) for side in free.size(first, second)] == [5, 7]  # 39 tokens at 0.75


def test_static_lengths_are_the_maxima_of_the_law():
    rule = blocks.Law(GRID, (0.15, 0.2), (0.75, 1.5), faithful=False)
    areas = set()
    for first in np.linspace(0, 0.9999, 60):
        for second in np.linspace(0, 0.9999, 60):
            area = np.floor(196 * (0.15 + 0.05 * first))
            aspect = 0.75 + 0.75 * second
            areas.add(round(np.sqrt(area * aspect)) * round(np.sqrt(area / aspect)))
    assert (rule.smallest, rule.largest) == (min(areas), max(areas))
    ((context, groups, targets),) = masking.mask_sizes(GRID, BLOCKS)
    assert (groups, targets) == (4, max(areas))
    assert context == 196 - min(areas)


@pytest.mark.parametrize(("law", "is_first"), [("faithful", True), ("fixed", False)])
def test_a_shortened_context_keeps_the_first_tokens_or_random_ones(law, is_first):
    whole = dataclasses.replace(BLOCKS, block_law=law)
    short = dataclasses.replace(whole, context_ratio=0.2)
    full, cut = draw(whole)[0], draw(short)[0]
    assert cut["context"].shape[1] == 39  # 39.2
    kept, all_of = (sets(m["context"], m["context_valid"]) for m in (cut, full))
    assert (kept <= all_of).all()
    heads = [
        np.array_equal(np.flatnonzero(k), np.flatnonzero(a)[:39])
        for k, a in zip(kept, all_of, strict=True)
    ]
    assert np.mean(heads) == 1 if is_first else np.mean(heads) < 0.2


def test_a_context_too_small_is_drawn_again():
    # Small context blocks that must keep 12 of 16 tokens beside a target: few first draws do.
    mask = dataclasses.replace(
        BLOCKS, num_target_groups=1, context_scale=(0.08, 0.1), min_context=12, block_law="fixed"
    )
    kept = draw(mask)[0]["context_valid"].sum(1)
    assert np.mean(kept >= 12) > 0.99
    once = draw(dataclasses.replace(mask, min_context=0))[0]["context_valid"].sum(1)
    assert np.mean(once >= 12) < 0.9


def test_long_masks_are_a_union_and_its_complement(law):
    several = draw(dataclasses.replace(LONG, block_law=law, min_context=0))
    assert len(several) == 2
    for masks, share in zip(several, (0.15, 0.7), strict=True):
        context = sets(masks["context"], masks["context_valid"])
        target = sets(masks["target"], masks["target_valid"])[:, 0]
        np.testing.assert_array_equal(context, ~target)
        assert target.sum(1).min() >= 0.8 * share * 196


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"mae"}))
def test_no_preset_shows_what_it_asks_for(preset):
    for masks in draw(resolve(base_config(preset)).mask, images=64):
        flags = [masks[f"{part}_valid"] for part in ("context", "target")]
        valid = [
            np.ones(masks[part].shape, bool) if flag is None else flag
            for part, flag in zip(("context", "target"), flags, strict=True)
        ]
        context = sets(masks["context"], valid[0])
        target = sets(masks["target"], valid[1]).any(1)
        assert not (context & target).any()
        assert context.any(1).all()
        assert target.any(1).all()


@pytest.mark.parametrize("disjoint", ["context_minus_target", "none"])
def test_context_drawn_by_itself(disjoint):
    mask = Mask(disjoint=disjoint, context_ratio=0.5, target_ratio=0.25)
    (masks,) = draw(mask)
    targets = sets(masks["target"], np.ones(masks["target"].shape, bool)).any(1)
    if disjoint == "none":
        assert masks["context_valid"] is None
        context = sets(masks["context"], np.ones(masks["context"].shape, bool))
        # 98 tokens drawn, of which a quarter are expected to be targets too.
        assert (context & targets).sum(1).mean() == pytest.approx(24.5, abs=1)
    else:
        context = sets(masks["context"], masks["context_valid"])
        assert not (context & targets).any()
        assert context.sum(1).mean() == pytest.approx(73.5, abs=1)


def test_groups_share_out_the_targets_and_a_smaller_context_is_part_of_the_larger():
    mask = Mask(num_target_groups=7, context_ratio=0.25)
    (masks,) = draw(mask)
    assert masks["target"].shape == (IMAGES, 7, 7)
    assert masks["context"].shape == (IMAGES, 49)
    both = np.concatenate([masks["context"], masks["target"].reshape(IMAGES, -1)], axis=1)
    assert (np.diff(np.sort(both, axis=1), axis=1) > 0).all()
    (whole,) = draw(Mask())
    np.testing.assert_array_equal(whole["context"][:, :49], masks["context"])
