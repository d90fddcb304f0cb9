"""Whole training runs of six steps: interrupted and resumed, gone wrong, on too few images."""

import json

import fake_archive
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import toy_config

from rejepa_jax import artifacts
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training import checkpoint, loop, sharding
from rejepa_jax.training.monitor import LOG, Monitor, read_log
from rejepa_jax.training.state import abstract_state
from rejepa_jax.types import ConfigError, DataError


@pytest.fixture(scope="module")
def records(toy_run):
    return toy_run.records


@pytest.fixture(scope="module", autouse=True)
def compiled_once(toy_run):
    """Gives every run the first state and the step that are already compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_step", lambda *_: toy_run.step)
        patch.setattr(loop, "init_state", lambda *_: jax.tree.map(jnp.copy, toy_run.start))
        yield


def run(config, records, directory):
    return loop.train(config, records, directory, artifacts.plain(loop.describe(config)))


def last_state(records, directory):
    update = loop.make_update(toy_config(**RUN), records)
    like = abstract_state(update.method, update.optimizer, CONFIG.seed, sharding.make_mesh())
    return checkpoint.restore_state(directory, like)


def saved_steps(directory):
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory):
    """A run of six steps that nothing disturbed: its directory and what it reported."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(toy_config(**RUN), records, directory)


@pytest.fixture
def managers(monkeypatch):
    """Every `Checkpoints` that a run opens, so that a test can wait where a process would end."""
    opened = []

    class Remembered(checkpoint.Checkpoints):
        def __init__(self, *args):
            super().__init__(*args)
            opened.append(self)

    monkeypatch.setattr(loop, "Checkpoints", Remembered)
    return opened


def interrupt(records, directory, managers, after):
    """Ends a run as soon as it has logged a step."""
    log = Monitor.log

    def log_and_stop(self, step, metrics):
        log(self, step, metrics)
        if step == after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "log", log_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(toy_config(**RUN), records, directory)
    managers[-1].wait()


# After 5 steps the checkpoint of 4 is there; after 4 only that of 2; after 1 there is none.
@pytest.mark.parametrize(("after", "saved"), [(5, [2, 4]), (4, [2]), (1, [])])
def test_interrupted_and_resumed_run_ends_bit_for_bit_the_same(
    records, whole, tmp_path, managers, after, saved
):
    directory, built = whole
    interrupt(records, tmp_path, managers, after)
    assert saved_steps(tmp_path) == saved
    assert len(read_log(tmp_path / LOG)) == after

    assert run(toy_config(**RUN), records, tmp_path) == built
    expected = named_arrays(last_state(records, directory))
    for name, array in named_arrays(last_state(records, tmp_path)).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert read_log(tmp_path / LOG) == read_log(directory / LOG)


def test_each_step_is_logged_once(whole):
    lines = [json.loads(line) for line in (whole[0] / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(line["loss"]) for line in lines)


def test_what_is_reported(whole):
    directory, built = whole
    assert built.info["steps"] == 6
    assert built.info["images"] == 48
    assert built.info["final"] == read_log(directory / LOG)[-1]


def test_last_state_and_as_many_before_it_as_asked_for_are_kept(whole, records):
    assert saved_steps(whole[0]) == [4, 6]
    state = last_state(records, whole[0])
    assert int(state.step) == 6


def test_training_moves_every_trained_array(whole, records, compiled):
    method = loop.make_update(toy_config(**RUN), records).method
    before = named_arrays(compiled[method, CONFIG.seed].params)
    for name, array in named_arrays(last_state(records, whole[0]).params).items():
        assert np.abs(np.asarray(array) - before[name]).max() > 0, name


def test_every_step_of_a_run_uses_one_compilation(whole, compiled):
    del whole
    steps = [value for value in compiled.values() if hasattr(value, "_cache_size")]
    assert [step._cache_size() for step in steps] == [1]


def test_run_that_was_finished_but_not_published_has_only_to_say_so(whole, records, monkeypatch):
    # As after an interruption between the last checkpoint and the manifest.
    directory, built = whole
    monkeypatch.setattr(loop, "compile_step", lambda *_: pytest.fail)
    assert run(toy_config(**RUN), records, directory) == built


def test_loss_that_is_no_number_ends_the_run_unsaved(records, tmp_path, monkeypatch, managers):
    compile_step = loop.compile_step

    def compile_broken(*args):
        step_fn = compile_step(*args)

        def broken(state, batch):
            state, metrics = step_fn(state, batch)
            return state, metrics | {"loss": jnp.where(state.step == 4, jnp.nan, 1.0)}

        return broken

    monkeypatch.setattr(loop, "compile_step", compile_broken)
    with pytest.raises(FloatingPointError, match="loss is nan after step 4; earlier checkpoints"):
        run(toy_config(**RUN), records, tmp_path)
    managers[-1].wait()
    assert saved_steps(tmp_path) == [2]
    assert [line["step"] for line in read_log(tmp_path / LOG)] == [1, 2, 3]


def test_split_smaller_than_the_batch_is_enough_to_train(tmp_path):
    few = fake_archive.prepared(tmp_path, {"train": 3}, size=16)
    directory = tmp_path / "run"
    directory.mkdir()
    run(CONFIG, few, directory)
    assert [line["step"] for line in read_log(directory / LOG)] == [1, 2, 3, 4, 5, 6]


def test_checkpoint_of_other_settings_is_refused(whole, records):
    other = toy_config(
        data={"statistics": "published"},
        train={"log_every": 1, "save_every": 2, "keep": 1},
        augment={"offset": 0.2},
    )
    with pytest.raises(ConfigError, match="made with other settings; give another --workdir"):
        run(other, records, whole[0])


def test_checkpoint_of_another_model_is_refused(whole, records):
    update = loop.make_update(toy_config(model={"predictor_dim": 12}), records)
    like = abstract_state(update.method, update.optimizer, CONFIG.seed, sharding.make_mesh())
    with pytest.raises(DataError, match=r"/6: array '.*predictor/.*' is float32\[.*\], expected"):
        checkpoint.restore_state(whole[0], like)


def test_no_checkpoint_is_said_with_what_to_do(records, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint; run the train stage again"):
        last_state(records, tmp_path)


def test_batch_that_does_not_divide_over_the_devices_is_refused(records, tmp_path):
    config = toy_config(train={"batch_size": 12})
    with pytest.raises(ConfigError, match=r"config\.train\.batch_size = 12 must be a multiple"):
        run(config, records, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_settings_written_into_the_artefact_are_those_training_depends_on():
    described = loop.describe(CONFIG)
    assert described["train"]["save_every"] == 2
    assert described["data"]["statistics"] == "published"
    assert not described.keys() & {"eval", "index", "report", "prepare"}
    assert artifacts.plain(described) == json.loads(json.dumps(described))
