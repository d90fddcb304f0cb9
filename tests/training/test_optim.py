import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import toy_config

from rejepa_jax.config import Ema, Optim
from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training.optim import Schedules, ema_update, is_decayed, make_optimizer

SCHEDULES = Schedules(Optim(warmup_steps=20), Ema(), steps=120)


@pytest.mark.parametrize(
    ("step", "value"),
    [
        (0, 1e-4),
        (10, 5.5e-4),  # half way up
        (20, 1e-3),
        (45, 1e-6 + 9.99e-4 * (2 + 2**0.5) / 4),  # a quarter down: (1 + cos 45°) / 2
        (70, 5.005e-4),  # half way down
        (120, 1e-6),
        (130, 1e-6),
    ],
)
def test_learning_rate_by_hand(step, value):
    assert float(SCHEDULES.learning_rate(step)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("step", "value"),
    [(0, 0.04), (30, 0.4 - 0.36 * (2 + 2**0.5) / 4), (60, 0.22), (120, 0.4)],
)
def test_weight_decay_by_hand(step, value):
    assert float(SCHEDULES.weight_decay(step)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(("step", "value"), [(0, 0.04), (30, 0.13), (60, 0.22), (120, 0.4)])
def test_linear_weight_decay_by_hand(step, value):
    schedules = Schedules(Optim(weight_decay_schedule="linear"), Ema(), steps=120)
    assert float(schedules.weight_decay(step)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(("step", "value"), [(0, 0.996), (30, 0.997), (60, 0.998), (120, 1.0)])
def test_linear_ema_momentum_by_hand(step, value):
    assert float(SCHEDULES.ema_momentum(step)) == pytest.approx(value, rel=1e-6)


def test_constant_ema_momentum_ignores_the_end():
    schedules = Schedules(Optim(), Ema(start=0.99, schedule="constant"), 100)
    values = [float(schedules.ema_momentum(step)) for step in (0, 50, 100)]
    np.testing.assert_allclose(values, 0.99, rtol=1e-6)


def test_without_warm_up_the_rate_starts_at_its_peak():
    schedules = Schedules(Optim(warmup_steps=0), Ema(), 10)
    assert float(schedules.learning_rate(0)) == pytest.approx(1e-3)
    assert float(schedules.learning_rate(5)) == pytest.approx(5.005e-4, rel=1e-5)


def test_warm_up_may_last_the_whole_run():
    schedules = Schedules(Optim(warmup_steps=10), Ema(), 10)
    assert float(schedules.learning_rate(9)) == pytest.approx(9.1e-4, rel=1e-5)


def test_rate_rises_then_falls_and_decay_and_momentum_rise():
    rate, decay, momentum = (
        np.array([float(schedule(step)) for step in range(0, 121, 4)])
        for schedule in (SCHEDULES.learning_rate, SCHEDULES.weight_decay, SCHEDULES.ema_momentum)
    )
    assert (np.diff(rate[:6]) > 0).all()
    assert (np.diff(rate[5:]) < 0).all()
    assert (np.diff(decay) > 0).all()
    assert (np.diff(momentum) > 0).all()


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "ema_momentum"])
def test_traced_steps_give_the_same_float32_values(name):
    schedule = getattr(SCHEDULES, name)
    jitted = jax.jit(schedule)
    for step in (0, 7, 20, 99):
        value = jitted(jnp.int32(step))
        assert value.dtype == jnp.float32
        assert float(value) == pytest.approx(float(schedule(step)), rel=1e-6)


@pytest.mark.parametrize("method", ["rejepa", "mae"])
def test_decay_touches_kernels_and_tokens_only(method):
    model = {"class_token": True, "positions": "learned"}
    method = build_method(
        toy_config(method=method, model=model, vicreg={"expander": (8, 8)}), bands=3
    )
    params = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    flags = named_arrays(is_decayed(params))
    for name, flag in flags.items():
        assert flag == name.endswith(("kernel", "mask_token", "class_token")), name
    kinds = {name.rsplit("/", 1)[-1] for name in flags}
    assert kinds == {"kernel", "bias", "scale", "mask_token", "class_token", "positions"}


def adamw(param, grads, rates, decays):
    """Decoupled AdamW (Loshchilov and Hutter 2019), written out; yields each step's parameters."""
    first, second = np.zeros_like(param), np.zeros_like(param)
    for step, (grad, rate, decay) in enumerate(zip(grads, rates, decays, strict=True), start=1):
        first = 0.9 * first + 0.1 * grad
        second = 0.999 * second + 0.001 * grad**2
        direction = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        param = param - rate * (direction + decay * param)
        yield param


def test_two_steps_equal_adamw_in_numpy():
    rng = np.random.default_rng(6)
    start = {"dense": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}}
    grads = [jax.tree.map(lambda x: rng.normal(size=x.shape), start) for _ in range(2)]
    # Steps 0 and 1 of four, two of them warm-up.
    rates = [1e-4, 5.5e-4]
    decays = [0.04, 0.4 - 0.36 * (1 + np.cos(np.pi / 4)) / 2]

    optimizer = make_optimizer(Schedules(Optim(warmup_steps=2), Ema(), 4))
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), start)
    state, steps = optimizer.init(params), []
    for grad in grads:
        single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), grad)
        updates, state = optimizer.update(single, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(params)

    for name, used in (("kernel", decays), ("bias", [0, 0])):
        given = [grad["dense"][name] for grad in grads]
        for got, want in zip(steps, adamw(start["dense"][name], given, rates, used), strict=True):
            moved = np.asarray(got["dense"][name], np.float64) - start["dense"][name]
            # Float32 parameters of size 1 round to 6e-8; a step is at least 1e-4.
            np.testing.assert_allclose(moved, want - start["dense"][name], atol=2.5e-7)


def test_average_by_hand():
    average = ema_update(
        {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([5.0, -2.0])}, jnp.float32(0.75)
    )
    np.testing.assert_array_equal(average["a"], [2, 1])


@pytest.mark.parametrize(("momentum", "expected"), [(1.0, 3.0), (0.0, 7.0)])
def test_average_keeps_all_or_takes_all(momentum, expected):
    average = ema_update(jnp.float32(3), jnp.float32(7), jnp.float32(momentum))
    assert float(average) == expected
