"""Whole training runs of six steps: interrupted and resumed, gone wrong, on too few images."""

import errno
import itertools
import json
import os
import signal
import time

import fake_archive
import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import RUN, toy_config

from rejepa_jax import artifacts
from rejepa_jax.config import Mesh
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training import checkpoint, checkpoint_files, loop, sharding
from rejepa_jax.training.compute import Compute
from rejepa_jax.training.monitor import LOG, Monitor, read_log
from rejepa_jax.training.state import abstract_state
from rejepa_jax.types import ConfigError, DataError, Interrupted

SPEED = ("images_per_second", "mfu", "data_wait")
CONFIG = toy_config(**RUN, health={"every": 0})


@pytest.fixture(scope="module")
def records(toy_run):
    return toy_run.records


@pytest.fixture(scope="module", autouse=True)
def compiled_once(toy_run):
    """Gives every run the first state and the step that are already compiled.

    That step takes no other shapes or places: more than one compilation would be an error.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_step", lambda *_: toy_run.step)
        patch.setattr(loop, "init_state", lambda *_: jax.tree.map(jnp.copy, toy_run.start))
        patch.setattr(loop, "abstract_state", lambda *_: toy_run.abstract)
        patch.setattr(loop, "measure_compute", lambda _: Compute(1e6, 1e12, "invented"))
        yield


def run(config, records, directory):
    return loop.train(config, records, directory, artifacts.plain(loop.describe(config)))


def last_arrays(directory, toy_run):
    return named_arrays(checkpoint.restore_state(directory, toy_run.abstract))


def timeless(line):
    """A logged line without what depends on the machine's speed."""
    return {key: line[key] for key in line if key not in SPEED}


