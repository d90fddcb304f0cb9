"""Reading BigEarthNet-sized patches into batches, beside what else one could read them from.

    python benchmarks/input.py [--check] [--records 1024]

All rows read the same 120 x 120 x 12 uint16 patches in one run, with a warm page cache; the best of
several repeats counts, since other work on the machine only ever slows a repeat down. One JSON line
a row, in patches per second of CPU time of this process, all of its threads together:

    memmap        rival: numpy stacks patches out of one memory-mapped array, in shuffled order
    memmap_into   the same copy into one batch that is allocated once: the memory's own speed
    records       our shards through the real pipeline, shuffled, every checksum at every reading
    records_once  the same with --config.data.check=first, after an epoch: no checksum is left to do
    tfdata        rival: TFRecordDataset, parse_single_example, decode_raw, batch; in file order
    checksum      CRC-32C of each patch's bytes, nothing else
    geotiff       rival: twelve band files a patch by rasterio, as the archive ships them
    prepare       BigEarthNet band files (12 + 2 a patch) to records, by the stage that users run

Targets of `--check`: records >= 0.40 of memmap, >= 4,000 patches a CPU second, >= 5 times tfdata,
>= 50 times geotiff; records_once >= 5,000; prepare >= 35. tfdata needs TensorFlow, which is in the
extra `interop`; without it the row is missing and `--check` ends with 2.
"""

import argparse
import functools
import importlib.util
import json
import pathlib
import sys
import tempfile
import time
import warnings

import numpy as np
import rasterio
from awscrt.checksums import crc32c

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.data import pipeline
from rejepa_jax.data.archives import rasters, synthetic
from rejepa_jax.data.archives.bigearthnet import archive as bigearthnet
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.prepare import prepare
from rejepa_jax.data.sensors import SENSORS

SIZE, BATCH, TIFF_PATCHES, REPEATS = 120, 64, 60, 7
BANDS = SENSORS["s2"].bands
TARGETS = (  # row, the row that it is divided by, at least
    ("records", "memmap", 0.40),
    ("records", "", 4000.0),
    ("records", "tfdata", 5.0),
    ("records", "geotiff", 50.0),
    ("records_once", "", 5000.0),
    ("prepare", "", 35.0),
)


