"""Reading BigEarthNet-sized patches into batches, beside a bare copy and beside band GeoTIFFs.

    python benchmarks/input.py [--check] [--records 1000]

All three read the same 120 x 120 x 12 uint16 patches in a shuffled order, in one run, with a warm
page cache. Rows, one JSON line each, in patches per second of CPU time of this process:

    memmap    rival: numpy copies patches out of one memory-mapped array; no format does less
    records   our shards through the real pipeline, both checksums of every record verified
    geotiff   rival: twelve band files a patch by rasterio, as the archive ships them, resampled

Targets of `--check`: records >= 0.05 of memmap, and >= 20 times geotiff. The goal is 0.40 of
memmap: a record is copied four times on its way, through protobuf's bytes, where once would do.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time
import warnings

import numpy as np
import rasterio

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.data import pipeline
from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.prepare import prepare
from rejepa_jax.data.sensors import SENSORS

SIZE, BATCH, TIFF_PATCHES = 120, 64, 60
MIN_MEMMAP_SHARE, MIN_TIFF_RATIO = 0.05, 20.0
BANDS = SENSORS["s2"].bands


def rate(run, patches: int) -> float:
    """Patches a CPU second in the best of three repeats."""
    times = []
    for _ in range(3):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return patches / min(times)


def read_row(files: ArchiveFiles, item: Item, _: Schema) -> Example:
    """Takes one patch out of the memory-mapped array."""
    array = np.load(files.path / "patches.npy", mmap_mode="r", allow_pickle=False)
    return Example(item.id, {"s2": np.array(array[int(item.id)])}, (), item.id)


def make_records(directory: pathlib.Path, count: int) -> pipeline.RecordSet:
    """Writes the array as records, by the stage that users run."""
    names = tuple(band.name for band in BANDS)
    schema = Schema("benchmark", {"s2": Sensor(names, "uint16", SIZE, SIZE)}, ())
    items = tuple(Item(f"{i:06d}", "train", (), {}) for i in range(count))
    archive = Archive(schema, items, ArchiveFiles(directory), read_row)
    settings = Prepare(workers=1, shard_records=256)
    records = directory / "records"
    artifacts.run_stage(records, {}, {}, lambda partial: prepare(archive, partial, settings))
    return pipeline.open_records(records)


def write_tiffs(directory: pathlib.Path, patches: np.ndarray) -> None:
    """Writes band files at their native sizes, deflated as the archive's are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        for row, patch in enumerate(patches):
            for place, band in enumerate(BANDS):
                step = round(band.gsd_m / 10)
                pixels = patch[::step, ::step, place]
                profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "compress": "deflate"}
                shape = {"height": pixels.shape[0], "width": pixels.shape[1]}
                path = directory / f"{row}_{band.name}.tif"
                with rasterio.open(path, "w", **profile, **shape) as file:
                    file.write(pixels, 1)


def read_tiffs(directory: pathlib.Path, rows: np.ndarray) -> None:
    """Reads and resamples every band of the given patches."""
    for row in rows:
        for band in BANDS:
            path = directory / f"{row}_{band.name}.tif"
            rasters.to_grid(rasters.read_raster(path.read_bytes(), str(path)).array[..., 0], SIZE)


def main() -> int:
    """Prints the rows; with --check, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--records", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rates = measure(pathlib.Path(name), arguments.records)
    for row, value in rates.items():
        print(json.dumps({"row": row, "patches_per_cpu_s": round(value, 1)}))
    shares = {
        f"records / memmap >= {MIN_MEMMAP_SHARE}": rates["records"] / rates["memmap"],
        f"records / geotiff >= {MIN_TIFF_RATIO}": rates["records"] / rates["geotiff"],
    }
    print(
        json.dumps({"row": "ratios", **{text: round(value, 3) for text, value in shares.items()}})
    )
    missed = [text for text, value in shares.items() if value < float(text.split(">=")[1])]
    if arguments.check and missed:
        print(
            "missed: " + "; ".join(f"{text}, got {shares[text]:.3f}" for text in missed),
            file=sys.stderr,
        )
        return 1
    return 0


def measure(directory: pathlib.Path, count: int) -> dict[str, float]:
    """Returns each row's rate."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 4000, (count, SIZE, SIZE, len(BANDS)), np.uint16)
    np.save(directory / "patches.npy", patches)
    records = make_records(directory, count)
    write_tiffs(directory, patches[:TIFF_PATCHES])
    del patches
    array = np.load(directory / "patches.npy", mmap_mode="r", allow_pickle=False)
    order = rng.permutation(count)
    batches = pipeline.train_batches(records, "train", ["s2"], BATCH, seed=0)
    steps = count // BATCH

    def copy() -> None:
        for step in range(steps):
            np.stack([array[row] for row in order[step * BATCH : (step + 1) * BATCH]])

    def read() -> None:
        for _ in range(steps):
            next(batches)

    return {
        "memmap": rate(copy, steps * BATCH),
        "records": rate(read, steps * BATCH),
        "geotiff": rate(lambda: read_tiffs(directory, order[order < TIFF_PATCHES]), TIFF_PATCHES),
    }


if __name__ == "__main__":
    sys.exit(main())
