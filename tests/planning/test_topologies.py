"""Names of topologies, and what cannot be had here. The TPU compiler itself: test_tpu_plan.py."""

import importlib.util

import jax
import pytest

from rejepa_jax.planning.topologies import CHIPS, find_topology
from rejepa_jax.training.compute import PEAKS
from rejepa_jax.types import ConfigError


@pytest.mark.parametrize(
    "name", ["", "v5e", "v5e:8", "v9x:2x2", "tpu", "cpu:0", "cpu:2x2", "v4:2x2"]
)
def test_what_is_no_topology_is_refused(name):
    with pytest.raises(ConfigError, match="expected a TPU slice such as v5e:2x4"):
        find_topology(name)


def test_this_machine_has_the_devices_that_the_tests_begin_with():
    found = find_topology("cpu:4")
    assert list(found.devices) == jax.devices()[:4]
    assert (found.platform, found.chip, found.peak) == ("cpu", None, None)


def test_more_devices_than_there_are():
    with pytest.raises(ConfigError, match="cpu:9: there are 8 here"):
        find_topology("cpu:9")


def test_no_gpu():
    with pytest.raises(ConfigError, match=r"--topology gpu: .* plan on a machine with one"):
        find_topology("gpu")


def test_no_tpu_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(ConfigError, match=r"pip install 'rejepa_jax\[tpu\]'"):
        find_topology("v5e:2x4")


def test_what_can_move_bytes_can_multiply():
    assert CHIPS.keys() <= PEAKS.keys()