def rate(run, patches: int, repeats: int = REPEATS) -> float:
    """Patches a CPU second in the best repeat."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return patches / min(times)


def read_row(files: ArchiveFiles, item: Item, _: Schema) -> Example:
    """Takes one patch out of the memory-mapped array."""
    array = np.load(files.path / "patches.npy", mmap_mode="r", allow_pickle=False)
    return Example(item.id, {"s2": np.array(array[int(item.id)])}, (), item.id)


def make_records(directory: pathlib.Path, count: int) -> pathlib.Path:
    """Writes the array as records, by the stage that users run."""
    names = tuple(band.name for band in BANDS)
    schema = Schema("benchmark", {"s2": Sensor(names, "uint16", SIZE, SIZE)}, ())
    items = tuple(Item(f"{i:06d}", "train", (), {}) for i in range(count))
    archive = Archive(schema, items, ArchiveFiles(directory), read_row)
    settings = Prepare(workers=1, shard_records=256)
    records = directory / "records"
    artifacts.run_stage(records, {}, {}, lambda partial: prepare(archive, partial, settings))
    return records


def memmap_rates(directory: pathlib.Path, count: int) -> dict[str, float]:
    """Copies shuffled batches out of the array, into fresh memory and into the same."""
    array = np.load(directory / "patches.npy", mmap_mode="r", allow_pickle=False)
    order = np.random.default_rng(1).permutation(count).reshape(-1, BATCH)
    batch = np.empty((BATCH, *array.shape[1:]), array.dtype)

    def fresh() -> None:
        for rows in order:
            np.stack([array[row] for row in rows])

    def same() -> None:
        for rows in order:
            for place, row in enumerate(rows):
                batch[place] = array[row]

    def check() -> None:
        for place in np.arange(count) % BATCH:
            crc32c(batch[place])

    runs = {"memmap": fresh, "memmap_into": same, "checksum": check}
    return {name: rate(run, count) for name, run in runs.items()}


def record_rates(records: pathlib.Path, count: int) -> dict[str, float]:
    """Takes batches from the pipeline that training takes them from."""

    def take(batches) -> None:
        for _ in range(count // BATCH):
            next(batches)

    found = {}
    for row, check in (("records", "every"), ("records_once", "first")):
        opened = pipeline.open_records(records, check)
        batches = pipeline.train_batches(opened, "train", ["s2"], BATCH, seed=0)
        found[row] = rate(functools.partial(take, batches), count)
    return found


def tfdata_rate(records: pathlib.Path, count: int) -> dict[str, float]:
    """Reads the same shards through TensorFlow, its own way, with its own choice of threads."""
    if importlib.util.find_spec("tensorflow") is None:
        return {}
    import tensorflow as tf

    features = {"s2": tf.io.FixedLenFeature([], tf.string)}

    def parse(record):
        pixels = tf.io.parse_single_example(record, features)["s2"]
        return tf.reshape(tf.io.decode_raw(pixels, tf.uint16), (SIZE, SIZE, len(BANDS)))

    files = sorted(str(path) for path in records.glob("*.tfrecord-*-of-*[0-9]"))

    def run() -> None:
        dataset = tf.data.TFRecordDataset(files).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        seen = sum(len(batch) for batch in dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE))
        assert seen == count

    return {"tfdata": rate(run, count)}


def geotiff_rate(directory: pathlib.Path, patches: np.ndarray) -> dict[str, float]:
    """Writes band files at their own sizes, then reads and resamples each with rasterio."""
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    paths = []
    for row, patch in enumerate(patches):
        for place, band in enumerate(BANDS):
            step = round(band.gsd_m / 10)
            pixels = patch[::step, ::step, place]
            height, width = pixels.shape
            path = directory / f"{row}_{band.name}.tif"
            profile = {"driver": "GTiff", "dtype": "uint16", "count": 1}
            with rasterio.open(path, "w", **profile, height=height, width=width) as file:
                file.write(pixels, 1)
            paths.append(path)

    def run() -> None:
        for path in paths:
            with rasterio.open(path) as file:
                rasters.to_grid(file.read(1), SIZE)

    return {"geotiff": rate(run, len(patches), 3)}


def prepare_rate(directory: pathlib.Path) -> dict[str, float]:
    """Prepares an archive in BigEarthNet's layout, one worker, in this process."""
    root = directory / "archive"
    synthetic.write_archive(root, seed=0, counts={"train": TIFF_PATCHES}, workers=1)
    archive = bigearthnet.open_archive(root)

    def run() -> None:
        with tempfile.TemporaryDirectory() as name:
            prepare(archive, pathlib.Path(name), Prepare(workers=1))

    return {"prepare": rate(run, TIFF_PATCHES, 3)}


def measure(directory: pathlib.Path, count: int) -> dict[str, float]:
    """Returns each row's rate."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 4000, (count, SIZE, SIZE, len(BANDS)), np.uint16)
    np.save(directory / "patches.npy", patches)
    found = geotiff_rate(directory, patches[:TIFF_PATCHES])
    del patches
    found |= prepare_rate(directory)
    records = make_records(directory, count)
    return (
        found
        | record_rates(records, count)
        | memmap_rates(directory, count)
        | tfdata_rate(records, count)
    )


def main() -> int:
    """Prints the rows; with --check, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--records", type=int, default=1024, help=f"a multiple of {BATCH}")
    arguments = parser.parse_args()
    if arguments.records % BATCH:
        parser.error(f"--records must be a multiple of {BATCH}")
    with tempfile.TemporaryDirectory() as name:
        rates = measure(pathlib.Path(name), arguments.records)
    for row, value in rates.items():
        print(json.dumps({"row": row, "patches_per_cpu_s": round(value, 1)}))
    missed = False
    for row, other, limit in TARGETS:
        if other and other not in rates:
            print(f"{row} / {other}: not compared, TensorFlow is missing: extra `interop`")
            continue
        value = rates[row] / rates[other] if other else rates[row]
        missed |= value < limit
        name = f"{row} / {other}" if other else row
        print(f"{'missed' if value < limit else 'held':6}  {name} = {value:.3g}, target {limit:g}")
    if not arguments.check:
        return 0
    return 2 if "tfdata" not in rates else int(missed)


if __name__ == "__main__":
    sys.exit(main())
