"""A server under load: many clients at once, the index changed meanwhile, memory watched.

    python benchmarks/serve.py [--check] [--rows 590326] [--clients 32] [--seconds 60]
        [--index exact] [--workdir DIR]

Makes a run of clustered vectors of 384 numbers with ids, labels, dates and footprints (once, if
`--workdir` is given), serves it as `rejepa serve` does, and asks from another process: 80 % by an
id, 10 % by two ids against a third, 10 % among the images of one label. Every ten seconds or so 50
images are added or 50 deleted, and the server takes up the new version. One JSON line at the end:
requests, failures, requests a second, p50 and p99 in ms, versions seen, resident memory.

Targets of `--check`: no failed request, at least two changes taken up, and the least anonymous
memory in the last third of the time no more than 5 % or 50 MB above that in the third before. The
least, as two versions are in memory while one takes the other's place.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import httpx
import numpy as np
import shapely
from flax import nnx

from rejepa_jax import artifacts
from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.collection import updates
from rejepa_jax.retrieval.collection.parts import Rows
from rejepa_jax.retrieval.embeddings.schema import EmbeddingPart, part_name
from rejepa_jax.retrieval.embeddings.writing import write_part
from rejepa_jax.retrieval.encoder import Bundle, load_bundle, save_bundle
from rejepa_jax.retrieval.index import building

DIM, CENTRES, PART_ROWS, SIDE = 384, 2000, 65536, 32
LABELS = [f"class {number}" for number in range(19)]
START = datetime.datetime(2017, 6, 1, tzinfo=datetime.UTC)
CHANGE_S, CHANGED = 10.0, 50
GROWTH, GROWTH_MB = 1.05, 50.0


def vectors_of(first: int, count: int) -> np.ndarray:
    """Unit vectors around common centres; a row's does not depend on how many there are."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIM)).astype(np.float32)
    draw = np.random.default_rng([1, first])
    noise = draw.normal(size=(count, DIM)).astype(np.float32)
    vectors = centres[draw.integers(0, CENTRES, count)] + 0.7 * noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def part_of(first: int, count: int) -> EmbeddingPart:
    """What is known of some rows."""
    rows = range(first, first + count)
    draw = np.random.default_rng([2, first])
    lon, lat = draw.uniform([-9, 36], [30, 60], (count, 2)).T
    return EmbeddingPart(
        first_row=first,
        ids=[f"S2A_MSIL2A_20170613T101031_{row:06d}" for row in rows],
        vectors=vectors_of(first, count),
        sensor=["s2"] * count,
        labels=[[LABELS[row % 19], LABELS[row * 7 % 19]] for row in rows],
        collection=["invented"] * count,
        split=["train" if row % 5 else "test" for row in rows],
        place=[f"place {row // 2}" for row in rows],
        geometry=list(shapely.to_wkb(shapely.box(lon, lat, lon + 0.015, lat + 0.01))),
        datetime=[(START + datetime.timedelta(hours=row % 9000)).isoformat() for row in rows],
    )


