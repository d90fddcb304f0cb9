"""State, data position and settings, saved and restored as one unit or not at all (Orbax)."""

import concurrent.futures
import pathlib
from typing import Any

import grain
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from rejepa_jax.models.arrays import named_arrays, with_arrays
from rejepa_jax.storage import keeping, mirror
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.training.state import TrainState
from rejepa_jax.types import ConfigError


class Checkpoints:
    """The numbered checkpoints of one training run; each is complete or absent.

    In the mirror of a bucket each is kept there too, while training goes on.
    """

    def __init__(self, directory: pathlib.Path, keep: int, settings: dict[str, Any]):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep + 1, create=True)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)
        self._directory, self._settings = directory, settings
        self._keeper = concurrent.futures.ThreadPoolExecutor(1, "keep-checkpoint")
        self._kept: concurrent.futures.Future[None] | None = None

    def save(self, state: TrainState, batches: grain.DatasetIterator) -> None:
        """Starts to write the state and the position after the batch it has just learned from.

        Waits until the checkpoint before is written, and kept.
        """
        self._wait()
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(nested(named_arrays(state))),
                data=grain.checkpoint.CheckpointSave(batches),
                settings=ocp.args.JsonSave(self._settings),
            ),
        )
        if mirror.find(self._directory):
            self._kept = self._keeper.submit(self._keep)

    def _keep(self) -> None:
        """Sends what has been written; an old checkpoint goes once the new one is in the bucket."""
        self._manager.wait_until_finished()
        try:
            for path in self._directory.iterdir():
                if path.is_file():
                    keeping.keep(path)  # the log, which belongs to the checkpoint
            here = {path.name for path in self._directory.iterdir() if path.name.isdigit()}
            there = keeping.kept_folders(self._directory)
            for step in sorted(here, key=int):
                if not there.get(step):
                    keeping.keep(self._directory / step)
            for step in there.keys() - here:
                keeping.forget(self._directory / step)
        except StoreError as error:
            logging.error("checkpoint not kept, training goes on, and the next is tried: %s", error)

    def _wait(self) -> None:
        if self._kept:
            self._kept.result()
            self._kept = None

    def restore(self, like: TrainState, batches: grain.DatasetIterator) -> TrainState | None:
        """Returns the last saved state and moves `batches` to its position; None if none is saved.

        Raises:
            ConfigError: the checkpoint was made with other settings.
            DataError: its arrays are not those of `like`.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        where = self._directory / str(step)
        _check_arrays(where, like)
        saved = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(nested(named_arrays(like))),
                data=grain.checkpoint.CheckpointRestore(batches),
                settings=ocp.args.JsonRestore(),
            ),
        )
        if saved["settings"] != self._settings:
            raise ConfigError(f"{where} was made with other settings; give another --workdir")
        logging.info("resumed from %s", where)
        return with_arrays(like, flat(saved["state"]), str(where))

    def close(self) -> None:
        """Waits and lets go of the directory."""
        try:
            self._wait()
        finally:
            self._keeper.shutdown()
            self._manager.close()


def restore_state(directory: pathlib.Path, like: TrainState) -> TrainState:
    """Returns the last state of a finished run.

    Raises:
        FileNotFoundError: there is none.
        DataError: its arrays are not those of `like`.
    """
    with ocp.CheckpointManager(directory.absolute()) as manager:
        step = manager.latest_step()
        if step is None:
            raise FileNotFoundError(f"{directory} holds no checkpoint; run the train stage again")
        _check_arrays(directory / str(step), like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(nested(named_arrays(like))))
        saved = manager.restore(step, args=args)
    return with_arrays(like, flat(saved["state"]), str(directory / str(step)))


def _check_arrays(where: pathlib.Path, like: TrainState) -> None:
    """Compares what was saved with `like` before it is read: Orbax casts, and names no array."""
    saved = ocp.StandardCheckpointHandler().metadata(epath.Path((where / "state").absolute()))
    with_arrays(like, flat(saved.tree), str(where))


def nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """Turns `{"a/b": x}` into `{"a": {"b": x}}`."""
    out: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, leaf = name.split("/")
        place = out
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = array
    return out


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns `{"a": {"b": x}}` into `{"a/b": x}`."""
    out = {}
    for name, value in tree.items():
        out |= (
            flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value}
        )
    return out
