import itertools
import types

import jax
import pytest
from toys import toy_config

from rejepa_jax.config import base_config
from rejepa_jax.methods.build import build_method, encoder_spec
from rejepa_jax.models.flops import encoder_flops
from rejepa_jax.presets import PRESETS
from rejepa_jax.resolve import resolve
from rejepa_jax.training import compute
from rejepa_jax.training.compute import Compute

METHOD = build_method(toy_config(), 2)
COST = sum(METHOD.flops.values())


def sized(preset, **model):
    """A preset on colour images of 96 pixels, or of 224 with the sizes of its own."""
    config = base_config(preset)
    config.data.sensor, config.data.image_size = "rgb", 96 if model else 224
    config.model.update(model)
    config.mae.decoder_depth = model.get("depth", config.mae.decoder_depth)
    return resolve(config)


# --- XLA's count beside ours


@pytest.mark.parametrize("preset", ["rejepa", "mae"])
def test_xla_counts_the_real_step_within_five_percent(preset):
    config = sized(preset, size="small", depth=2, predictor_dim=192, predictor_depth=2)
    by_hand = sum(build_method(config, 3).flops.values())
    assert compute.xla_step_flops(config, 3) == pytest.approx(by_hand, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_xla_counts_every_preset_at_vit_b(preset):
    config = sized(preset)
    by_hand = sum(build_method(config, 3).flops.values())
    assert compute.xla_step_flops(config, 3) == pytest.approx(by_hand, rel=0.02)


def test_neither_loops_nor_what_is_computed_again_change_the_count():
    plain, again = (toy_config(model={"remat": remat}) for remat in ("none", "block"))
    assert compute.xla_step_flops(again, 3) == compute.xla_step_flops(plain, 3)


def test_xla_counts_an_embedding():
    config = sized("mae", size="small", depth=2)
    by_hand = encoder_flops(encoder_spec(config, 3))
    assert compute.xla_embedding_flops(config, 3) == pytest.approx(by_hand, rel=0.05)


# --- the devices' peak


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("Tesla T4", 65e12),
        ("NVIDIA L4", 121e12),
        ("TPU v3", 61.5e12),
        ("TPU v5", 459e12),
        ("TPU v5 lite", 197e12),
        ("TPU v6 lite", 918e12),
    ],
)
def test_known_devices_have_their_datasheets_peak(kind, peak):
    assert compute.datasheet_peak(kind) == peak


@pytest.mark.parametrize(
    "kind", ["cpu", "NVIDIA L40S", "NVIDIA H200 MIG 1g.18gb", "TPU v4 lite", "TPU7x"]
)
def test_others_have_none(kind):
    assert compute.datasheet_peak(kind) is None


def test_an_unknown_device_is_given_the_best_of_a_few_products(monkeypatch):
    ticks = itertools.accumulate([0.0, 9.0, 0.0, 2.0, 0.0, 4.0])
    monkeypatch.setattr(compute, "SIDE", 16)
    monkeypatch.setattr(compute, "REPEATS", 3)
    clock = types.SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(compute, "time", clock)
    assert compute.measured_peak() == 2 * 16**3 / 2  # each of the eight devices has its own


def test_cpus_are_measured_and_said_to_be(monkeypatch):
    monkeypatch.setattr(compute, "measured_peak", lambda: 7.0)
    assert compute.measure_compute(METHOD) == Compute(COST, 7.0, "measured: float32 matmul on cpu")


def test_known_devices_are_looked_up_and_said_to_be(monkeypatch):
    device = types.SimpleNamespace(device_kind="NVIDIA H200")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    source = "datasheet: NVIDIA H200, dense bfloat16"
    assert compute.measure_compute(METHOD) == Compute(COST, 989e12, source)


def test_share_of_the_peak():
    assert compute.mfu(100.0, Compute(3e9, 5e11, ""), 2) == pytest.approx(0.3)


# --- compute to reach a score

LOG = [
    {"step": 0, "f1": 0.25, "loss": 9.0},
    {"step": 50, "loss": 8.0},
    {"step": 100, "f1": 0.5, "loss": 7.0},
    {"step": 200, "f1": 0.375, "loss": 6.0},
    {"step": 300, "f1": 0.875, "loss": 5.0},
]


@pytest.mark.parametrize(
    ("goal", "steps"),
    [
        (0.375, 50),  # half of the way between the first two measurements
        (0.5, 100),
        (0.625, 250),  # after the dip: half of the way from 0.375 to 0.875
        (0.875, 300),
        (0.25, 0),  # before training
        (0.1, 0),
    ],
)
def test_compute_to_reach_by_hand(goal, steps):
    assert compute.compute_to_reach(LOG, "f1", goal, 10.0) == pytest.approx(10.0 * steps)


@pytest.mark.parametrize("log", [LOG, LOG[:1], []])
def test_a_goal_that_was_never_reached_has_no_price(log):
    assert compute.compute_to_reach(log, "f1", 0.9, 10.0) is None


def test_a_first_measurement_at_the_goal_counts_with_its_steps():
    assert compute.compute_to_reach(LOG[2:], "f1", 0.4, 10.0) == 1000.0
