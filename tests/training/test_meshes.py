"""The same training on one device and on eight, however they share the work, and what it costs."""

import collections
import math
import re

import jax
import numpy as np
import pytest
from toys import RUN, toy_config

from rejepa_jax.config import Augment, Mask, Mesh
from rejepa_jax.data.preprocess import random_turns
from rejepa_jax.methods import masking
from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training import sharding
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import abstract_state

ONE, DATA, SOME, ALL = Mesh(data=1), Mesh(), Mesh(fsdp=2), Mesh(fsdp=8)
TENSOR = Mesh(tensor=2)
SLOW = [pytest.param(shape, marks=pytest.mark.slow) for shape in (ALL, TENSOR)]
STEPS = 20


@pytest.fixture(scope="module")
def on(toy_run, toy_run_on):
    """Gives the toy run on a mesh."""
    return lambda shape: toy_run if shape == DATA else toy_run_on(mesh_of(shape))


def mesh_of(shape):
    return sharding.make_mesh(shape, jax.devices()[:1] if shape == ONE else None)


def batch(number, mesh):
    rng = np.random.default_rng(number)
    image = rng.integers(0, 3000, (8, 16, 16, 3)).astype(np.uint16)
    arrays = {"image": {"s2": image}, "id": np.arange(8, dtype=np.int32), "valid": np.ones(8, bool)}
    return jax.device_put(arrays, sharding.batch_sharding(mesh))


def train(run, state, steps):
    """Returns the state after some steps, and each step's metrics."""
    state = jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, run.abstract))
    log = []
    for number in steps:
        state, metrics = run.step(state, batch(number, run.mesh))
        log.append({name: float(value) for name, value in metrics.items()})
    return state, log


def assert_alike(got, expected):
    """Every metric of every step, up to what float32 makes of another order of sums."""
    for step, (metrics, wanted) in enumerate(zip(got[1], expected[1], strict=True)):
        assert metrics == pytest.approx(wanted, rel=1e-4, abs=1e-6), step


@pytest.fixture(scope="module")
def start(toy_run):
    return jax.tree.map(np.asarray, toy_run.start)


@pytest.fixture(scope="module")
def single(on, start):
    """Twenty steps on one device."""
    return train(on(ONE), start, range(STEPS))


@pytest.mark.parametrize("shape", [DATA, SOME, *SLOW])
def test_eight_devices_train_as_one_does(on, start, single, shape):
    assert_alike(train(on(shape), start, range(STEPS)), single)


