"""Plans for simulated devices, held against counts that do not come from the compiler."""

import dataclasses
import json

import jax
import pytest
from toys import toy_config

from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.planning import formulas
from rejepa_jax.planning.in_words import to_text
from rejepa_jax.planning.plan import make_plan
from rejepa_jax.planning.roofline import find_roofline
from rejepa_jax.planning.topologies import Chip, find_topology
from rejepa_jax.types import ConfigError

SIZES = {"embed_dim": 64, "predictor_dim": 32, "depth": 3}
TOPOLOGY = "cpu:8"


@pytest.fixture(scope="module")
def config():
    return toy_config(model=SIZES, data={"image_size": 32, "prefetch": 3})


@pytest.fixture(scope="module")
def plan(config):
    return make_plan(find_topology(TOPOLOGY), config, 2)


def counts(config):
    """Parameters trained and averaged, and operations of an image by part."""
    method = build_method(config, 12)
    params = jax.eval_shape(method.init, jax.random.key(0))
    return count_parameters(params), count_parameters(method.averaged(params)), method.flops


def test_memory_by_kind_follows_from_counts(plan, config):
    trained, averaged, _ = counts(config)
    memory = plan.program.memory
    assert (memory.parameters, memory.average) == (4 * trained, 4 * averaged)
    assert 8 * trained <= memory.moments <= 8 * trained + 64  # and counters
    assert memory.batch == 2 * (120 * 120 * 12 * 2 + 4 + 1)
    assert plan.waiting == 3 * 2 * 120 * 120 * 12 * 2
    assert memory.total == sum(dataclasses.astuple(memory))


def test_products_are_those_of_the_method_and_the_resampling(plan, config):
    """All but the gradient of the images themselves, which nobody needs."""
    *_, by_part = counts(config)
    tokens, patch = 8, 8 * 8 * 12  # of 16 tokens half are context
    unneeded = 2 * tokens * patch * SIZES["embed_dim"]
    resampling = 2 * 32 * 120 * 12 * (120 + 32)  # rows, then columns
    expected = sum(by_part.values()) - unneeded + resampling
    assert plan.program.flops * 8 / plan.batch_size == pytest.approx(expected, rel=0.02)
    assert plan.model_flops == sum(by_part.values())


def test_gradients_are_reduced_over_all_devices(plan, config):
    expected = formulas.traffic_bytes(config, formulas.count(config), 8, "cpu")["all-reduce"]
    (reduced,) = [c for c in plan.program.collectives if c.kind == "all-reduce"]
    assert reduced.group == 8
    statistics = 4 * 3 * 64**2  # covariances, and their gradients
    assert expected <= reduced.payload <= 1.05 * expected + statistics


@pytest.fixture(scope="module")
def divided(config):
    return make_plan(find_topology(TOPOLOGY), over_eight(config), 2)


def state_bytes(plan):
    memory = plan.program.memory
    return memory.parameters + memory.moments + memory.average


def over_eight(config):
    return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, fsdp=8))


@pytest.mark.slow
def test_fsdp_divides_the_state_as_the_formula_says(plan, divided, config):
    assert divided.mesh == {"data": 1, "fsdp": 8, "tensor": 1}
    for shape, made in ((config, plan), (over_eight(config), divided)):
        expected = formulas.count(shape).state_bytes
        assert expected <= state_bytes(made) <= expected + 64  # counters
    assert state_bytes(divided) < state_bytes(plan) / 6  # vectors, of a toy many, stay whole


def test_matrices_that_do_not_divide_stay_whole(config):
    """Of widths 64 and 32 none divides by 3; of the patches' 768 values one does, 64 more do."""
    odd = dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, fsdp=3))
    found = formulas.count(odd)
    qkv, embed = 3 * SIZES["depth"] * (3 * 64 * 64), 768 * 64
    assert found.averaged - found.averaged_whole == qkv // 3 + embed


def found(made, kind):
    return sum(part.payload for part in made.program.collectives if part.kind == kind)


