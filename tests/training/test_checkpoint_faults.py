"""Checkpoints whose files change, disks that are full, clocks that jump, other devices."""

import itertools
import pathlib
import shutil
import time

import grain
import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rejepa_jax import artifacts
from rejepa_jax.config import Mesh
from rejepa_jax.training import checkpoint_files, sharding
from rejepa_jax.training.checkpoint import Checkpoints, restore_state
from rejepa_jax.training.state import TrainState
from rejepa_jax.types import ConfigError, DataError

SETTINGS = {"optim": {"peak_lr": 0.1, "eps": 1e-8}, "seed": 3}
WHOLE = PartitionSpec()


def batches():
    return iter(grain.MapDataset.range(1000).to_iter_dataset())


def state(step, mesh=None, cut=WHOLE):
    """A state that is another one after each step, laid out over a mesh."""
    mesh = mesh or sharding.make_mesh()
    values = np.random.default_rng(step).normal(size=(2, 16, 8)).astype(np.float32)
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, cut)
    params = {"kernel": jax.device_put(values[0], split), "bias": jax.device_put(values[1], whole)}
    return TrainState(jax.device_put(np.int32(step), whole), params, None, ())


def write(directory, *steps, keep=9, **options):
    with_position = batches()
    checkpoints = Checkpoints(directory, keep, SETTINGS, **options)
    for step in range(1, max(steps) + 1):
        next(with_position)
        if step in steps:
            checkpoints.save(state(step), with_position)
    checkpoints.close()


def read(directory, like=None, **options):
    """Restores; returns the step, the number of the next batch, and the arrays."""
    position = batches()
    checkpoints = Checkpoints(directory, 9, SETTINGS, **options)
    try:
        restored = checkpoints.restore(like or state(0), position)
    finally:
        checkpoints.close()
    return restored and (int(restored.step), next(position), restored.params)


