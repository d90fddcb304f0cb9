"""An archive becomes records: shards with their index, a summary, and a list of what was unusable.

The items of each split are dealt into shards of fixed size in their sorted order, so the shards are
the same bytes whatever the number of workers or interruptions. A finished shard has a note in
`shards/`; after an interruption only those without one, or with a mended item, are written.
"""

import dataclasses
import functools
import json
import pathlib
import shutil
from typing import Any

from absl import logging

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.console import Progress
from rejepa_jax.data import tfds_metadata, tfrecord
from rejepa_jax.data.archives.files import Archive
from rejepa_jax.data.examples import Schema
from rejepa_jax.data.shard_tasks import (
    NOTES,
    UNFINISHED,
    Note,
    ShardTask,
    deal_shards,
    weight_of,
)
from rejepa_jax.data.summary import SUMMARY, Summary, to_text
from rejepa_jax.data.workers import WriteAll, count_cores, write_in_processes
from rejepa_jax.storage import keeping, mirror
from rejepa_jax.types import DataError

SCHEMA = "schema.json"
QUARANTINE = "quarantine.jsonl"
_BESIDE_PIXELS = 1024  # bytes of a record at most, with its place in the index
_SPARE = 64e6  # bytes of notes, metadata and whatever else is written meanwhile


def prepare(
    archive: Archive,
    directory: pathlib.Path,
    settings: Prepare,
    write_all: WriteAll | None = None,
) -> artifacts.Built:
    """Writes every shard that is not there yet, then the metadata over all of them.

    `write_all` writes the shards; by default processes of this machine do.

    Raises:
        DataError: more than `max_bad_fraction` of the items are unusable, the disk is too small,
            or a worker was killed; what is finished stays.
    """
    tasks = deal_shards(archive, directory, settings.shard_records)
    _remove_others(directory, tasks)
    notes = {task.path.name: note for task in tasks if (note := task.finished(archive.files))}
    for name in [name for name, note in notes.items() if note["bad"]]:
        del notes[name]  # an unusable item may be mended by now
    waiting = [task for task in tasks if task.path.name not in notes]
    _check_space(waiting, count_workers(settings))
    total, missing = len(archive.items), sum(len(task.items) for task in waiting)
    weight = sum(weight_of(item) for item in archive.items)
    progress = Progress("prepare", total, "images", total - missing)
    write_all = write_all or write_in_processes(count_workers(settings))
    for task, note in write_all(waiting, archive.files, progress.advance):
        notes[task.path.name] = note
        _check_bad(directory, notes, settings.max_bad_fraction, weight)
    shutil.rmtree(directory / UNFINISHED, ignore_errors=True)
    _write_quarantine(directory, notes)
    settled = {task.path.name: task.settle(notes[task.path.name]) for task in tasks}
    built = _finish(directory, archive.schema, settled)
    return dataclasses.replace(built, info={**built.info, "listing": archive.facts})


def count_workers(settings: Prepare) -> int:
    """Returns how many processes to work with: one a core unless the config says."""
    return settings.workers or count_cores()


def _remove_others(directory: pathlib.Path, tasks: list[ShardTask]) -> None:
    """Removes what was left half-written, and shards of an earlier dealing into another number."""
    shutil.rmtree(directory / UNFINISHED, ignore_errors=True)
    (directory / NOTES).mkdir(exist_ok=True)
    expected = {task.path.name for task in tasks}
    for note in (directory / NOTES).glob("*.json"):
        if note.stem not in expected:
            for path in (directory / note.stem, directory / (note.stem + tfrecord.INDEX_SUFFIX)):
                path.unlink(missing_ok=True)
                keeping.forget(path)
            note.unlink()
            keeping.forget(note)


def _check_space(waiting: list[ShardTask], workers: int) -> None:
    if not waiting:
        return
    first = waiting[0]
    found = mirror.find(first.path)
    if found and found.leaves(first.path):  # in the bucket; only those in work are here
        waiting = waiting[:workers]
    records = sum(len(task.items) for task in waiting)
    pixels = sum(sensor.num_bytes for sensor in first.schema.sensors.values())
    needed = records * (pixels + _BESIDE_PIXELS) + _SPARE
    free = shutil.disk_usage(first.path.parent).free
    if needed > free:
        raise DataError(
            f"{first.path.parent}: got {free / 1e9:.2f} GB of free disk space, expected "
            f"{needed / 1e9:.2f} GB for {records} records of {pixels} bytes; make room, or put the "
            "records elsewhere with --config.data.records=DIR"
        )


def _check_bad(
    directory: pathlib.Path, notes: dict[str, Note], fraction: float, total: int
) -> None:
    bad = [entry for note in notes.values() for entry in note["bad"]]
    lost = sum(entry.get("weight", 1) for entry in bad)
    if lost > fraction * total:
        path = _write_quarantine(directory, notes)
        raise DataError(
            f"{lost} of {total} images cannot be used, more than prepare.max_bad_fraction "
            f"allows ({fraction * total:g}); the first: {bad[0]['id']}: {bad[0]['reason']}. All "
            f"are listed in {path}. Mend them or raise the fraction, and run again: what is done "
            "is kept."
        )


def _write_quarantine(directory: pathlib.Path, notes: dict[str, Note]) -> pathlib.Path:
    path = directory / QUARANTINE
    lines = [json.dumps(entry) + "\n" for name in sorted(notes) for entry in notes[name]["bad"]]
    path.write_text("".join(lines))
    return path


def _finish(directory: pathlib.Path, schema: Schema, notes: dict[str, Note]) -> artifacts.Built:
    """Writes schema, summary and what TFDS reads; the notes are in the order of the shards."""
    splits: dict[str, dict[str, Any]] = {}
    parts: dict[str, list[Summary]] = {}
    for name, note in notes.items():
        entry = splits.setdefault(note["split"], {"shards": []})
        entry["shards"].append({"file": name, "records": note["shard"]["records"]})
        parts.setdefault(note["split"], []).append(Summary.from_json(note["summary"]))
    sums = {split: functools.reduce(Summary.plus, each) for split, each in parts.items()}
    for split, entry in splits.items():
        whole = sums[split]
        entry |= {"records": whole.records, "bytes": whole.bytes}
        entry["statistics"] = {sensor: each.statistics() for sensor, each in whole.sums.items()}
    _write_summary(directory, schema, sums)
    artifacts.write_json(directory / SCHEMA, schema.to_json())
    tfds_metadata.write_tfds_metadata(
        directory,
        schema,
        {split: [shard["records"] for shard in entry["shards"]] for split, entry in splits.items()},
        {split: entry["bytes"] for split, entry in splits.items()},
    )
    hashes = {name: note["shard"]["sha256"] for name, note in notes.items()}
    quarantined = sum(len(note["bad"]) for note in notes.values())
    return artifacts.Built({"splits": splits, "quarantined": quarantined}, hashes)


def _write_summary(directory: pathlib.Path, schema: Schema, sums: dict[str, Summary]) -> None:
    content = {
        "all": functools.reduce(Summary.plus, sums.values()).describe(schema),
        "splits": {split: each.describe(schema) for split, each in sums.items()},
    }
    artifacts.write_json(directory / SUMMARY, content)
    logging.info("records:\n%s", to_text(content))
