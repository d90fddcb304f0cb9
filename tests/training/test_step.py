import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import QUICK, filled

from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training import sharding
from rejepa_jax.training.compiling import compile_step
from rejepa_jax.training.state import new_state


@pytest.fixture(scope="module")
def start(toy_run):
    """A state of step 0 in numpy, so that donation cannot take it away."""
    update = toy_run.update
    state = filled(lambda: new_state(update.method, update.optimizer, 0), seed=7)
    zeros = jax.tree.map(jnp.zeros_like, (state.opt_state, state.step))
    state = type(state)(zeros[1], state.params, state.average, zeros[0])
    return jax.tree.map(np.asarray, state)


def batch(number):
    rng = np.random.default_rng(number)
    image = rng.integers(0, 3000, (8, 16, 16, 3)).astype(np.uint16)
    return {"image": {"s2": image}, "id": np.arange(8, dtype=np.int32), "valid": np.ones(8, bool)}


class Runner:
    """The compiled step on the devices of a mesh."""

    def __init__(self, mesh, start, step):
        self.places = jax.tree.map(lambda _: sharding.replicated(mesh), start)
        self.batch_place = sharding.batch_sharding(mesh)
        self._start, self.step = start, step

    def __call__(self, steps):
        state, metrics = jax.device_put(self._start, self.places), None
        for number in range(steps):
            state, metrics = self.step(state, jax.device_put(batch(number), self.batch_place))
        return state, metrics


@pytest.fixture(scope="module")
def one(toy_run, start):
    runner = Runner(sharding.make_mesh(devices=jax.devices()[:1]), start, None)
    step = compile_step(toy_run.update, runner.places, runner.batch_place)
    runner.step = jax.jit(step, compiler_options=QUICK)
    return runner


@pytest.fixture(scope="module")
def eight(toy_run, start):
    return Runner(toy_run.mesh, start, toy_run.step)


def moments(state):
    """Adam's first moment of every parameter."""
    return optax.tree.get(state.opt_state, "mu")


def largest_difference(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in pairs)


def test_average_follows_the_updated_encoder(one, start):
    state, metrics = one(1)
    assert float(metrics["ema_momentum"]) == pytest.approx(0.996)
    old, average = named_arrays(start.average), named_arrays(state.average)
    before, after = (named_arrays(s.params["context_encoder"]) for s in (start, state))
    for name, new in after.items():
        expected = 0.996 * old[name] + 0.004 * np.asarray(new, np.float64)
        np.testing.assert_allclose(average[name], expected, atol=2e-7, rtol=0, err_msg=name)
    # The step is large enough that following the old encoder would be seen.
    moved = max(np.abs(after[name] - before[name]).max() for name in after)
    assert 0.004 * moved > 3e-7


def test_step_counts_and_reports_the_schedules_of_the_step_it_made(one):
    state, metrics = one(2)
    assert int(state.step) == 2
    assert float(metrics["learning_rate"]) == pytest.approx(5.5e-4)  # step 1 of 2 of the warm-up
    assert float(metrics["weight_decay"]) == pytest.approx(
        0.4 - 0.36 * (1 + np.cos(np.pi / 6)) / 2, rel=1e-5
    )
    assert float(metrics["ema_momentum"]) == pytest.approx(0.996 + 0.004 / 6)


def test_gradient_norm_is_that_of_the_gradient_in_the_moments(one):
    state, metrics = one(1)  # the first moment after one step is a tenth of the gradient
    squares = [(np.asarray(m, np.float64) ** 2).sum() for m in jax.tree.leaves(moments(state))]
    assert float(metrics["gradient_norm"]) == pytest.approx(10 * np.sqrt(sum(squares)), rel=1e-5)


def test_same_state_and_batch_give_the_same_bits(one):
    assert largest_difference(one(2), one(2)) == 0


def test_one_compilation_serves_every_step(one):
    one(4)
    assert one.step._cache_size() == 1


def test_eight_devices_do_what_one_does(one, eight):
    # One image a device: a variance of each device's own batch would not even be a number.
    (state, metrics), (other, others) = one(1), eight(1)
    for name, value in metrics.items():
        assert float(others[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-7), name
    norm = float(metrics["gradient_norm"])
    assert largest_difference(moments(state), moments(other)) < 1e-6 * norm
    # Where the gradient is rounding noise, Adam's first step has its sign and the full rate.
    trees = (moments(state), state.params, other.params)
    for leaves in zip(*map(jax.tree.leaves, trees), strict=True):
        moment, param, twin = map(np.asarray, leaves)
        is_clear = np.abs(moment) > 1e-4 * norm
        assert np.abs(param - twin)[is_clear].max(initial=0) < 1e-6


def test_state_is_donated_and_stays_on_every_device(eight, start):
    state = jax.device_put(start, eight.places)
    after, _ = eight.step(state, jax.device_put(batch(0), eight.batch_place))
    assert state.step.is_deleted()
    assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(after))
