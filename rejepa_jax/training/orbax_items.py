"""What Orbax is asked to save and to restore: a state as nested dicts of arrays, and JSON."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from rejepa_jax.models.arrays import named_arrays, with_arrays
from rejepa_jax.training.state import TrainState

STATE = "state"
DEADLINE = 50 * 365 * 86400  # seconds; a save that hangs is a matter of `train.hang_timeout`


def open_checkpointer(is_alone: bool = False) -> ocp.AsyncCheckpointer:
    """Opens Orbax, which holds its deadlines against a clock that may jump: so they are far off.

    With `is_alone` this process writes and reads whole arrays, and waits for no other.
    """
    options = ocp.options.AsyncOptions(
        timeout_secs=DEADLINE, create_directories_asynchronously=False
    )
    together = ocp.options.MultiprocessingOptions()
    if is_alone:
        me = jax.process_index()
        together = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
        )
    parts = ocp.CompositeOptions(async_options=options, multiprocessing_options=together)
    handler = ocp.CompositeCheckpointHandler(composite_options=parts)
    return ocp.AsyncCheckpointer(handler, async_options=options, multiprocessing_options=together)


def to_save(state: TrainState, **others: Any) -> ocp.args.Composite:
    """Describes a state, and other things that are JSON, as the items of one checkpoint."""
    items: dict[str, Any] = {name: ocp.args.JsonSave(other) for name, other in others.items()}
    items[STATE] = ocp.args.StandardSave(nested(named_arrays(state)))
    return ocp.args.Composite(**items)


def restore(
    checkpointer: ocp.AsyncCheckpointer,
    where: pathlib.Path,
    like: TrainState,
    others: Sequence[str] = (),
) -> tuple[TrainState, Any]:
    """Returns a state, each array where `like` has it, and other items by name.

    Raises:
        DataError: the arrays are not those of `like`.
    """
    _check_arrays(where, like)
    items: dict[str, Any] = {name: ocp.args.JsonRestore() for name in others}
    items[STATE] = ocp.args.StandardRestore(nested(named_arrays(like)))
    saved = checkpointer.restore(where.absolute(), ocp.args.Composite(**items))
    return with_arrays(like, flat(saved[STATE]), str(where)), saved


def _check_arrays(where: pathlib.Path, like: TrainState) -> None:
    """Compares what was saved with `like` before it is read: Orbax casts, and names no array."""
    saved = ocp.StandardCheckpointHandler().metadata(epath.Path((where / STATE).absolute()))
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
