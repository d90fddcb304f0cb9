"""Images to embeddings: from images that already lie on the device, and from records.

    python benchmarks/embed.py [--preset vit_b16_224] [--batch_size 512] [--check]

Presets: vit_b16_224 and vit_b15_120x10 for accelerators, tiny_120x10 for a CPU, toy to see that it
runs. Rows, one JSON line each:

    matmul       TFLOP/s of large matrix products of the encoder's dtype, in this run
    synthetic    images/s of the compiled embedding on one batch that stays on the devices; TFLOP/s
                 by the analytic count (models/flops.py); MFU against `--peak` TFLOP/s, or the
                 datasheet's, or `matmul`; seconds to compile; memory of the program by kind, and
                 the most that the device had in use
    records      images/s from records on the disk to vectors in memory, by what the evaluate stage
                 calls (retrieval/embed.py), and share of `synthetic`

Target of `--check`: vit_b16_224 on an accelerator: 9,000 images/s (12,000 good, 14,000 stretch), as
for one H200. On a CPU there is none here; embed_rival.py compares with PyTorch.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
from noise import PRESETS, Size, write_records

from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.data.sensors import SENSORS, nodata
from rejepa_jax.methods.build import encoder_spec
from rejepa_jax.models.arrays import named_arrays, with_arrays
from rejepa_jax.models.flops import encoder_flops
from rejepa_jax.retrieval.embed import embed_rows
from rejepa_jax.retrieval.encoder import Bundle, Embedder, abstract_encoder, embed
from rejepa_jax.training.compute import datasheet_peak

TARGETS = {"must": 9000.0, "good": 12000.0, "stretch": 14000.0}  # vit_b16_224 on one H200
MB = 1e6


def make_bundle(size: Size) -> Bundle:
    """An encoder of random numbers, with what brings noise to one scale."""
    bands, rng = len(size.bands), np.random.default_rng(0)
    like = abstract_encoder(encoder_spec(size.config(size.batch_size), bands))
    arrays = {
        name: jnp.asarray(0.02 * rng.standard_normal(leaf.shape, np.float32), leaf.dtype)
        for name, leaf in named_arrays(like).items()
    }
    places, missing = tuple(range(bands)), nodata(size.sensor)
    given = SensorInput(places, (100.0,) * bands, (50.0,) * bands, missing)
    record = Sensor(size.bands, SENSORS[size.sensor].dtype, size.image_size, size.image_size)
    preprocess = Preprocess(size.image_size, {size.sensor: given})
    encoder = with_arrays(like, arrays, "noise")
    return Bundle("target", encoder, preprocess, size.sensor, record, "mean", 0)


def matmul_rate(dtype: str, side: int) -> float:
    """FLOP/s of square matrix products of a dtype on one device, the best of some."""
    keys = jax.random.split(jax.random.key(0))
    left, right = (jax.random.normal(key, (side, side), dtype) for key in keys)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(left, right))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready([product(left, right) for _ in range(10)])
        times.append(time.perf_counter() - start)
    return 10 * 2 * side**3 / min(times)


def peak_bytes() -> int:
    """Most memory in use so far: of the device where it says so, else of this process."""
    held = jax.devices()[0].memory_stats() or {}
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return held.get("peak_bytes_in_use", process)


def best_peak(given: float | None, measured: float) -> tuple[float, str]:
    """The FLOP/s that MFU is a share of, and who says so."""
    sheet = datasheet_peak(jax.devices()[0].device_kind)
    if given:
        return given * 1e12, "given"
    return (sheet, "datasheet") if sheet else (measured, "matmul")


def synthetic_row(bundle: Bundle, batch_size: int, steps: int, rounds: int) -> dict:
    """The compiled embedding on a batch that stays where it is."""
    shape, dtype = bundle.record.shape, bundle.record.dtype
    image = np.random.default_rng(0).integers(1, 200, (batch_size, *shape)).astype(dtype)
    images = jax.device_put({bundle.sensor: image})
    run = jax.jit(functools.partial(embed, preprocess=bundle.preprocess, pool=bundle.pool))
    start = time.perf_counter()
    compiled = run.lower(bundle.encoder, images).compile()
    compile_s = time.perf_counter() - start
    jax.block_until_ready(compiled(bundle.encoder, images))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready([compiled(bundle.encoder, images) for _ in range(steps)])
        times.append(time.perf_counter() - start)
    rate = batch_size * steps / min(times)
    flops = encoder_flops(bundle.encoder.spec)
    memory = compiled.memory_analysis()
    kinds = ("argument", "output", "temp")
    sizes = {f"{kind}_mb": getattr(memory, f"{kind}_size_in_bytes", 0) / MB for kind in kinds}
    return {
        "row": "synthetic",
        "images_per_s": round(rate, 1),
        "gflop_an_image": float(f"{flops / 1e9:.4g}"),
        "tflops": round(rate * flops / 1e12, 4),
        "compile_s": round(compile_s, 1),
        **{kind: round(value, 1) for kind, value in sizes.items()},
        "peak_mb": round(peak_bytes() / MB, 1),
    }


def records_rate(bundle: Bundle, size: Size, batch_size: int, count: int) -> float:
    """Images/s of a whole pass over the records, after one over a few that compiles."""
    with tempfile.TemporaryDirectory() as name:
        records = write_records(pathlib.Path(name), size, count)
        embedder, rows = Embedder(bundle), records.rows("train")
        embed_rows(embedder, records, rows[:batch_size], batch_size)
        start = time.perf_counter()
        embed_rows(embedder, records, rows, batch_size)
        return count / (time.perf_counter() - start)


def main() -> int:
    """Prints the rows; with --check, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--preset", default="", choices=PRESETS, help="by default one that suits")
    parser.add_argument("--batch_size", type=int, help="512, or less on a CPU")
    parser.add_argument("--steps", type=int, default=0, help="of a turn; 20, on a CPU 5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, help="16 batches")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device")
    arguments = parser.parse_args()
    on_cpu = jax.default_backend() == "cpu"
    name = arguments.preset or ("tiny_120x10" if on_cpu else "vit_b16_224")
    size = PRESETS[name]
    batch_size = arguments.batch_size or size.batch_size
    bundle, steps = make_bundle(size), arguments.steps or (5 if on_cpu else 20)
    dtype = bundle.encoder.spec.dtype
    matmul = matmul_rate(dtype, 1024 if on_cpu else 8192)
    peak, source = best_peak(arguments.peak, matmul)
    synthetic = synthetic_row(bundle, batch_size, steps, arguments.rounds)
    flops = synthetic["tflops"] * 1e12
    synthetic |= {"mfu": round(flops / peak, 4), "peak_tflops": round(peak / 1e12, 2)}
    synthetic |= {"peak_by": source, "share_of_matmul": round(flops / matmul, 3)}
    fed = records_rate(bundle, size, batch_size, arguments.records or 16 * batch_size)
    rate = synthetic["images_per_s"]
    facts = {"preset": name, "batch_size": batch_size, "dtype": dtype, "jax": jax.__version__}
    facts |= {"device": jax.devices()[0].device_kind, "cores": len(os.sched_getaffinity(0))}
    for row in (
        {"row": "matmul", "tflops": round(matmul / 1e12, 3)},
        synthetic,
        {"row": "records", "images_per_s": round(fed, 1), "share": round(fed / rate, 3)},
    ):
        print(json.dumps(row | facts))
    if name != "vit_b16_224" or on_cpu:
        return 0
    print(json.dumps({"row": "reached", "targets": [t for t in TARGETS if rate >= TARGETS[t]]}))
    if arguments.check and rate < TARGETS["must"]:
        print(f"{rate} images/s, target {TARGETS['must']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