def make(run: pathlib.Path, rows: int, kind: str) -> None:
    """Writes the run, stage by stage; what is there already is kept."""

    def encoders(partial: pathlib.Path) -> artifacts.Built:
        spec = EncoderSpec(SIDE, 8, 3, DIM, 2, 6, 4.0, "float32")
        given = SensorInput((0, 1, 2), (1500.0,) * 3, (800.0,) * 3, 0.0)
        preprocess = Preprocess(SIDE, {"s2": given})
        sensor = Sensor(("B04", "B03", "B02"), "uint16", SIDE, SIDE)
        encoder = Encoder(spec, rngs=nnx.Rngs(0))
        bundle = Bundle("target", encoder, preprocess, "s2", sensor, "mean", 0)
        save_bundle(bundle, partial / "target")
        return artifacts.Built({"encoders": ["target"]})

    artifacts.run_stage(run / "encoders", {}, {}, encoders)
    mark = load_bundle(run / "encoders" / "target").fingerprint
    count = -(-rows // PART_ROWS)

    def embeddings(partial: pathlib.Path) -> artifacts.Built:
        for number in range(count):
            first = number * PART_ROWS
            part = part_of(first, min(PART_ROWS, rows - first))
            write_part(partial / part_name(number, count), part, {"fingerprint": mark})
        return artifacts.Built({"rows": rows})

    def index(partial: pathlib.Path) -> artifacts.Built:
        firsts = range(0, rows, PART_ROWS)
        vectors = np.concatenate([vectors_of(f, min(PART_ROWS, rows - f)) for f in firsts])
        return artifacts.Built(building.build(vectors, partial, kind, mark))

    made = artifacts.run_stage(
        run / "embeddings", {"encoder": "target"}, {"rows": rows, "of": mark}, embeddings
    )
    artifacts.run_stage(run / "index", {"kind": kind}, {"embeddings": made["fingerprint"]}, index)


def body_of(draw: random.Random, rows: int) -> dict:
    """One of the requests that people make."""
    ids = [f"S2A_MSIL2A_20170613T101031_{draw.randrange(rows):06d}" for _ in range(3)]
    kind = draw.random()
    if kind < 0.8:
        return {"positive": ids[:1], "k": 24}
    if kind < 0.9:
        return {"positive": ids[:2], "negative": ids[2:], "k": 24}
    return {"positive": ids[:1], "k": 24, "filters": {"labels": [draw.choice(LABELS)]}}


async def ask(url: str, rows: int, clients: int, seconds: float) -> dict:
    """Asks with many clients at once, each as soon as it was answered; returns what came."""
    until = time.monotonic() + seconds
    took, failures, versions = [], [], set()

    async def one(number: int) -> None:
        draw = random.Random(number)
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while (start := time.monotonic()) < until:
                try:
                    sent = await client.post("/api/search", json=body_of(draw, rows))
                except httpx.HTTPError as error:
                    failures.append(repr(error))
                    continue
                took.append(time.monotonic() - start)
                if sent.status_code == 200 and len(sent.json()["hits"]) == 24:
                    versions.add(sent.json()["version"])
                else:
                    failures.append(sent.text[:200])

    await asyncio.gather(*(one(number) for number in range(clients)))
    return {"took": took, "failures": failures, "versions": len(versions)}


def memory(pid: int) -> dict[str, float]:
    """MB of a process that are in memory: all, and those that are no mapped file."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    names = {"resident": "VmRSS", "anonymous": "RssAnon"}
    return {name: int(facts[key].split()[0]) / 1024 for name, key in names.items()}


def change(run: pathlib.Path, stop: threading.Event) -> None:
    """Adds images, and deletes them again, in turn."""
    mark = load_bundle(run / "encoders" / "target").fingerprint
    step = int(time.time())
    while not stop.wait(CHANGE_S):
        part = part_of(10**6 + step * CHANGED % 10**8, CHANGED)
        updates.add(run, [Rows(part, lambda _: None)], {"fingerprint": mark})
        if stop.wait(CHANGE_S):
            return
        updates.delete(run, list(part.ids))
        step += 1


@contextlib.contextmanager
def serving(run: pathlib.Path):
    """Serves a run; yields the process and its URL once it is ready."""
    command = [sys.executable, "-m", "rejepa_jax.cli", "serve", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        while httpx.get(f"{url}readyz").status_code != 200:
            time.sleep(0.2)
        yield process, url
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise SystemExit(f"the server ended with {process.returncode}, expected 0")
    finally:
        process.kill()


def measure(arguments: argparse.Namespace, run: pathlib.Path) -> dict:
    """Serves, asks, changes and watches."""
    stop, samples = threading.Event(), []
    with serving(run) as (process, url):
        changing = threading.Thread(target=change, args=(run, stop))
        changing.start()
        given = [sys.executable, __file__, "--ask", url]
        for name in ("rows", "clients", "seconds"):
            given += [f"--{name}", str(getattr(arguments, name))]
        with tempfile.TemporaryFile() as told:
            asking = subprocess.Popen(given, stdout=told)
            while asking.poll() is None:
                samples.append(memory(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    asking.wait(1)
            told.seek(0)
            found = json.load(told)
        stop.set()
        changing.join()
    return summary(found, samples, arguments)


def summary(found: dict, samples: list[dict], arguments: argparse.Namespace) -> dict:
    """What is printed."""
    took = 1000 * np.array(found["took"])
    third = max(1, len(samples) // 3)
    anonymous = np.array([sample["anonymous"] for sample in samples])
    times = np.arange(len(anonymous)) / 60
    slope = np.polyfit(times[third:], anonymous[third:], 1)[0] if len(samples) > 5 else 0.0
    return {
        "rows": arguments.rows,
        "index": arguments.index,
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "requests": len(took),
        "failed": len(found["failures"]),
        "first_failures": found["failures"][:3],
        "per_second": round(len(took) / arguments.seconds, 1),
        "p50_ms": round(float(np.percentile(took, 50)), 1),
        "p99_ms": round(float(np.percentile(took, 99)), 1),
        "versions": found["versions"],
        "resident_mb": round(samples[-1]["resident"]),
        "most_anonymous_mb": round(float(anonymous.max())),
        "anonymous_mb": [round(float(part.min())) for part in np.array_split(anonymous, 3)],
        "anonymous_mb_a_minute": round(float(slope), 1),
        "cores": os.cpu_count(),
    }


def shortcomings(row: dict) -> list[str]:
    """Says which targets were missed."""
    before, after = row["anonymous_mb"][1:]
    missed = {
        f"{row['failed']} requests failed": row["failed"] > 0,
        f"{row['versions']} versions seen, expected 3 or more": row["versions"] < 3,
        f"memory grew from {before} to {after} MB": after
        > max(before * GROWTH, before + GROWTH_MB),
    }
    return [text for text, is_so in missed.items() if is_so]


def main() -> int:
    """Parses the command line; returns 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    parser.add_argument("--rows", type=int, default=590_326)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--index", default="exact", help="kind of index")
    parser.add_argument("--workdir", type=pathlib.Path, help="where the run is made and kept")
    parser.add_argument("--ask", metavar="URL", help=argparse.SUPPRESS)  # what clients are told
    arguments = parser.parse_args()
    if arguments.ask:
        work = ask(arguments.ask, arguments.rows, arguments.clients, arguments.seconds)
        print(json.dumps(asyncio.run(work)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.workdir or pathlib.Path(folder)
        run = home / f"served-{arguments.rows}-{arguments.index}"
        make(run, arguments.rows, arguments.index)
        row = measure(arguments, run)
    print(json.dumps(row))
    missed = shortcomings(row) if arguments.check else []
    for text in missed:
        print(f"MISSED: {text}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