@pytest.mark.slow
def test_communication_under_fsdp_is_what_the_formula_says(divided, config):
    shape = over_eight(config)
    counted = formulas.count(shape)
    expected = formulas.traffic_bytes(shape, counted, 8, "cpu")
    statistics = 4 * 3 * 64**2
    assert (
        expected["all-reduce"]
        <= found(divided, "all-reduce")
        <= 1.05 * expected["all-reduce"] + statistics
    )
    assert found(divided, "reduce-scatter") == expected["reduce-scatter"]
    # The compiler may keep some layers' weights for the backward pass.
    gathered = found(divided, "all-gather")
    assert expected["all-gather"] - 4 * counted.layers <= gathered <= expected["all-gather"]


def test_activations_by_hand():
    """One layer of one head: k = 2 of 4 tokens in the encoder, 4 in the predictor; d = 16, 8."""
    small = {"depth": 1, "num_heads": 1, "predictor_depth": 1}
    encoder, predictor = 2 * 16 * (24 + 22 * 4) + 2**2 * 8, 4 * 8 * (24 + 22 * 4) + 4**2 * 8
    inputs = 4 * (2 * 16 + 4 * 8)
    expected = {
        "none": 10 * inputs + max(encoder, predictor),
        "dots": 9 * inputs + max(encoder, predictor),
        "block": inputs + max(encoder, predictor),
    }
    for remat, size in expected.items():
        config = toy_config(model={**small, "remat": remat})
        assert formulas.activation_bytes(config, "cpu") == size


def test_a_plan_says_all_of_it(plan):
    text = to_text(plan)
    for part in ("mesh data 8 x fsdp 1 x tensor 1", "2 images a chip, batch 16", "parameters"):
        assert part in text
    assert "uint16 120 x 120 x 12" in text
    assert "float32" in text
    assert "no roofline" in text
    assert "what this device can hold is not known" in text


def test_json_holds_the_same(plan):
    found = json.loads(json.dumps(plan.to_json(), allow_nan=False))
    assert found["fits"] is True
    assert found["program"]["memory"]["total"] == plan.program.memory.total
    assert found["program"]["flops"] == plan.program.flops


def test_the_roofline_of_a_device_with_figures(plan):
    """Times by hand: what the program does, over what the device can do."""
    chip = Chip(memory=float(plan.program.memory.total), bandwidth=1e9, links=1e6)
    topology = dataclasses.replace(find_topology(TOPOLOGY), chip=chip, peak=1e12)
    made = plan.program
    roofline = find_roofline(topology, made.matmuls, made.collectives, made.traffic)
    assert roofline.compute == made.flops / 1e12
    assert roofline.memory == made.traffic / 1e9
    assert roofline.collectives == sum(c.sent for c in made.collectives) / 1e6
    assert roofline.bound == "collectives"
    assert roofline.in_turn > roofline.overlapped
    program = dataclasses.replace(made, roofline=roofline)
    known = dataclasses.replace(plan, program=program, available=chip.memory, peak=1e12)
    assert not known.is_fitting  # no room for the batches that wait
    assert known.left == -known.waiting
    assert "missing beside the step" in to_text(known)
    assert f"at most {16 / roofline.overlapped:,.0f} images/s" in to_text(known)


def test_higher_precisions_are_several_passes_of_a_tpu(plan):
    chip = Chip(memory=1e9, bandwidth=1e9, links=1e6)
    here = dataclasses.replace(find_topology(TOPOLOGY), chip=chip, peak=1e12)
    (product, *_) = plan.program.matmuls
    three = dataclasses.replace(product, precision="high")
    on_tpu = find_roofline(dataclasses.replace(here, platform="tpu"), [three], [], 0)
    assert on_tpu.compute == 3 * find_roofline(here, [three], [], 0).compute


def test_a_batch_that_does_not_divide(config):
    odd = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=12))
    with pytest.raises(ConfigError, match=r"config.train.batch_size = 12 must be a multiple"):
        make_plan(find_topology(TOPOLOGY), odd, None)