MAE = {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2}
BLOCKS = {"strategy": "multiblock", "context_scale": (0.5, 0.8), "min_context": 1}
TOKENS = {"patch_size": 4, "class_token": True, "positions": "learned"}
OTHER = {
    "mae in parts": {"method": "mae", "mae": MAE, "train": {"accumulate": 2}},
    "blocks": {"mask": BLOCKS, "model": TOKENS},
    "views": {"vicreg": {"invariance": "two_view", "expander": (8, 8)}},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_other_settings_train_alike_on_some_devices(toy_run_on, changes):
    config = toy_config(**RUN | changes)
    one = toy_run_on(mesh_of(ONE), config)
    four = toy_run_on(sharding.make_mesh(SOME, jax.devices()[:4]), config)
    start = jax.tree.map(np.asarray, one.start)
    assert_alike(train(four, start, range(3)), train(one, start, range(3)))


def test_training_goes_on_on_another_mesh(on, start, single):
    state, first = train(on(SOME), start, range(7))
    state, second = train(on(ONE), state, range(7, 13))
    state, third = train(on(DATA), state, range(13, STEPS))
    assert_alike((state, first + second + third), single)


KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"


def collectives(step):
    """Counts collectives by kind, and whether they are inside a loop over layers."""
    counts, is_inside = collections.Counter(), False
    for line in step.as_text().splitlines():
        if line.endswith("{") and not line.startswith(" "):
            is_inside = not line.startswith("ENTRY")
        if found := re.search(rf" ({KINDS})(?:-start)?\(", line):
            counts[found[1] + " in a loop" * is_inside] += 1
    return counts


# Every step sums over the devices that split the batch: the features' means; then their squares;
# their products (eqs. 8 and 9); the gradient, all of it at once; the losses. XLA joins the last but
# one with others where it can: for TPUs three sums are left.
BATCH_SUMS = 5
# A layer has four matrices. The encoders run their two layers in loops; the predictor has but one.
# Around the layers stand a patch embedding in both encoders, and the predictor's two ends.
SPLIT = {
    "all-gather in a loop": 3 * 4,  # target encoder; context encoder, forwards and backwards
    "reduce-scatter in a loop": 4,  # the gradient of the context encoder
    "all-gather": 4 + 2 + 2,
    "reduce-scatter": 4 + 1 + 2,
}
EXPECTED = [
    (DATA, {"all-reduce": BATCH_SUMS}),
    # And the gradient of matrices' parts over `data`, beside that of vectors over all; its norm.
    (SOME, SPLIT | {"all-reduce": BATCH_SUMS + 2}),
    # Nothing of a matrix is left to sum, and the norm goes with the losses.
    pytest.param(ALL, SPLIT | {"all-reduce": BATCH_SUMS}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("shape", "expected"), EXPECTED)
def test_collectives_of_a_step(on, shape, expected):
    assert collectives(on(shape).step) == expected


@pytest.mark.slow
def test_tensor_sums_twice_a_layer_and_gathers_nothing(on):
    """After attention and after the MLP, forwards in both encoders and backwards in one."""
    counts = collectives(on(TENSOR).step)
    assert counts["all-reduce in a loop"] == 2 * 2 + 2
    assert not any(kind.startswith(("all-gather", "reduce-scatter")) for kind in counts)


def held(tree):
    """Bytes that a device holds of a tree's matrices, and of its vectors."""
    out = collections.Counter()
    for name, leaf in named_arrays(tree).items():
        is_matrix = leaf.ndim - sharding.is_stacked(name) > 1
        out[is_matrix] += math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    return out[True], out[False]


@pytest.mark.parametrize("part", ["params", "average", "opt_state"])
def test_fsdp_divides_the_matrices_of_parameters_average_and_moments(on, part):
    matrices, vectors = held(getattr(on(DATA).abstract, part))
    assert matrices > 0
    assert held(getattr(on(SOME).abstract, part)) == (matrices / 2, vectors)


@pytest.mark.parametrize("shape", [DATA, SOME, *SLOW])
def test_the_compiler_holds_a_device_s_parts_and_its_images(on, shape):
    image = 16 * 16 * 3 * 2
    expected = sum(held(on(shape).abstract)) + image * shape.tensor
    assert on(shape).step.memory_analysis().argument_size_in_bytes == expected


def test_fsdp_divides_the_state_of_a_real_model():
    """All but vectors, a thousandth of it: two layers of ViT-B/16 with 12 bands, by hand."""
    sizes = {"patch_size": 16, "embed_dim": 768, "num_heads": 12, "predictor_dim": 384}
    config = toy_config(data={"image_size": 32}, model=sizes | {"depth": 2, "predictor_depth": 2})
    mesh = sharding.make_mesh(Mesh(fsdp=4))
    optimizer = make_optimizer(Schedules(config.optim, config.ema, 6))
    state = abstract_state(build_method(config, bands=12), optimizer, 0, mesh)
    matrices, vectors = held(state)
    encoder = 2 * 12 * 768**2 + 12 * 256 * 768
    predictor = 2 * 12 * 384**2 + 2 * 384 * 768
    assert matrices == 4 * (3 * (encoder + predictor) + encoder) / 4
    assert vectors < 2e-3 * 4 * matrices


def test_masks_and_turns_are_the_same_on_any_mesh():
    """Bit for bit: each device draws the numbers of its own images, and only those."""

    def draw(key):
        return masking.random_masks(key, 8, 64, Mask()), random_turns(key, 8, Augment(rotate=True))

    out = []
    for shape in (ONE, SOME):
        place = sharding.batch_sharding(mesh_of(shape))
        run = jax.jit(draw, out_shardings=place).lower(jax.random.key(5)).compile()
        assert not collectives(run)
        out.append(run(jax.random.key(5)))
    jax.tree.map(np.testing.assert_array_equal, *out)
