"""Checkpoints are kept in the bucket while training goes on."""

import json

import fsspec
import grain
import jax.numpy as jnp
import numpy as np

from rejepa_jax import artifacts
from rejepa_jax.storage import fetching, files, keeping, mirror
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.training.checkpoint import Checkpoints
from rejepa_jax.training.state import TrainState


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
        saved._wait()
    assert "not kept, training goes on" in caplog.text
    saved.save(state(2), position)
    saved.close()
    there = files.sizes("memory://bucket/run/checkpoints.partial")
    for step in "12":
        listing = files.read_bytes(f"memory://bucket/run/checkpoints.partial/{step}/.kept.json")
        assert {f"{step}/{name}" for name in json.loads(listing)} <= there.keys()