def names(checkpoint):
    return sorted(
        p.relative_to(checkpoint).as_posix() for p in checkpoint.rglob("*") if p.is_file()
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 2, 4 and 7."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints.partial"
    write(directory, 2, 4, 7)
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints.partial")


def flip(path, place, bit):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def test_every_file_of_a_checkpoint_has_its_hash(saved):
    hashes = artifacts.read_json(saved / "7" / "sha256.json")
    assert sorted([*hashes, "sha256.json"]) == names(saved / "7")
    assert all(artifacts.sha256_file(saved / "7" / name) == h for name, h in hashes.items())


def test_every_flip_cut_and_loss_in_every_file_is_found(saved, tmp_path):
    rng = np.random.default_rng(0)
    for name in names(saved / "7"):
        path, whole = saved / "7" / name, (saved / "7" / name).read_bytes()
        try:
            for place in {0, len(whole) - 1, *rng.integers(0, len(whole), 6).tolist()}:
                flip(path, place, rng.integers(8))
                assert str(saved / "7") in checkpoint_files.find_fault(saved / "7"), (name, place)
                path.write_bytes(whole)
            path.write_bytes(whole[: rng.integers(len(whole))])
            assert checkpoint_files.find_fault(saved / "7"), name
            path.rename(tmp_path / "away")
            assert name in checkpoint_files.find_fault(saved / "7")
        finally:
            path.write_bytes(whole)
    assert checkpoint_files.find_fault(saved / "7") == ""


def test_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(copy, caplog):
    (bulk,) = (copy / "7" / "state" / "d").iterdir()
    expected = artifacts.sha256_file(bulk)
    flip(bulk, 5, 3)
    got, damaged = artifacts.sha256_file(bulk), names(copy / "7")
    step, position, params = read(copy)
    assert (step, position) == (4, 4)
    np.testing.assert_array_equal(params["kernel"], state(4).params["kernel"])
    assert f"{bulk}: got {got}, expected sha256 {expected}" in caplog.text
    assert "going on from step 4: 3 steps are lost" in caplog.text
    aside = copy.parent / "checkpoints.damaged" / "7"
    assert f"the damaged checkpoint of step 7 is now {aside}" in caplog.text
    assert names(aside) == damaged

    write(copy, 7)  # the run comes there again, and once more it is damaged
    (copy / "7" / "sha256.json").unlink()
    assert read(copy)[0] == 4
    assert {path.name for path in aside.parent.iterdir()} == {"7", "7-2"}


def test_damaged_checkpoint_is_refused_if_that_is_asked_for(copy):
    (copy / "7" / "data" / "metadata").write_text('{"next_index": 6}')
    with pytest.raises(DataError, match=r"7/data/metadata: got \w+, expected sha256 .*strict"):
        read(copy, strict=True)
    assert checkpoint_files.saved_steps(copy) == [2, 4, 7]


def test_training_never_begins_again_in_silence(copy):
    for step in "247":
        (copy / step / "sha256.json").write_text("[]")
    for _ in range(2):
        with pytest.raises(DataError, match=r"no checkpoint that is whole \(damaged: .* 7, 4, 2\)"):
            read(copy)


def test_finished_run_whose_last_state_is_damaged_is_not_exported(copy):
    assert int(restore_state(copy, state(0)).step) == 7
    path = copy / "7" / "state" / "_METADATA"
    flip(path, 10, 0)
    with pytest.raises(DataError, match=rf"{path}: got .*; remove {copy} and run again"):
        restore_state(copy, state(0))


def test_what_was_being_written_or_removed_when_the_process_ended_does_not_count(copy):
    shutil.copytree(copy / "7", copy / "9.saving")
    shutil.copytree(copy / "7" / "state", copy / "9.saving.orbax-checkpoint-tmp" / "state")
    shutil.copytree(copy / "7" / "state", copy / "1.old")
    assert read(copy)[0] == 7
    assert {path.name for path in copy.iterdir()} == {"2", "4", "7"}


def test_checkpoints_that_are_kept(tmp_path):
    write(tmp_path / "run", 1, 2, 3, 4, keep=1, keep_every=2)
    assert checkpoint_files.saved_steps(tmp_path / "run") == [2, 3, 4]
    assert not [path for path in (tmp_path / "run").iterdir() if not path.name.isdigit()]
    for step in range(20, 1020, 10):
        (tmp_path / "many" / str(step)).mkdir(parents=True)
    checkpoint_files.retire(tmp_path / "many", keep=2, keep_every=250)
    assert checkpoint_files.saved_steps(tmp_path / "many") == [250, 500, 750, 990, 1000, 1010]


def test_changed_settings_are_refused_and_listed(copy):
    checkpoints = Checkpoints(copy, 9, {"optim": {"peak_lr": 0.2, "eps": 1e-8}, "seed": 3})
    with pytest.raises(ConfigError, match=r"other settings \(optim.peak_lr: 0.1 -> 0.2\)"):
        checkpoints.restore(state(0), batches())
    checkpoints.close()


def test_clock_that_jumps_between_and_during_saves_changes_nothing(tmp_path, monkeypatch):
    now = time.time()
    times = (now + jump for jump in itertools.cycle([0, -4e8, 5e5, -86400, 3600]))
    monkeypatch.setattr(time, "time", lambda: next(times))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(times) * 1e9))
    write(tmp_path / "run", 1, 2, 3, 4, keep=1)
    assert checkpoint_files.saved_steps(tmp_path / "run") == [3, 4]
    assert read(tmp_path / "run")[:2] == (4, 4)


def cut_of(mesh):
    return PartitionSpec(("fsdp", "data"), None) if mesh.shape["fsdp"] > 1 else PartitionSpec()


@pytest.mark.parametrize(
    ("before", "after"), [((8, 1), (1, 8)), ((4, 2), (1, 1)), ((1, 1), (2, 2))]
)
def test_state_goes_on_with_other_devices_bit_for_bit(tmp_path, before, after):
    def mesh(data, fsdp):
        return sharding.make_mesh(Mesh(data=data, fsdp=fsdp), jax.devices()[: data * fsdp])

    there = state(5, mesh(*before), cut_of(mesh(*before)))
    checkpoints = Checkpoints(tmp_path, 1, SETTINGS)
    checkpoints.save(there, batches())
    checkpoints.close()
    like = state(0, mesh(*after), cut_of(mesh(*after)))
    _, _, params = read(tmp_path, like)
    for name, array in params.items():
        assert array.sharding == like.params[name].sharding
        assert np.asarray(array).tobytes() == np.asarray(there.params[name]).tobytes()


def test_save_that_fails_in_the_background_is_told_at_the_next_step(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "seal", fail)
    checkpoints = Checkpoints(tmp_path, 1, SETTINGS)
    checkpoints.save(state(1), batches())
    deadline = time.monotonic() + 60
    with pytest.raises(DataError, match=r"1\.saving: .* could not be written .*No space left"):
        while time.monotonic() < deadline:
            checkpoints.check()
    checkpoints.close()
    assert read(pathlib.Path(tmp_path)) is None
