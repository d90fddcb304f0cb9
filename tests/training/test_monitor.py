import json
import math
import sys
import types

import fake_archive
import jax.numpy as jnp
import pytest
from toys import toy_config

from rejepa_jax import processes
from rejepa_jax.data import tfrecord
from rejepa_jax.training import monitor
from rejepa_jax.training.compute import Compute
from rejepa_jax.training.health import CollapseError, Health
from rejepa_jax.training.monitor import LOG, Monitor, read_log
from rejepa_jax.training.pace import Pace
from rejepa_jax.training.state import TrainState
from rejepa_jax.types import ConfigError

FINE = {"loss": jnp.float32(0.5), "gradient_norm": jnp.float32(2.0)}
STATE = TrainState(jnp.int32(0), None, None, ())
CONFIG = {"train": {"steps": 10, "batch_size": 4, "log_every": 2}, "health": {"every": 0}}
EVENTS = CONFIG | {"health": {"every": 0, "tensorboard": True}}


class Planned(Health):
    """Finds the same at the steps it is told to measure at."""

    def __init__(self, *steps):
        self.steps, self.judged = steps, []

    def is_due(self, step):
        return step in self.steps

    def measure(self, state):
        del state
        return {"target/f1": 0.25}

    def judge(self, lines):
        self.judged.append([line["step"] for line in lines])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fake_archive.prepared(tmp_path_factory.mktemp("monitor"), {"train": 10})


@pytest.fixture
def start(tmp_path, records):
    """Opens a monitor that resumes after some steps."""

    def start(after=0, health=None, config=CONFIG):
        compute = Compute(5e10, 1e12, "invented")
        return Monitor(tmp_path, toy_config(**config), after, records, health or Planned(), compute)

    return start


