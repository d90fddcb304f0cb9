"""Shards written by several processes of this machine, or by this one."""

import concurrent.futures
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.data.shard_tasks import Note, ShardTask, write_shard
from rejepa_jax.types import DataError

# Writes shards, in any order; calls back with the number of items done since the last call.
WriteAll = Callable[
    [list[ShardTask], ArchiveFiles, Callable[[int], None]], Iterator[tuple[ShardTask, Note]]
]


def count_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_here(
    tasks: list[ShardTask], files: ArchiveFiles, count: Callable[[int], None]
) -> Iterator[tuple[ShardTask, Note]]:
    """Writes one shard after another in this process."""
    for task in tasks:
        yield task, write_shard(task, files, count)


def write_in_processes(workers: int) -> WriteAll:
    """Returns what writes shards in so many processes."""

    def write_all(
        tasks: list[ShardTask], files: ArchiveFiles, count: Callable[[int], None]
    ) -> Iterator[tuple[ShardTask, Note]]:
        if min(workers, len(tasks)) <= 1:
            yield from write_here(tasks, files, count)
            return
        context = multiprocessing.get_context("spawn")
        done = context.RawArray(ctypes.c_int64, len(tasks))  # items of each shard; needs no lock
        # A large tar's listing takes seconds to send, so each worker gets it once.
        with concurrent.futures.ProcessPoolExecutor(
            min(workers, len(tasks)), context, _start_worker, (files, done)
        ) as pool:
            futures = {pool.submit(_write, place, task): task for place, task in enumerate(tasks)}
            try:
                yield from _collect(futures, done, count)
            finally:
                pool.shutdown(cancel_futures=True)

    return write_all


def _collect(
    futures: dict[concurrent.futures.Future[Note], ShardTask],
    done: Any,
    count: Callable[[int], None],
) -> Iterator[tuple[ShardTask, Note]]:
    waiting, counted, finished = set(futures), 0, 0
    while waiting:
        ready, waiting = concurrent.futures.wait(
            waiting, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
        )
        now = sum(done)
        count(now - counted)
        counted = now
        for future in sorted(ready, key=lambda future: future.exception() is not None):
            try:
                note = future.result()
            except BrokenProcessPool as error:
                raise DataError(
                    f"prepare: a worker process was ended from outside, perhaps for want of memory "
                    f"({error}); {finished} of {len(futures)} shards are finished and kept: run "
                    "again, with fewer --config.prepare.workers if memory is short"
                ) from error
            finished += 1
            yield futures[future], note


_worker: dict[str, Any] = {}  # in a worker process: the archive it reads, where it counts


def _start_worker(files: ArchiveFiles, done: Any) -> None:
    _worker.update(files=files, done=done)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # on Ctrl-C end at once, without a word
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed: nobody waits for what it writes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write(place: int, task: ShardTask) -> Note:
    def count(items: int) -> None:
        _worker["done"][place] += items

    return write_shard(task, _worker["files"], count)
