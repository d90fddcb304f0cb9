"""A full evaluation at the size of BigEarthNet: every metric at 10 of 120,000 queries.

    python benchmarks/evaluate.py [--check] [--queries 120000] [--rows 590326] [--dim 384]
                                  [--classes 19] [--full 0]

Draws descriptors around 2,000 centres, each with a label set that its images share up to a few
labels, ranks the gallery exactly for all queries (`retrieval/exact.py`), and scores the hits by
every metric under three relevance rules with 1,000 resamples. `--full N` also ranks the whole
gallery for N of the queries (mAP, R-precision, ANMRR, nDCG). Rows, one JSON line each: wall and CPU
seconds of each part, and memory in MB above that of the data: after each tenth of the queries, how
much it grew in the second half of them, and the most at any time.

Targets of `--check`: memory does not grow with the queries (less than 64 MB in their second half,
when every program is compiled and the heaps have their size), and there are never more than
1,000 MB above the data.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np

from rejepa_jax.retrieval import exact
from rejepa_jax.retrieval.metrics import catalogue, full, intervals
from rejepa_jax.retrieval.metrics.evaluating import Task, measure
from rejepa_jax.retrieval.metrics.protocol import RULES

CENTRES, K, STEP = 2_000, 10, 1024
TARGETS = {"growth_mb": 64, "most_mb": 1_000}
SHOWN = ("f1_micro_sets", "f1_pair_mean", "precision_at_k", "ndcg_at_k", "map_full")


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


class Peak:
    """Looks at the memory ten times a second."""

    def __init__(self) -> None:
        self.most, self._end = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            self.most = max(self.most, resident_mb())

    def stop(self) -> float:
        """Returns the most that was seen."""
        self._end.set()
        self._thread.join()
        return self.most


def draw(count: int, dim: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws unit descriptors and label sets, a few rows at a time."""
    world = np.random.default_rng(0)
    centres = world.normal(size=(CENTRES, dim)).astype(np.float32)
    sizes = world.integers(1, 6, CENTRES)[:, None]
    frequent = world.random((CENTRES, classes)) * np.linspace(1, 4, classes)
    sets = frequent.argsort(axis=1).argsort(axis=1) < sizes
    rng = np.random.default_rng(seed)
    vectors, labels = np.empty((count, dim), np.float32), np.empty((count, classes), bool)
    for start in range(0, count, 8192):
        kind = rng.integers(0, CENTRES, min(8192, count - start))
        part = centres[kind] + 1.5 * rng.standard_normal((len(kind), dim), np.float32)
        vectors[start : start + len(kind)] = part / np.linalg.norm(part, axis=1, keepdims=True)
        labels[start : start + len(kind)] = sets[kind] ^ (rng.random((len(kind), classes)) < 0.03)
    return vectors, labels


def say(row: str, value: float) -> None:
    """Prints a row."""
    print(json.dumps({"row": row, "value": round(value, 3)}), flush=True)


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Prints how long something takes."""
    wall, cpu = time.monotonic(), time.process_time()
    yield
    say(f"{name}_s", time.monotonic() - wall)
    say(f"{name}_cpu_s", time.process_time() - cpu)


def rank(queries: np.ndarray, gallery: np.ndarray, before: float) -> tuple[np.ndarray, list[float]]:
    """Returns the hits, and the memory above the data after each tenth of the queries."""
    placed = exact.place(gallery)
    hits = np.full((len(queries), K), -1, np.int32)  # written to, so that it is there
    tenths = []
    short = len(queries) % STEP  # comes first, as it has a program of its own
    for done in range(short or STEP, len(queries) + 1, STEP):
        block = slice(max(0, done - STEP), done)
        hits[block] = exact.top_k(queries[block], placed, K)[1]
        if done * 10 // len(queries) > len(tenths):
            tenths.append(resident_mb() - before)
            say(f"mb_at_{done * 10 // len(queries)}_tenths", tenths[-1])
    return hits, tenths


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    for name, default in (("queries", 120_000), ("rows", 590_326), ("dim", 384), ("classes", 19)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--full", type=int, default=0, help="queries that rank the whole gallery")
    return parser.parse_args()


def evaluate(
    task: Task, queries: np.ndarray, gallery: np.ndarray
) -> tuple[dict[str, intervals.Score], dict[str, float]]:
    """Returns every metric of the hits, and what memory that took above the data."""
    exact.top_k(queries[:STEP], gallery[:STEP], K)  # starts the device
    before, peak = resident_mb(), Peak()
    with timed("all"):
        with timed("rank"):
            hits, tenths = rank(queries, gallery, before)
        with timed("score"):
            columns = measure(task, hits)
        with timed("intervals"):
            scores = intervals.scores(columns, catalogue.at_k(RULES))
    return scores, {
        "growth_mb": tenths[-1] - tenths[len(tenths) // 2],
        "most_mb": peak.stop() - before,
    }


def main() -> int:
    """Prints the rows; with --check, compares."""
    asked = parse()
    queries, query_labels = draw(asked.queries, asked.dim, asked.classes, seed=1)
    gallery, gallery_labels = draw(asked.rows, asked.dim, asked.classes, seed=2)
    task = Task(query_labels, gallery_labels, RULES)
    scores, memory = evaluate(task, queries, gallery)
    if asked.full:
        some = np.linspace(0, asked.queries - 1, asked.full, dtype=int)
        with timed("full"):
            scores |= full.evaluate_gallery(task.pick(some), queries[some], gallery)
    for name in SHOWN:
        if name in scores:
            print(json.dumps({"row": name, **scores[name]._asdict()}))
    for name, value in memory.items():
        say(name, value)
    missed = [
        f"{name} = {value:.0f}, must be below {TARGETS[name]}"
        for name, value in memory.items()
        if value >= TARGETS[name]
    ]
    if asked.check and missed:
        print("missed: " + "; ".join(missed), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
