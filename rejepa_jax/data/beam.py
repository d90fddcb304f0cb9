"""Shards written by an Apache Beam pipeline: on many machines that see the same storage.

A worker finds the items of its shard in a file of that storage and writes what a process on one
machine would, with the same function; the pipeline itself carries nothing but names of shards.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.examples import Schema
from rejepa_jax.data.prepare import prepare
from rejepa_jax.data.shard_tasks import UNFINISHED, Note, Reader, ShardTask, write_shard
from rejepa_jax.types import ConfigError, DataError


def prepare_with_beam(
    archive: Archive, directory: pathlib.Path, settings: Prepare, options: Sequence[str]
) -> artifacts.Built:
    """Does what `prepare` does, with Beam's `options` (`--runner=DataflowRunner`, ...).

    The archive and the directory have to be where each worker sees them under the same names.

    Raises:
        ConfigError: Beam is not installed, or knows no such runner.
        DataError: as `prepare`; or the pipeline did not write every shard.
    """
    write_all = functools.partial(_write_all, list(options))
    return prepare(archive, directory, settings, write_all)


def _write_all(
    options: list[str],
    tasks: list[ShardTask],
    files: ArchiveFiles,
    count: Callable[[int], None],
) -> Iterator[tuple[ShardTask, Note]]:
    if not tasks:
        return
    for task in tasks:
        path = _list_of(task.path)
        path.parent.mkdir(exist_ok=True)
        artifacts.write_json(path, list(map(vars, task.items)))
    schema, read = tasks[0].schema, tasks[0].read
    _run_pipeline(
        options,
        [str(task.path.absolute()) for task in tasks],
        functools.partial(_write, str(files.path.absolute()), schema, read),
    )
    for task in tasks:
        if not (note := task.finished(files)):
            raise DataError(
                f"{task.path}: got no finished shard, expected one; see what the Beam job logged "
                "and run again: finished shards are kept"
            )
        count(len(task.items))
        yield task, note


def _run_pipeline(options: list[str], paths: list[str], write: Callable[[str], None]) -> None:
    try:
        import apache_beam  # pyrefly: ignore[missing-import]
        from apache_beam.options.pipeline_options import (  # pyrefly: ignore[missing-import]
            PipelineOptions,
        )

        pipeline = apache_beam.Pipeline(options=PipelineOptions(options))
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"Apache Beam: {error}; install rejepa_jax[beam], or correct {options}"
        ) from error
    shards = pipeline | apache_beam.Create(paths) | apache_beam.Reshuffle()  # not all in one worker
    shards | apache_beam.Map(write)
    pipeline.run().wait_until_finish()


def _write(archive: str, schema: Schema, read: Reader, path: str) -> None:
    """Writes one shard, in a worker."""
    task = ShardTask(pathlib.Path(path), _read_list(pathlib.Path(path)), schema, read)
    write_shard(task, _open(archive))


@functools.cache
def _open(archive: str) -> ArchiveFiles:
    return ArchiveFiles(archive)


def _list_of(shard: pathlib.Path) -> pathlib.Path:
    return shard.parent / UNFINISHED / f"{shard.name}.items.json"


def _read_list(shard: pathlib.Path) -> tuple[Item, ...]:
    values = artifacts.read_json(_list_of(shard))
    return tuple(Item(**value | {"labels": tuple(value["labels"])}) for value in values)
