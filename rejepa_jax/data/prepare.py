"""An archive becomes records: shards with their index, statistics and a list of what was unusable.

The items of each split are dealt into shards of fixed size in their sorted order, so the shards are
the same bytes whatever the number of workers or interruptions. A finished shard has a note in
`shards/`; after an interruption only those without one, or with unusable items, are written.
"""

import collections
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.console import Progress
from rejepa_jax.data import examples, sensors, statistics, tfds_metadata, tfrecord
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.types import DataError

SCHEMA = "schema.json"
QUARANTINE = "quarantine.jsonl"
NOTES = "shards"  # folder with a note on each finished shard


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to write one shard, beside the archive's files."""

    path: pathlib.Path
    items: tuple[Item, ...]
    schema: examples.Schema
    read: Callable[[ArchiveFiles, Item, examples.Schema], examples.Example]

    @property
    def note(self) -> pathlib.Path:
        """Where it is written that the shard is finished, and with what."""
        return self.path.parent / NOTES / f"{self.path.name}.json"

    @property
    def mark(self) -> str:
        """What the shard is made of: a note with another mark is of another dealing of items."""
        return artifacts.fingerprint([dataclasses.asdict(item) for item in self.items])


def prepare(archive: Archive, directory: pathlib.Path, settings: Prepare) -> artifacts.Built:
    """Writes every shard that is not there yet, then the metadata over all of them.

    Raises:
        DataError: more than `max_bad_fraction` of the items are unusable; what is finished stays.
    """
    (directory / NOTES).mkdir(exist_ok=True)
    tasks = deal_shards(archive, directory, settings.shard_records)
    notes = {task.path.name: artifacts.read_json(task.note) for task in tasks if task.note.exists()}
    notes = {  # an unusable item may be mended by now, and the items may be others
        task.path.name: notes[task.path.name]
        for task in tasks
        if task.path.name in notes
        and not notes[task.path.name]["bad"]
        and notes[task.path.name]["items"] == task.mark
    }
    waiting = [task for task in tasks if task.path.name not in notes]
    _remove_others(directory, tasks)
    total = len(archive.items)
    progress = Progress("prepare", total, "images", sum(map(_items_in, notes.values())))
    for task, note in _write_all(waiting, archive.files, count_workers(settings)):
        notes[task.path.name] = note
        _check_bad(directory, notes, settings.max_bad_fraction * total, total)
        progress.update(sum(map(_items_in, notes.values())))
    _write_quarantine(directory, notes)
    return _finish(archive, directory, [(task, notes[task.path.name]) for task in tasks])


def _remove_others(directory: pathlib.Path, tasks: list[ShardTask]) -> None:
    """Removes shards and notes of an earlier dealing of the items into another number of shards."""
    expected = {task.path.name for task in tasks}
    for note in (directory / NOTES).glob("*.json"):
        if note.stem not in expected:
            for path in (directory / note.stem, directory / (note.stem + tfrecord.INDEX_SUFFIX)):
                path.unlink(missing_ok=True)
            note.unlink()


def count_workers(settings: Prepare) -> int:
    """Returns how many processes to work with: one a core unless the config says."""
    return settings.workers or os.cpu_count() or 1