def keep(log, step, rows=(0, 1, 2, 3), **changes):
    metrics = FINE | {name: jnp.float32(value) for name, value in changes.items()}
    batch = {"image": {}, "id": jnp.array(rows), "valid": jnp.ones(len(rows), bool)}
    log.keep(step, batch, metrics)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes when it is told to."""
    clock = types.SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(monitor, "time", clock)
    return clock


def steps(directory):
    return [line["step"] for line in read_log(directory / LOG)]


# --- the log


def test_each_logged_step_is_one_json_line(tmp_path, start, clock):
    log = start()
    keep(log, 1)
    log.log(1, STATE)
    keep(log, 2, loss=9)
    keep(log, 3, loss=0.25)
    clock.now = 4.0
    log.log(3, STATE)
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == [
        {"step": 1, "loss": 0.5, "gradient_norm": 2.0},
        # 2 steps of 4 images in 4 s, at 5e10 FLOP; of 1e12 FLOP/s on each of 8 devices.
        {"step": 3, "loss": 0.25, "gradient_norm": 2}
        | {"images_per_second": 2, "mfu": 0.0125, "data_wait": 0},
    ]
    assert read_log(tmp_path / LOG) == lines


def test_what_is_due(start):
    log = start(health=Planned(0, 5))
    assert [step for step in range(7) if log.is_due(step)] == [0, 2, 4, 5, 6]


def test_measures_stand_in_the_line_of_their_step_and_are_judged_with_it(tmp_path, start):
    health = Planned(0, 3)
    log = start(health=health)
    log.log(0, STATE)
    for step in (1, 2, 3):
        keep(log, step)
        if log.is_due(step):
            log.log(step, STATE)
    first, second, third = read_log(tmp_path / LOG)
    assert first == {"step": 0, "target/f1": 0.25}
    assert second.keys() >= {"loss"}
    assert "target/f1" not in second
    assert third.keys() >= {"loss", "target/f1"}
    assert health.judged == [[0], [0, 2, 3]]


def test_collapse_that_stops_a_run_is_logged_first(tmp_path, start):
    class Stops(Planned):
        def judge(self, lines):
            super().judge(lines)
            raise CollapseError

    log = start(health=Stops(1))
    keep(log, 1)
    with pytest.raises(CollapseError):
        log.log(1, STATE)
    assert steps(tmp_path) == [1]


def test_time_of_compilation_and_of_measuring_is_not_that_of_training(tmp_path, start, clock):
    class Slow(Planned):
        def measure(self, state):
            clock.now += 1000
            return super().measure(state)

    log = start(health=Slow(3))
    clock.now = 500.0  # the first step took so long
    for step in (1, 2, 3, 4, 5):
        keep(log, step)
        clock.now += 1
        if step in (3, 5):
            log.log(step, STATE)
    # Two steps of four images: in 3 s, as the clock runs on after the first step, and in 2 s.
    rates = [line["images_per_second"] for line in read_log(tmp_path / LOG)]
    assert rates == [pytest.approx(8 / 3), pytest.approx(8 / 2)]


def test_data_wait_is_the_share_since_the_last_log(tmp_path, start, clock, monkeypatch):
    waits = iter([9.0, 1.0, 0.5, 3.0, 7.0, 2.0])  # asked when the clock starts, and for a line
    monkeypatch.setattr(Pace, "lacked", lambda _: next(waits))
    log = start()
    for step in (1, 2, 3):
        keep(log, step)
        log.log(step, STATE)
        clock.now += 4
    lines = read_log(tmp_path / LOG)
    assert [line.get("data_wait") for line in lines] == [None, 0.125, 1.75]


def test_a_new_run_starts_an_empty_log(tmp_path, start):
    start()
    assert (tmp_path / LOG).read_text() == ""


def test_no_log_reads_as_empty(tmp_path):
    assert read_log(tmp_path / "none.jsonl") == []


def log_steps(log, *numbers):
    for step in numbers:
        keep(log, step)
        log.log(step, STATE)


def test_resumption_drops_the_lines_after_its_checkpoint(tmp_path, start):
    log = start()
    log.log(0, STATE)
    log_steps(log, 1, 2, 3, 4)
    log_steps(start(after=2), 3)
    assert steps(tmp_path) == [0, 1, 2, 3]


def test_run_that_has_no_checkpoint_yet_starts_its_log_again(tmp_path, start):
    for _ in range(2):
        log = start()
        log.log(0, STATE)
        log_steps(log, 1)
    assert steps(tmp_path) == [0, 1]


def test_line_cut_short_by_an_interruption_is_left_out(tmp_path, start):
    log_steps(start(), 1)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 2, "lo')
    assert steps(tmp_path) == [1]
    log_steps(start(after=1), 2)
    assert steps(tmp_path) == [1, 2]


def test_console_line_has_loss_speed_and_the_last_score(start, clock, capsys):
    log = start(health=Planned(0))
    log.log(0, STATE)
    keep(log, 1)
    keep(log, 10, loss=0.125)
    clock.now = 36.0
    log.log(10, STATE)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("train 40/40 images (100 %)")
    assert "images/s" in line
    assert line.endswith("loss 0.1250  MFU 0.6%  data wait 0.0%  target/f1 0.250")


# --- what is no number


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_loss_that_is_no_number_stops_the_run(tmp_path, start, loss):
    log = start()
    log_steps(log, 1)
    keep(log, 2, loss=loss)
    with pytest.raises(FloatingPointError, match=r"loss.* at step 2, .*optim\.peak_lr"):
        log.log(2, STATE)
    assert steps(tmp_path) == [1]


def test_gradient_that_is_no_number_stops_the_run(start):
    # The loss was taken before the update: these parameters are already lost.
    log = start()
    keep(log, 1, gradient_norm=math.nan)
    with pytest.raises(FloatingPointError, match=r"^gradient_norm is nan at step 1"):
        log.log(1, STATE)


def test_the_first_bad_step_since_the_last_log_is_blamed_and_its_batch_named(tmp_path, start):
    log = start()
    keep(log, 1, rows=[0, 1, 2, 3])
    keep(log, 2, rows=[7, 4], gradient_norm=math.inf)
    keep(log, 3, rows=[5, 6], loss=math.nan)
    keep(log, 4, rows=[8, 9])  # as if all were well again
    message = "^gradient_norm is inf at step 2, on the batch of place007, place004; earlier"
    with pytest.raises(FloatingPointError, match=message):
        log.log(4, STATE)
    assert steps(tmp_path) == []


def test_of_a_large_batch_some_are_named_and_all_are_written_down(tmp_path, start):
    log = start()
    keep(log, 1)
    rows = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    keep(log, 2, rows=rows, loss=math.nan, gradient_norm=3)
    message = r"place009, .*, place002 and 2 more; earlier .*nan_step_2\.json lists the batch"
    with pytest.raises(FloatingPointError, match=message):
        log.log(3, STATE)
    assert json.loads((tmp_path / "nan_step_2.json").read_text()) == {
        "step": 2,
        "metrics": {"loss": "nan", "gradient_norm": 3.0},
        "images": [{"row": row, "id": f"place00{row}"} for row in rows],
    }


# --- several processes


def test_only_the_main_process_writes(tmp_path, start, monkeypatch, capsys):
    health = Planned(1)
    log_steps(start(), 1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    monkeypatch.setattr(processes, "is_main", lambda: False)
    log = start(health=health, config=EVENTS)
    log_steps(log, 1, 2)
    keep(log, 3, loss=math.nan)
    with pytest.raises(FloatingPointError, match="at step 3, on the batch of place000"):
        log.log(3, STATE)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert (capsys.readouterr().err, health.judged) == ("", [])


# --- TensorBoard


def test_event_file_has_every_value_and_forgets_what_is_done_again(tmp_path, start):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    log = start(config=EVENTS)
    log_steps(log, 1, 2, 3)
    log.close()
    log = start(after=1, config=EVENTS)
    log_steps(log, 2)
    log.close()
    values, restarts = {}, []
    for path in (tmp_path / "tensorboard").iterdir():
        for data in tfrecord.scan(path):
            event = event_pb2.Event.FromString(data)
            if event.HasField("session_log"):
                restarts.append(event.step)
            for value in event.summary.value:
                values.setdefault(event.step, {})[value.tag] = value.simple_value
    assert sorted(restarts) == [0, 2]
    assert sorted(values) == [1, 2, 3]
    assert values[1] == {"loss": 0.5, "gradient_norm": 2.0}
    assert values[2].keys() >= {"loss", "gradient_norm"}


def test_missing_package_for_event_files_is_named(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"health\.tensorboard.*rejepa_jax\[tensorboard\]"):
        start(config=EVENTS)
