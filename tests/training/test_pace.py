"""Steps that end when a test lets them, on a clock that goes when it is told to."""

import concurrent.futures
import threading
import types

import pytest

from rejepa_jax.training import pace
from rejepa_jax.training.pace import AHEAD, Pace


class Step:
    """Stands in for the metrics of a step."""

    def __init__(self):
        self._end = threading.Event()

    def block_until_ready(self):
        assert self._end.wait(20)

    def end(self, following):
        """Ends the step, and waits until `following` has seen it."""
        self._end.set()
        following._ends[-1].result(20)


class Lost(Step):
    def block_until_ready(self):
        super().block_until_ready()
        raise RuntimeError("device lost")


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(pace, "time", clock)
    return clock


@pytest.fixture
def following():
    following = Pace()
    yield following
    following.close()


def test_only_waits_in_which_the_devices_are_idle_count(following, clock):
    with following.waiting():  # for the first batch: nothing is running that could lack one
        clock.now += 100
    step = Step()
    following.follow(step)
    with following.waiting():  # the devices are busy all the while
        clock.now += 10
    assert following.lacked() == 0
    with following.waiting():
        clock.now += 10
        step.end(following)
        clock.now += 3  # here they are not
    assert following.lacked() == 3
    clock.now += 50  # the host has other things to do, which is nothing the data could help
    with following.waiting():
        clock.now += 7
    assert following.lacked() == 7
    assert following.lacked() == 0


def test_host_waits_for_the_step_some_steps_back(following):
    steps = [Step() for _ in range(AHEAD + 1)]
    for step in steps[:-1]:
        following.follow(step)
    with concurrent.futures.ThreadPoolExecutor(1) as host:
        handed_out = host.submit(following.follow, steps[-1])
        with pytest.raises(TimeoutError):
            handed_out.result(0.2)
        steps[0]._end.set()
        handed_out.result(20)
    for step in steps:
        step._end.set()


def test_what_goes_wrong_on_a_device_is_raised(following):
    step = Lost()
    following.follow(step)
    step._end.set()
    with pytest.raises(RuntimeError, match="device lost"):
        for _ in range(AHEAD):
            following.follow({})  # nothing to wait for
