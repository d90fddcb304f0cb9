"""A batch gone through in parts: what their gradients come to, and what each part draws."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import QUICK, filled, toy_config

from rejepa_jax.config import Augment
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.methods import masking
from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training import step
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import TrainState
from rejepa_jax.types import Masks

KEY = jax.random.key(11)
MAE = {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2}


def update_of(count, **changes):
    config = toy_config(**{"model": {"depth": 1}} | changes)
    schedules = Schedules(config.optim, config.ema, 6)
    given = SensorInput((0, 1, 2), (1500.0,) * 3, (900.0,) * 3, None)
    return step.Update(
        build_method(config, 3),
        make_optimizer(schedules),
        schedules,
        Preprocess(16, {"s2": given}),
        Augment(),
        config.seed,
        accumulate=count,
    )


def state_of(update):
    params = filled(lambda: update.method.init(jax.random.key(0)))
    return TrainState(jnp.int32(3), params, update.method.averaged(params), ())


def batch(images):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 3000, (images, 16, 16, 3)).astype(np.uint16)
    return {"image": {"s2": image}, "id": np.arange(images), "valid": np.ones(images, bool)}


def compiled(function, update):
    run = jax.jit(
        lambda state, batch, key: function(state, batch, key, update), compiler_options=QUICK
    )
    return lambda batch, key=KEY: run(state_of(update), batch, key)


def assert_close(got, expected):
    """Up to the rounding of sums in float32: against the largest number of each array."""
    got, expected = named_arrays(got), named_arrays(expected)
    assert got.keys() == expected.keys()
    for name, want in expected.items():
        error = np.abs(np.asarray(got[name], np.float64) - np.asarray(want, np.float64)).max()
        assert error <= 2e-6 * max(np.abs(want).max(), 1e-3), name


def test_parts_draw_for_themselves_and_are_averaged():
    """Of sixteen images in four parts the third has 2, 6, 10 and 14; VICReg sees those alone."""
    update = update_of(4)
    grads, metrics = compiled(step.mean_gradient, update)(batch(16))
    alone, parts = compiled(step.gradient, update), []
    for number in range(4):
        own = jax.tree.map(lambda x, n=number: x[[n, n + 4, n + 8, n + 12]], batch(16))
        parts.append(alone(own, jax.random.fold_in(KEY, number)))
    expected = jax.tree.map(lambda *values: np.mean(np.asarray(values, np.float64), 0), *parts)
    assert_close((grads, metrics), expected)
    assert len({float(part["prediction_loss"]) for _, part in parts}) == 4


def test_parts_make_the_large_batch_where_no_statistic_sees_it(monkeypatch):
    """MAE, every image masked alike and seen as it is."""

    def same(_key, images, _num_tokens, _mask):
        order = jnp.tile(jnp.array([[2, 0, 3, 1]]), (images, 1))
        return Masks(
            context=order[:, :1], target=order[:, None, 1:], context_valid=None, target_valid=None
        )

    monkeypatch.setattr(masking, "random_masks", same)
    update = update_of(4, method="mae", mae=MAE, augment={"flip": False})
    update = dataclasses.replace(update, augment=Augment(flip=False))
    got = compiled(step.mean_gradient, update)(batch(16))
    assert_close(got, compiled(step.gradient, update)(batch(16)))


@pytest.mark.parametrize("count", [1, 2])
def test_step_accumulates_when_told_to(count, monkeypatch):
    """One part is the batch itself, with the draws that it always had."""
    called = []
    monkeypatch.setattr(step, "gradient", lambda *_: called.append("whole") or zeros())
    monkeypatch.setattr(step, "mean_gradient", lambda *_: called.append("parts") or zeros())
    update = update_of(count)
    state = state_of(update)

    def zeros():
        return jax.tree.map(jnp.zeros_like, state.params), {}

    state = dataclasses.replace(state, opt_state=update.optimizer.init(state.params))
    jax.eval_shape(partial(step.train_step, update=update), state, batch(8))
    assert called == [["whole"], ["parts"]][count - 1]
