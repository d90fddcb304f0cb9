"""One shard: which items it is made of, how it is written, the note that says it is finished.

A shard is written in a folder of its own and renamed into place, then its note: two processes that
write the same one, or one that is killed, leave a whole shard or none.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from rejepa_jax import artifacts
from rejepa_jax.data import examples, tfrecord
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.summary import Summary
from rejepa_jax.storage import keeping, mirror
from rejepa_jax.types import DataError

NOTES = "shards"  # folder with a note on each finished shard
STAMP = "stamp"  # what the files were, in a note
UNFINISHED = "unfinished"  # folder of the shards that are being written

Reader = Callable[[ArchiveFiles, Item, examples.Schema], examples.Example]
Note = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to write one shard, beside the archive's files."""

    path: pathlib.Path
    items: tuple[Item, ...]
    schema: examples.Schema
    read: Reader

    @property
    def note(self) -> pathlib.Path:
        """Where it is written that the shard is finished, and with what."""
        return self.path.parent / NOTES / f"{self.path.name}.json"

    @property
    def index(self) -> pathlib.Path:
        """Where the shard's index is."""
        return self.path.with_name(self.path.name + tfrecord.INDEX_SUFFIX)

    @property
    def mark(self) -> str:
        """What the shard is made of: a note with another mark is of other items."""
        content = [self.schema.to_json(), list(map(vars, self.items))]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def stamp(self, files: ArchiveFiles) -> str:
        """What the items' files are now: with another stamp the shard is of other content."""
        stamps = [files.stamp(name) for item in self.items for name in item.files.values()]
        return hashlib.sha256("\n".join(stamps).encode()).hexdigest()

    def finished(self, files: ArchiveFiles) -> Note | None:
        """Returns the note if the shard is there and made of these items as they are now."""
        if not (self.note.exists() and self.index.exists()):
            return None
        note = artifacts.read_json(self.note)
        is_whole = mirror.size(self.path) == note["shard"]["bytes"]
        if not is_whole or note["mark"] != self.mark:
            return None
        # Stamps stand only in the notes of an unfinished preparation: see `prepare`.
        return note if STAMP not in note or note[STAMP] == self.stamp(files) else None

    def settle(self, note: Note) -> Note:
        """Takes the stamp out of the note: what records are made of is no part of what they are."""
        if STAMP in note:
            note = {key: value for key, value in note.items() if key != STAMP}
            artifacts.write_json(self.note, note)
            keeping.keep(self.note)
        return note


def deal_shards(archive: Archive, directory: pathlib.Path, size: int) -> list[ShardTask]:
    """Cuts each split's items, in their order, into shards of `size`.

    Raises:
        DataError: there is no item, or two of them have the same id.
    """
    if not archive.items:
        raise DataError("the archive has no image; expected at least one: look at data.archive")
    _check_ids(archive.items)
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


def _check_ids(items: tuple[Item, ...]) -> None:
    known: dict[str, Item] = {}
    for item in items:
        if (other := known.setdefault(item.id, item)) is not item:
            places = [f"{one.split}: {', '.join(one.files.values())}" for one in (other, item)]
            raise DataError(
                f"image {item.id!r}: got the id twice, from {places[0]} and from {places[1]}, "
                "expected one image an id; take one of them out of the archive or its lists"
            )


def weight_of(item: Item) -> int:
    """Returns how many images an item stands for: more than one for a scene that cannot be read."""
    return int(item.facts.get("weight", 1))


def write_shard(
    task: ShardTask, files: ArchiveFiles, count: Callable[[int], None] = lambda _: None
) -> Note:
    """Writes one shard and its note; an item that cannot be used is noted, not written.

    A finished shard is written again only if an item that could not be used has been mended.
    `count` is called with the number of items done since its last call.

    Raises:
        DataError: the disk is full, or refuses for another reason.
    """
    before = task.finished(files)
    if before and not any(_is_mended(task, files, entry["id"]) for entry in before["bad"]):
        count(len(task.items))
        return before
    bad: list[dict[str, Any]] = []
    summary = Summary()

    def records() -> Iterator[bytes]:
        for item in task.items:
            try:
                example, record = _read(task, files, item)
                summary.add(example)
            except (DataError, OSError) as error:
                entry = {"id": item.id, "split": item.split, "reason": str(error)}
                bad.append(entry | ({"weight": weight_of(item)} if weight_of(item) > 1 else {}))
                summary.add_bad(item, str(error))
            except Exception as error:  # a fault of ours, or of a layout: say where
                error.add_note(f"while reading image {item.id}: {', '.join(item.files.values())}")
                raise
            else:
                yield record
            count(1)

    try:
        return _publish(task, records(), bad, summary, task.stamp(files))
    except OSError as error:
        free = shutil.disk_usage(task.path.parent).free
        raise DataError(
            f"{task.path}: got {error}, expected to write it; {free / 1e6:.0f} MB are free there: "
            "make room and run again; finished shards are kept"
        ) from error


def _read(task: ShardTask, files: ArchiveFiles, item: Item) -> tuple[examples.Example, bytes]:
    example = task.read(files, item, task.schema)
    if example.id != item.id:
        raise DataError(f"image {item.id}: got the id {example.id}; mend the layout that reads it")
    return example, examples.encode(example, task.schema)


def _is_mended(task: ShardTask, files: ArchiveFiles, name: str) -> bool:
    (item,) = (item for item in task.items if item.id == name)
    try:
        _read(task, files, item)
    except (DataError, OSError):
        return False
    return True


def _publish(
    task: ShardTask,
    records: Iterator[bytes],
    bad: list[dict[str, Any]],
    summary: Summary,
    stamp: str,
) -> Note:
    """Writes all of a shard into a folder of its own; then index, shard and note get their names.

    If the run is in a bucket they go there at once.
    """
    unfinished = task.path.parent / UNFINISHED
    unfinished.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=unfinished, ignore_cleanup_errors=True) as folder:
        path = pathlib.Path(folder, task.path.name)
        find_images = functools.partial(examples.find_images, schema=task.schema)
        info = tfrecord.write_shard(path, records, find_images)
        summary.bytes = info.bytes
        note = {
            "mark": task.mark,
            STAMP: stamp,  # of before the first was read
            "split": task.items[0].split,
            "shard": dataclasses.asdict(info),
            "bad": bad,
            "summary": summary.to_json(),
        }
        artifacts.write_json(path.with_name(task.note.name), note)
        for target in (task.index, task.path, task.note):
            path.with_name(target.name).replace(target)
    for target in (task.index, task.path, task.note):
        keeping.keep(target)
    return note