def deal_shards(archive: Archive, directory: pathlib.Path, size: int) -> list[ShardTask]:
    """Cuts each split's items, in their order, into shards of `size`."""
    if not archive.items:
        raise DataError("the archive has no image; expected at least one: look at data.archive")
    by_split = collections.defaultdict(list)
    for item in archive.items:
        by_split[item.split].append(item)
    tasks = []
    for split, items in sorted(by_split.items()):
        count = -(-len(items) // size)
        for shard in range(count):
            name = examples.shard_name(archive.schema.name, split, shard, count)
            part = tuple(items[shard * size : (shard + 1) * size])
            tasks.append(ShardTask(directory / name, part, archive.schema, archive.read))
    return tasks


def _write_all(
    tasks: list[ShardTask], files: ArchiveFiles, workers: int
) -> Iterator[tuple[ShardTask, dict[str, Any]]]:
    """Yields each shard's note as it is finished, in any order."""
    if workers == 1 or len(tasks) <= 1:
        for task in tasks:
            yield task, write_shard(task, files)
        return
    # A large tar's listing takes seconds to send, so each worker gets it once, not with each task.
    with concurrent.futures.ProcessPoolExecutor(
        min(workers, len(tasks)),
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(files,),
    ) as pool:
        futures = {pool.submit(_write_in_worker, task): task for task in tasks}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


_worker_files: list[ArchiveFiles] = []  # in a worker process: the one archive it reads


def _start_worker(files: ArchiveFiles) -> None:
    _worker_files.append(files)


def _write_in_worker(task: ShardTask) -> dict[str, Any]:
    return write_shard(task, _worker_files[0])


def write_shard(task: ShardTask, files: ArchiveFiles) -> dict[str, Any]:
    """Writes one shard and its note; an item that cannot be used is noted, not written."""
    bad: list[dict[str, str]] = []
    sums: dict[str, statistics.BandSums] = {}

    def records() -> Iterator[bytes]:
        for item in task.items:
            try:
                example = task.read(files, item, task.schema)
                record = examples.encode(example, task.schema)
            except (DataError, FileNotFoundError) as error:
                bad.append({"id": item.id, "split": item.split, "reason": str(error)})
                continue
            for sensor, image in example.images.items():
                part = statistics.band_sums(image, sensors.nodata(sensor))
                sums[sensor] = part if sensor not in sums else sums[sensor].plus(part)
            yield record

    info = tfrecord.write_shard(task.path, records())
    note = {
        "items": task.mark,
        "split": task.items[0].split,
        "shard": dataclasses.asdict(info),
        "bad": bad,
        "sums": {sensor: part.to_json() for sensor, part in sums.items()},
    }
    artifacts.write_json(task.note, note)
    return note


def _finish(
    archive: Archive, directory: pathlib.Path, shards: list[tuple[ShardTask, dict[str, Any]]]
) -> artifacts.Built:
    splits: dict[str, dict[str, Any]] = {}
    for task, note in shards:
        entry = splits.setdefault(note["split"], {"shards": [], "bytes": 0, "sums": {}})
        entry["shards"].append({"file": task.path.name, "records": note["shard"]["records"]})
        entry["bytes"] += note["shard"]["bytes"]
        for sensor, value in note["sums"].items():
            part = statistics.BandSums.from_json(value)
            before = entry["sums"].get(sensor)
            entry["sums"][sensor] = part if before is None else before.plus(part)
    for entry in splits.values():
        entry["records"] = sum(shard["records"] for shard in entry["shards"])
        sums = entry.pop("sums")
        entry["statistics"] = {sensor: part.statistics() for sensor, part in sums.items()}
    artifacts.write_json(directory / SCHEMA, archive.schema.to_json())
    tfds_metadata.write_tfds_metadata(
        directory,
        archive.schema,
        {split: [shard["records"] for shard in entry["shards"]] for split, entry in splits.items()},
        {split: entry["bytes"] for split, entry in splits.items()},
    )
    hashes = {task.path.name: note["shard"]["sha256"] for task, note in shards}
    quarantined = sum(len(note["bad"]) for _, note in shards)
    return artifacts.Built({"splits": splits, "quarantined": quarantined}, hashes)


def _items_in(note: dict[str, Any]) -> int:
    return note["shard"]["records"] + len(note["bad"])


def _check_bad(
    directory: pathlib.Path, notes: dict[str, dict[str, Any]], allowed: float, total: int
) -> None:
    bad = [entry for note in notes.values() for entry in note["bad"]]
    if len(bad) > allowed:
        path = _write_quarantine(directory, notes)
        raise DataError(
            f"{len(bad)} of {total} images cannot be used, more than prepare.max_bad_fraction "
            f"allows ({allowed:g}); the first: {bad[0]['id']}: {bad[0]['reason']}. All are listed "
            f"in {path}. Mend them or raise the fraction, and run again: what is done is kept."
        )


def _write_quarantine(directory: pathlib.Path, notes: dict[str, dict[str, Any]]) -> pathlib.Path:
    path = directory / QUARANTINE
    lines = [json.dumps(entry) + "\n" for name in sorted(notes) for entry in notes[name]["bad"]]
    path.write_text("".join(lines))
    return path
