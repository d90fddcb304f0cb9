"""Checkpoints are kept in the bucket while training goes on."""

import json

import fsspec
import grain
import jax.numpy as jnp
import numpy as np
import pytest

from rejepa_jax import artifacts
from rejepa_jax.storage import fetching, files, keeping, mirror
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.training.checkpoint import Checkpoints
from rejepa_jax.training.state import TrainState
from rejepa_jax.types import DataError


def checkpoints():
    directory = mirror.open_run("memory://bucket/run") / "checkpoints.partial"
    fetching.resume(directory, "begun.json")
    if not directory.exists():
        artifacts.write_json(_made(directory) / "begun.json", {})
        keeping.keep(directory / "begun.json")
    return directory, Checkpoints(directory, keep=1, settings={"n": 3})


def _made(directory):
    directory.mkdir()
    return directory


def batches():
    return iter(grain.MapDataset.range(100).to_iter_dataset())


def state(step):
    return TrainState(jnp.int32(step), {"w": jnp.full((4,), step, jnp.float32)}, None, ())


def test_checkpoints_outlive_the_machine_and_old_ones_go(machine):
    directory, saved = checkpoints()
    position = batches()
    for step in range(1, 5):
        next(position)
        (directory / "metrics.jsonl").write_text('{"step": 0}\n' * step)
        saved.save(state(step), position)
    saved.close()
    listings = fsspec.filesystem("memory").glob("/bucket/run/checkpoints.partial/*/.kept.json")
    assert [name.split("/")[-2] for name in listings] == ["3", "4"]
    # Of a fifth only a part arrived.
    for name in ("_METADATA", ".kept.json"):
        files.write_bytes(f"memory://bucket/run/checkpoints.partial/5/{name}", b"{}")
    machine()

    directory, saved = checkpoints()
    position = batches()
    restored = saved.restore(state(0), position)
    assert int(restored.step) == 4
    np.testing.assert_array_equal(restored.params["w"], np.full(4, 4))
    assert next(position) == 4
    assert len((directory / "metrics.jsonl").read_text().splitlines()) == 4
    saved.close()


def test_training_goes_on_while_the_store_does_not_answer(monkeypatch, caplog):
    _, saved = checkpoints()
    position = batches()
    with monkeypatch.context() as patch:

        def fail(_):
            raise StoreError("no answer")

        patch.setattr(keeping, "keep", fail)
        saved.save(state(1), position)
        saved.wait()
    assert "not kept, training goes on" in caplog.text
    saved.save(state(2), position)
    saved.close()
    there = files.sizes("memory://bucket/run/checkpoints.partial")
    for step in "12":
        listing = files.read_bytes(f"memory://bucket/run/checkpoints.partial/{step}/.kept.json")
        assert {f"{step}/{name}" for name in json.loads(listing)} <= there.keys()


def saved_twice():
    """Saves steps 1 and 2; returns the directory and a file of the second's."""
    directory, saved = checkpoints()
    position = batches()
    for step in (1, 2):
        next(position)
        saved.save(state(step), position)
    saved.close()
    (bulk,) = (directory / "2" / "state" / "d").iterdir()
    return directory, bulk


def flip(data):
    return bytes([data[0] ^ 4]) + data[1:]


def restored_step():
    _, saved = checkpoints()
    try:
        return int(saved.restore(state(0), batches()).step)
    finally:
        saved.close()


def test_checkpoint_that_is_damaged_here_is_brought_from_the_bucket_again(caplog):
    directory, bulk = saved_twice()
    bulk.write_bytes(flip(bulk.read_bytes()))
    assert restored_step() == 2
    assert f"{bulk}: got " in caplog.text
    assert "brought from the bucket again" in caplog.text
    assert (directory.parent / "checkpoints.damaged" / "2").exists()


def test_checkpoint_that_is_damaged_here_and_not_kept_there_goes_and_is_kept_anew(caplog):
    _, bulk = saved_twice()
    bulk.write_bytes(flip(bulk.read_bytes()))
    url = "memory://bucket/run/checkpoints.partial/2"
    files.write_bytes(f"{url}/.kept.json", b"{}")  # as if it had not been sent whole
    assert restored_step() == 1
    assert "1 steps are lost" in caplog.text
    assert not files.sizes(url)
    _, saved = checkpoints()
    saved.save(state(2), batches())
    saved.close()
    assert "sha256.json" in json.loads(files.read_bytes(f"{url}/.kept.json"))


def test_object_of_a_checkpoint_that_is_damaged_in_the_bucket_is_named(machine):
    _, bulk = saved_twice()
    url = f"memory://bucket/run/checkpoints.partial/2/state/d/{bulk.name}"
    files.write_bytes(url, flip(files.read_bytes(url)))
    machine()
    with pytest.raises(DataError, match=rf"{url}: .*sha256 \w+, expected"):
        restored_step()
