"""A run that is ended twice and goes on twice is one line in the report.

That its log is that of an unbroken run is shown in tests/training/test_loop.py.
"""

import re
from xml.etree import ElementTree

import fake_archive
import jax.numpy as jnp
import pytest
from toys import toy_config

from rejepa_jax.report import curves
from rejepa_jax.report.curves import PANELS
from rejepa_jax.training.compute import Compute
from rejepa_jax.training.health import Health
from rejepa_jax.training.monitor import LOG, Monitor
from rejepa_jax.training.state import TrainState

CONFIG = toy_config(train={"steps": 9, "batch_size": 4, "log_every": 1}, health={"every": 0})
STATE = TrainState(jnp.int32(0), None, None, ())


class Unmeasured(Health):
    def __init__(self):
        pass

    def is_due(self, step):
        del step
        return False


def corners(curve, name):
    """The horizontal places of a drawn line; fails if there is not exactly one line."""
    parts = ElementTree.fromstring(curve.svg).iter()
    (line,) = [part for part in parts if part.get("id") == f"line-{name}"]
    path = next(part.get("d") for part in line.iter() if part.get("d"))
    steps = re.findall(r"([A-Z]) ([-\d.]+)", path)
    assert [step[0] for step in steps] == ["M"] + ["L"] * (len(steps) - 1)
    return [float(place) for _, place in steps]


def test_a_resumed_run_is_one_line(tmp_path, monkeypatch):
    records = fake_archive.prepared(tmp_path, {"train": 4})
    batch = {"image": {}, "id": jnp.arange(4), "valid": jnp.ones(4, bool)}
    # It goes on from the checkpoints of steps 2 and 4: steps 3, 5 and 6 are taken twice.
    for start, end in ((0, 3), (2, 6), (4, 9)):
        compute = Compute(1e9, 1e12, "invented")
        monitor = Monitor(tmp_path, CONFIG, start, records, Unmeasured(), compute)
        for step in range(start + 1, end + 1):
            with monitor.waiting():
                pass
            monitor.keep(step, batch, {"loss": jnp.float32(10 * start + step)})
            monitor.log(step, STATE)
        monitor.close()
    speed = ("images_per_second", "mfu", "data_wait")
    wanted = {"Loss": PANELS["Loss and its parts"][:1], "Speed": PANELS["Speed"]}
    monkeypatch.setattr(curves, "PANELS", wanted)  # drawing takes its time
    groups = curves.draw_curves(tmp_path / LOG)
    drawn = {curve.names[0]: curve for group in groups.values() for curve in group}
    # The speed is known from two steps on: not of the first after each start.
    steps = {"loss": [1, 2, 3, 4, 5, 6, 7, 8, 9]} | {name: [2, 4, 6, 7, 8, 9] for name in speed}
    for name, expected in steps.items():
        assert [row[0] for row in drawn[name].rows] == expected, name
        places = corners(drawn[name], name)
        assert len(places) == len(expected), name
        assert places == sorted(set(places)), name
    losses = [row[1] for row in drawn["loss"].rows]
    assert losses == pytest.approx([1, 2, 23, 24, 45, 46, 47, 48, 49])  # what was done last stands
