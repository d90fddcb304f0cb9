"""Whole training steps beside a derivation in plain numpy: loss, every gradient, average."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy_step
import numpy_vit
import optax
import pytest
from toys import QUICK, filled, toy_config

from rejepa_jax.data.preprocess import Preprocess
from rejepa_jax.methods import masking
from rejepa_jax.methods.build import build_method
from rejepa_jax.training import step as training_step
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import TrainState, new_state

# Six pixels are nine patches. The average moves by half of the way, so that it can be seen; Adam's
# epsilon is large, so that what is rounding noise in a gradient stays small in the update.
SMALL = {
    "data": {"image_size": 6},
    "model": {
        "patch_size": 2,
        "embed_dim": 8,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "predictor_dim": 4,
        "predictor_depth": 1,
    },
    "mae": {"decoder_dim": 4, "decoder_depth": 1, "decoder_heads": 2},
    "mask": {"target_ratio": 0.4},
    "ema": {"start": 0.5},
    "optim": {"eps": 1e-4},
}
# VICReg counts as much as the prediction.
FELT = {"weight": 0.1, "std_target": 1.5, "covariance_weight": 5.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "rejepa": ("rejepa", {"vicreg": FELT}),
    "rejepa_paper_literal": ("rejepa_paper_literal", {}),
    "mae": ("mae", {}),
    # Arrays with entries that are not valid; groups that are asked for one after the other.
    "blocks": (
        "ijepa_b16",
        {
            "model": {"class_token": True, "positions": "learned"},
            "mask": {
                "block_law": "fixed",
                "num_target_groups": 2,
                "target_scale": (0.25, 0.5),
                "context_scale": (0.6, 1.0),
                "context_ratio": None,
                "min_context": 2,
            },
            "vicreg": FELT | {"on": ("context", "prediction"), "invariance": "pred_target"},
        },
    ),
    "expander": (
        "vjepa_l1",
        {
            "model": {"query_attention": "independent"},
            "mask": {"multimask": ((2, 0.3), (1, 0.5)), "min_context": 2},
            "target": {"norm": "batch"},
            "vicreg": FELT
            | {
                "on": ("context_tokens", "prediction"),
                "expander": (6, 5),
                "invariance": "pred_target",
            },
        },
    ),
}
SLOW = {"expander": pytest.mark.slow}  # two pairs of masks: twice as much to compile
EVERY = [pytest.param(case, marks=SLOW.get(case, ())) for case in CASES]
STEPS = {"rejepa": 3, "rejepa_paper_literal": 3, "mae": 3, "blocks": 1, "expander": 1}
IMAGES = np.random.default_rng(8).normal(size=(3, 4, 6, 6, 2))  # steps, images


def attention(query, key, value, mask=None):
    """What `jax.nn.dot_product_attention` does, but for a softmax that is wider than float32."""
    scores = jnp.einsum("bqah,bkah->baqk", query, key) / np.sqrt(query.shape[-1])
    scores = scores if mask is None else jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("baqk,bkah->bqah", jax.nn.softmax(scores), value)


def view(images, _preprocess, _augment, key):
    """Stands in for the augmentation: noise, another one in each view."""
    return {name: x + 0.3 * jax.random.normal(key, x.shape, x.dtype) for name, x in images.items()}


def drawn(config, method, step, images):
    """The views of a step, one after the other, and its masks."""
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    view_key, loss_key = jax.random.split(key)
    views = [
        view({"s2": images}, None, None, key)["s2"]
        for key in jax.random.split(view_key, method.views)
    ]
    image = jnp.concatenate(views)
    if config.method == "mae":
        return image, (masking.random_masks(loss_key, len(image), 9, method.mask),)
    return image, masking.sample_masks(loss_key, len(image), 3, config.mask)


@dataclasses.dataclass
class Compared:
    """What a few steps gave (`ours`), and what they should give."""

    config: Any
    pairs: list
    ours: list
    expected: list
    start: dict


def compare(case, dtype, steps):
    """Makes the steps with the real `train_step` in some precision, and again in numpy."""
    preset, changes = CASES[case]
    groups = {name: SMALL.get(name, {}) | changes.get(name, {}) for name in SMALL | changes}
    config = toy_config(preset, **groups)
    method = build_method(config, bands=2)
    method = dataclasses.replace(method, encoder=dataclasses.replace(method.encoder, dtype=dtype))
    schedules = Schedules(config.optim, config.ema, config.train.steps)
    optimizer = make_optimizer(schedules)
    update = training_step.Update(
        method, optimizer, schedules, Preprocess(6, {}), config.augment, config.seed
    )
    state = filled(lambda: new_state(method, optimizer, 0), seed=5)
    params, average = (
        jax.tree.map(lambda x: np.asarray(x, dtype), tree) for tree in (state.params, state.average)
    )
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, dtype if x.ndim else x.dtype), state.opt_state)
    state = TrainState(np.zeros((), np.int32), params, average, zeros)
    arrays = numpy_vit.weights(state.params)
    average = None if state.average is None else numpy_vit.weights(state.average)

    run = jax.jit(partial(training_step.train_step, update=update), compiler_options=QUICK)
    draw = jax.jit(partial(drawn, config, method), compiler_options=QUICK)
    ours, batches = [], []
    for step in range(steps):
        images = np.asarray(IMAGES[step], dtype)
        batches.append(draw(step, images))
        batch = {"image": {"s2": images}, "id": np.arange(4), "valid": np.ones(4, bool)}
        state, metrics = run(state, batch)
        ours.append((metrics, state))
    images = [(np.asarray(image, np.float64), pairs) for image, pairs in batches]
    expected = list(numpy_step.train(config, arrays, average, images))
    return Compared(config, [pairs for _, pairs in batches], ours, expected, arrays)


@pytest.fixture(scope="module")
def compared():
    """Each case in float64, computed once."""
    known = {}

    def get(case):
        if case not in known:
            with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
                patch.setattr(training_step, "random_view", view)
                patch.setattr(jax.nn, "dot_product_attention", attention)
                known[case] = compare(case, "float64", STEPS[case])
        return known[case]

    return get


def gradient(state, optim):
    """The first step's gradient, from Adam's first moment."""
    moments = numpy_vit.weights(optax.tree.get(state.opt_state, "mu"))
    return {name: array / (1 - optim.beta1) for name, array in moments.items()}


def difference(got, want):
    """The norm of the difference beside that of what is expected."""
    return np.linalg.norm(np.ravel(got) - np.ravel(want)) / np.linalg.norm(np.ravel(want))


def everything(arrays):
    return np.concatenate([np.ravel(arrays[name]) for name in sorted(arrays)])


@pytest.mark.parametrize("case", EVERY)
def test_every_part_of_the_loss_to_1e_9(compared, case):
    result = compared(case)
    for (metrics, _), (expected, *_) in zip(result.ours, result.expected, strict=True):
        assert expected.keys() <= metrics.keys()
        assert {name for name in metrics if name.endswith("loss")} <= expected.keys()
        for name, value in expected.items():
            assert float(metrics[name]) == pytest.approx(float(value), rel=1e-9, abs=1e-14), name


@pytest.mark.parametrize("case", EVERY)
def test_every_gradient_to_1e_9(compared, case):
    result = compared(case)
    got, (_, want, *_) = gradient(result.ours[0][1], result.config.optim), result.expected[0]
    assert got.keys() == want.keys()
    for name, slope in want.items():
        assert np.linalg.norm(slope) > 1e-8, name
        assert difference(got[name], slope) < 1e-9, name


@pytest.mark.parametrize("case", [case for case, steps in STEPS.items() if steps == 3])
def test_parameters_and_average_after_three_steps_to_1e_9(compared, case):
    result = compared(case)
    (_, state), (*_, arrays, average) = result.ours[-1], result.expected[-1]
    trees = [(state.params, arrays)] + ([] if average is None else [(state.average, average)])
    assert (state.average is None) == (average is None) == (case == "mae")
    for tree, expected in trees:
        got = numpy_vit.weights(tree)
        assert got.keys() == expected.keys()
        for name, array in expected.items():
            assert difference(got[name], array) < 1e-9, name


@pytest.mark.parametrize("case", [case for case, steps in STEPS.items() if steps == 3])
def test_the_way_made_in_three_steps(compared, case):
    result = compared(case)
    (_, state), (*_, arrays, _) = result.ours[-1], result.expected[-1]
    start, got = everything(result.start), everything(numpy_vit.weights(state.params))
    assert difference(got - start, everything(arrays) - start) < 1e-9


def test_masks_of_the_blocks_have_entries_that_are_not_valid(compared):
    (masks,) = compared("blocks").pairs[0]
    for name in ("context_valid", "target_valid"):
        assert not np.asarray(masks[name]).all()


@pytest.mark.slow
def test_both_pairs_of_masks_differ_and_have_entries_that_are_not_valid(compared):
    first, second = compared("expander").pairs[0]
    assert first["context"].shape != second["context"].shape
    for name in ("context_valid", "target_valid"):
        assert not np.asarray(first[name]).all()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_float32_to_1e_4(monkeypatch, case):
    monkeypatch.setattr(training_step, "random_view", view)
    result = compare(case, "float32", STEPS[case])
    for (metrics, _), (expected, *_) in zip(result.ours, result.expected, strict=True):
        for name, value in expected.items():
            assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    got, (_, want, *_) = gradient(result.ours[0][1], result.config.optim), result.expected[0]
    norm = np.linalg.norm(everything(want))
    assert difference(everything(got), everything(want)) < 1e-4
    for name, slope in want.items():
        assert np.linalg.norm(got[name] - slope) < 1e-4 * np.linalg.norm(slope) + 1e-7 * norm, name
    (_, state), (*_, average) = result.ours[-1], result.expected[-1]
    if average is not None:
        start = everything(numpy_step.part(result.start, "context_encoder"))
        moved = everything(numpy_vit.weights(state.average)) - start
        assert difference(moved, everything(average) - start) < 1e-4
