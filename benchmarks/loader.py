"""A BigEarthNet of records: how long it takes to open, what it holds in memory, over an epoch.

    python benchmarks/loader.py [--check] [--records 590326] [--keep DIR]

Writes as many records as BigEarthNet v1 has pairs, in shards of 1,024 with payloads small enough
for any disk (4 x 4 x 12 uint16), then opens them in a fresh process and reads one epoch of batches
of 128. Rows, one JSON line each: seconds to open the records, seconds to the first batch, resident
memory (MB above that of the imports) after opening and at tenths of the epoch, records a second.

Targets of `--check`: opened in less than 2 s and with less than 200 MB; first batch in less than
1 s; memory at the end of the epoch within 20 MB of that after its first tenth.
"""

import argparse
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from rejepa_jax import artifacts
from rejepa_jax.data import examples, pipeline, tfrecord
from rejepa_jax.data.prepare import SCHEMA
from rejepa_jax.data.sensors import SENSORS

SIDE, SHARD, BATCH = 4, 1024, 128
OPEN_S, OPEN_MB, FIRST_S, GROWTH_MB = 2.0, 200.0, 1.0, 20.0


def write(directory: pathlib.Path, count: int) -> artifacts.Built:
    """Writes records as the prepare stage leaves them, with ids as long as BigEarthNet's."""
    sensor = examples.Sensor(SENSORS["s2"].band_names, "uint16", SIDE, SIDE)
    schema = examples.Schema("bigearthnet", {"s2": sensor}, ("forest", "water"))
    find = functools.partial(examples.find_images, schema=schema)
    noise = np.random.default_rng(0).integers(1, 4000, (SHARD, *sensor.shape), np.uint16)
    shards, hashes, size = [], {}, 0
    num_shards = -(-count // SHARD)

    def records(shard: int):
        for row in range(shard * SHARD, min(count, (shard + 1) * SHARD)):
            name = f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{row:06d}"
            image = {"s2": noise[row % SHARD]}
            yield examples.encode(examples.Example(name, image, (row % 2,), name), schema)

    for shard in range(num_shards):
        name = examples.shard_name("bigearthnet", "train", shard, num_shards)
        info = tfrecord.write_shard(directory / name, records(shard), find)
        shards.append({"file": name, "records": info.records})
        hashes[name], size = info.sha256, size + info.bytes
    artifacts.write_json(directory / SCHEMA, schema.to_json())
    entry = {"shards": shards, "bytes": size, "records": count, "statistics": {}}
    return artifacts.Built({"splits": {"train": entry}, "quarantined": 0}, hashes)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def measure(directory: pathlib.Path) -> dict[str, float]:
    """Opens the records and reads an epoch of them; run it in a fresh process."""
    before = resident_mb()
    start = time.monotonic()
    records = pipeline.open_records(directory)
    found = {"open_s": time.monotonic() - start, "open_mb": resident_mb() - before}
    start = time.monotonic()
    batches = pipeline.train_batches(records, "train", ["s2"], BATCH, seed=0)
    next(batches)
    found["first_batch_s"] = time.monotonic() - start
    steps = len(records.rows("train")) // BATCH - 1
    start = time.monotonic()
    for step in range(1, steps + 1):
        next(batches)
        if step % (steps // 10) == 0 and step // (steps // 10) in (1, 5, 10):
            found[f"mb_at_{step // (steps // 10)}_tenths"] = resident_mb() - before
    found["records_per_s"] = steps * BATCH / (time.monotonic() - start)
    return found


def main() -> int:
    """Prints the rows; with --check, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--records", type=int, default=590_326)
    parser.add_argument("--keep", type=pathlib.Path, help="write the records here and keep them")
    parser.add_argument("--measure", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        directory = (arguments.keep or pathlib.Path(name)) / "records"
        build = functools.partial(write, count=arguments.records)
        artifacts.run_stage(directory, {"records": arguments.records}, {}, build)
        command = [sys.executable, __file__, "--measure", str(directory)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    for row, value in found.items():
        print(json.dumps({"row": row, "value": round(value, 3)}))
    growth = found["mb_at_10_tenths"] - found["mb_at_1_tenths"]
    missed = [
        f"{name} = {value:.3f}, must be below {limit}"
        for name, value, limit in (
            ("open_s", found["open_s"], OPEN_S),
            ("open_mb", found["open_mb"], OPEN_MB),
            ("first_batch_s", found["first_batch_s"], FIRST_S),
            ("growth_mb", growth, GROWTH_MB),
        )
        if value >= limit
    ]
    if arguments.check and missed:
        print("missed: " + "; ".join(missed), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