def saved_steps(directory):
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory):
    """A run of six steps that nothing disturbed: its directory and what it reported."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(CONFIG, records, directory)


class Stopped(BaseException):
    """Whatever ends a run before its end."""


def interrupt(records, directory, after):
    """Ends a run as soon as it has logged a step."""
    log = Monitor.log

    def log_and_stop(self, step, state):
        log(self, step, state)
        if step == after:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "log", log_and_stop)
        with pytest.raises(Stopped):
            run(CONFIG, records, directory)


SLOW = pytest.param(4, [2], marks=pytest.mark.slow)


# After 5 steps the checkpoint of 4 is there; after 4 only that of 2; after 1 there is none.
@pytest.mark.parametrize(("after", "saved"), [(5, [2, 4]), SLOW, (1, [])])
def test_interrupted_and_resumed_run_ends_bit_for_bit_the_same(
    toy_run, records, whole, tmp_path, after, saved
):
    directory, built = whole
    interrupt(records, tmp_path, after)
    assert saved_steps(tmp_path) == saved
    assert len(read_log(tmp_path / LOG)) == after

    final = run(CONFIG, records, tmp_path).info["final"]
    assert timeless(final) == timeless(built.info["final"])
    expected = last_arrays(directory, toy_run)
    for name, array in last_arrays(tmp_path, toy_run).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    ours, unbroken = (read_log(path / LOG) for path in (tmp_path, directory))
    assert [timeless(line) for line in ours] == [timeless(line) for line in unbroken]


def test_run_that_ends_early_first_finishes_the_checkpoint_it_is_writing(
    records, tmp_path, monkeypatch
):
    # It is written in the background, and what is half written when the process ends is lost.
    closed, close = [], checkpoint.Checkpoints.close
    monkeypatch.setattr(
        checkpoint.Checkpoints, "close", lambda self: (close(self), closed.append(True))
    )
    interrupt(records, tmp_path, after=3)
    assert closed == [True]
    assert {path.name for path in tmp_path.iterdir()} == {"2", LOG}


def test_each_step_is_logged_once(whole):
    lines = [json.loads(line) for line in (whole[0] / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(line["loss"]) for line in lines)


def test_what_is_reported(whole):
    directory, built = whole
    assert built.info["steps"] == 6
    assert built.info["images"] == 48
    assert built.info["final"] == read_log(directory / LOG)[-1]


def test_last_checkpoint_and_as_many_before_it_as_asked_for_are_kept(whole, toy_run):
    assert saved_steps(whole[0]) == [4, 6]
    assert int(last_arrays(whole[0], toy_run)["step"]) == 6


def test_training_moves_every_array(whole, toy_run):
    before = named_arrays(toy_run.start)
    for name, array in last_arrays(whole[0], toy_run).items():
        assert np.abs(np.asarray(array) - before[name]).max() > 0, name


def test_state_goes_to_another_mesh_and_back_bit_for_bit(whole, toy_run, tmp_path):
    parts = (toy_run.update.method, toy_run.update.optimizer, 0)
    cut = abstract_state(*parts, sharding.make_mesh(Mesh(fsdp=2, tensor=2)))
    there = checkpoint.restore_state(whole[0], cut)
    assert [a.sharding for a in jax.tree.leaves(there)] == [
        a.sharding for a in jax.tree.leaves(cut)
    ]
    assert not all(array.is_fully_replicated for array in jax.tree.leaves(there))
    checkpoints = checkpoint.Checkpoints(tmp_path, 1, {})
    checkpoints.save(there, iter(grain.MapDataset.range(9).to_iter_dataset()))
    checkpoints.close()
    expected, back = (last_arrays(directory, toy_run) for directory in (whole[0], tmp_path))
    for name, array in named_arrays(there).items():
        bits = np.asarray(expected[name]).tobytes()
        assert np.asarray(array).tobytes() == np.asarray(back[name]).tobytes() == bits, name


def test_run_that_was_finished_but_not_published_has_only_to_say_so(whole, records, monkeypatch):
    # As after an interruption between the last checkpoint and the manifest.
    directory, built = whole
    monkeypatch.setattr(loop, "compile_step", lambda *_: pytest.fail)
    assert run(CONFIG, records, directory) == built


def test_loss_that_is_no_number_ends_the_run_unsaved(records, tmp_path, monkeypatch):
    compile_step = loop.compile_step

    def compile_broken(*args):
        step_fn = compile_step(*args)

        def broken(state, batch):
            state, metrics = step_fn(state, batch)
            return state, metrics | {"loss": jnp.where(state.step == 4, jnp.nan, 1.0)}

        return broken

    monkeypatch.setattr(loop, "compile_step", compile_broken)
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 4.*earlier checkpoints"):
        run(CONFIG, records, tmp_path)
    assert saved_steps(tmp_path) == [2]
    assert [line["step"] for line in read_log(tmp_path / LOG)] == [1, 2, 3]


def test_split_smaller_than_the_batch_is_enough_to_train(tmp_path):
    few = fake_archive.prepared(tmp_path, {"train": 3}, size=16)
    directory = tmp_path / "run"
    directory.mkdir()
    run(CONFIG, few, directory)
    assert [line["step"] for line in read_log(directory / LOG)] == [1, 2, 3, 4, 5, 6]


def test_checkpoint_of_other_settings_is_refused(whole, records):
    other = toy_config(**RUN | {"augment": {"offset": 0.2}})
    with pytest.raises(ConfigError, match=r"other settings \(augment\.offset: 0\.1 -> 0\.2\)"):
        run(other, records, whole[0])


def test_checkpoint_of_another_model_is_refused(whole, records, toy_run):
    update = loop.make_update(toy_config(model={"predictor_dim": 12}), records)
    like = abstract_state(update.method, update.optimizer, 0, toy_run.mesh)
    with pytest.raises(DataError, match=r"/6: array '.*predictor/.*' is float32\[.*\], expected"):
        checkpoint.restore_state(whole[0], like)


def test_no_checkpoint_is_said_with_what_to_do(tmp_path, toy_run):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint; run the train stage again"):
        checkpoint.restore_state(tmp_path, toy_run.abstract)


def test_batch_that_does_not_divide_over_the_devices_is_refused(records, tmp_path):
    config = toy_config(train={"batch_size": 12})
    with pytest.raises(ConfigError, match=r"config\.train\.batch_size = 12 must be a multiple"):
        run(config, records, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_settings_written_into_the_artefact_are_those_training_depends_on():
    described = loop.describe(CONFIG)
    assert described["train"] == {"steps": 6, "batch_size": 8}
    assert described["data"]["statistics"] == "published"
    assert not described.keys() & {"eval", "index", "report", "prepare"}
    assert artifacts.plain(described) == json.loads(json.dumps(described))


@pytest.mark.parametrize("at", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_asked_to_stop_while_the_clock_jumps_it_saves_the_step_and_goes_on_to_the_same_end(
    toy_run, records, whole, tmp_path, monkeypatch, at
):
    directory, built = whole
    keep, now = Monitor.keep, time.time()
    clock = (now + jump for jump in itertools.cycle([0, -4e8, 5e5, -86400, 3600]))

    def keep_and_signal(self, step, batch, metrics):
        keep(self, step, batch, metrics)
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "keep", keep_and_signal)
        patch.setattr(time, "time", lambda: next(clock))
        patch.setattr(time, "time_ns", lambda: int(next(clock) * 1e9))
        with pytest.raises(Interrupted, match=f"asked to stop: step {at} of 6 is saved"):
            run(CONFIG, records, tmp_path)
    assert saved_steps(tmp_path)[-1] == at
    assert all(line[name] >= 0 for line in read_log(tmp_path / LOG)[1:] for name in SPEED)
    assert timeless(run(CONFIG, records, tmp_path).info["final"]) == timeless(built.info["final"])
    expected = last_arrays(directory, toy_run)
    for name, array in last_arrays(tmp_path, toy_run).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_checkpoint_that_cannot_be_written_ends_the_run(records, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "seal", fail)
    with pytest.raises(DataError, match=r"2\.saving: .* could not be written .*No space left"):
        run(CONFIG, records, tmp_path)
    assert saved_steps(tmp_path) == []
    assert len(read_log(tmp_path / LOG)) < 6  # it did not go on to the end
