"""State, data position and settings, saved and restored as one unit or not at all (Orbax).

Every process makes the same calls, and writes its part; what there is beside Orbax's own files is
the work of the main one. Where hosts share no disk, for their run is in a bucket, the main one has
the whole state (`gathered`). `checkpoint_files` tells how a checkpoint comes to be whole.
"""

import concurrent.futures
import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from absl import logging

from rejepa_jax import artifacts, processes
from rejepa_jax.storage import keeping, mirror
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.training import checkpoint_files, gathered, orbax_items
from rejepa_jax.training.state import TrainState
from rejepa_jax.types import DataError


class Checkpoints:
    """The numbered checkpoints of one training run: the last, `keep` before it, and the lasting.

    In the mirror of a bucket each is kept there too, while training goes on.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        keep: int,
        settings: dict[str, Any],
        *,
        keep_every: int = 0,
        strict: bool = False,
    ):
        self._directory, self._settings, self._strict = directory, settings, strict
        self._keep, self._keep_every = keep, keep_every
        if processes.is_main():
            directory.mkdir(parents=True, exist_ok=True)
            checkpoint_files.sweep(directory)
        self._is_gathered = gathered.is_needed(directory)
        self._checkpointer = orbax_items.open_checkpointer(self._is_gathered)
        self._finisher = concurrent.futures.ThreadPoolExecutor(1, "finish-checkpoint")
        self._finishing: concurrent.futures.Future[None] | None = None

    def save(self, state: TrainState, batches: grain.DatasetIterator) -> None:
        """Starts to write the state and the position after the batch it has just learned from.

        Waits until the checkpoint before is written, and kept.

        Raises:
            DataError: that one could not be written, or this one cannot be.
        """
        self.wait()
        step = int(state.step)
        if self._is_gathered:
            state = gathered.to_main(state)
            if not processes.is_main():
                return
        where = self._directory / f"{step}{checkpoint_files.SAVING}"
        with _writing(where):
            self._checkpointer.save(
                where.absolute(),
                orbax_items.to_save(state, data=batches.get_state(), settings=self._settings),
            )
        self._finishing = self._finisher.submit(self._finish, step)

    def _finish(self, step: int) -> None:
        """Makes what has been written a checkpoint; an old one goes once the new one is there."""
        with _writing(self._directory / f"{step}{checkpoint_files.SAVING}"):
            self._checkpointer.wait_until_finished()
            if processes.is_main():
                checkpoint_files.seal(self._directory, step)
                checkpoint_files.retire(self._directory, self._keep, self._keep_every)
        if processes.is_main() and mirror.find(self._directory):
            self._keep_in_bucket()

    def _keep_in_bucket(self) -> None:
        try:
            for path in self._directory.iterdir():
                if path.is_file():
                    keeping.keep(path)  # the log, which belongs to the checkpoint
            here = set(map(str, checkpoint_files.saved_steps(self._directory)))
            there = keeping.kept_folders(self._directory)
            for step in sorted(here, key=int):
                if not there.get(step):
                    keeping.keep(self._directory / step)
            for step in there.keys() - here:
                keeping.forget(self._directory / step)
        except StoreError as error:
            logging.error("checkpoint not kept, training goes on, and the next is tried: %s", error)

    def check(self) -> None:
        """Raises a DataError, without waiting, if the last checkpoint could not be written."""
        if self._finishing and self._finishing.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the last checkpoint is written, and kept.

        Raises:
            DataError: it could not be written.
        """
        finishing, self._finishing = self._finishing, None
        if finishing:
            finishing.result()

    def restore(self, like: TrainState, batches: grain.DatasetIterator) -> TrainState | None:
        """Returns the last state that is whole, and moves `batches` there; None if none is saved.

        `like` says what the arrays are and where each is to lie; processes and devices may be
        others than when they were saved.

        Raises:
            ConfigError: the checkpoint was made with other settings.
            DataError: its arrays are not those of `like`, or what is there is damaged.
        """
        step = _found_by_main(lambda: checkpoint_files.newest_good(self._directory, self._strict))
        if step is None:
            return None
        where = self._directory / str(step)
        state, saved = _restore(self._checkpointer, where, like, ("data", "settings"))
        artifacts.refuse_changes(self._directory, saved["settings"], self._settings)
        batches.set_state(saved["data"])
        logging.info("resumed from %s", where)
        return state

    def close(self) -> None:
        """Waits and lets go of the directory."""
        try:
            self.wait()
        finally:
            self._finisher.shutdown()
            self._checkpointer.close()


def restore_state(directory: pathlib.Path, like: TrainState) -> TrainState:
    """Returns the last state of a finished run.

    Raises:
        FileNotFoundError: there is none.
        DataError: its arrays are not those of `like`, or a file of it is damaged.
    """
    where = directory / str(_found_by_main(lambda: checkpoint_files.last_whole(directory)))
    with orbax_items.open_checkpointer(gathered.is_needed(directory)) as checkpointer:
        return _restore(checkpointer, where, like, ())[0]


def _restore(
    checkpointer: ocp.AsyncCheckpointer,
    where: pathlib.Path,
    like: TrainState,
    others: Sequence[str],
) -> tuple[TrainState, Any]:
    """Returns a state and other items; where hosts share no disk, what the main process reads."""
    if not gathered.is_needed(where):
        return orbax_items.restore(checkpointer, where, like, others)
    arrays = gathered.unfilled(like)
    if processes.is_main():
        arrays, saved = orbax_items.restore(checkpointer, where, arrays, others)
        said = {name: saved[name] for name in others}
        processes.tell(json.dumps(said))
    else:
        said = json.loads(processes.hear())
    return gathered.from_main(arrays, like), said


def _found_by_main(look: Callable[[], int | None]) -> int | None:
    """Returns, in every process, the step that the main one finds; it reads every byte for that."""
    if not processes.is_main():
        said = processes.hear()
        return int(said) if said else None
    step = look()
    processes.tell("" if step is None else str(step))
    return step


@contextlib.contextmanager
def _writing(where: pathlib.Path) -> Iterator[None]:
    """Gives whatever goes wrong while a checkpoint is written the same form."""
    try:
        yield
    except (OSError, ValueError) as error:  # Orbax and TensorStore have none of their own
        if isinstance(error.__cause__, jax.errors.JaxRuntimeError):
            raise error.__cause__ from None  # another process is gone
        free = shutil.disk_usage(where.parent).free
        raise DataError(
            f"{where}: the checkpoint could not be written ({error}); {free / 1e9:.3g} GB are "
            "free there. Earlier ones are kept: mend that, and run the same command again to go on"
        ) from error
