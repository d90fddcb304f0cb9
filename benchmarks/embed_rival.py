"""Embedding beside PyTorch: the same encoder, images and arithmetic, batch for batch by turns.

    python benchmarks/embed_rival.py [--torch PYTHON] [--preset vit_b16_224] [--check]

PYTHON is one that has PyTorch; by default the same as ours. Each side runs in a process of its own,
all on one core, on uint8 noise at float32. Rows, one JSON line each: `ours`, and `torch` for each
BLAS that it can multiply with, of which the better counts: images and GFLOP a CPU second (medians;
models/flops.py), peak memory (MB), and seconds until the first batch was done.

Targets of `--check`: at least as many images a CPU second, at no more than 1.2 of the memory.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys

import jax
import numpy as np
import turns
from embed import make_bundle
from noise import PRESETS, Size

from rejepa_jax.methods.build import encoder_spec
from rejepa_jax.models.flops import encoder_flops
from rejepa_jax.retrieval.encoder import Embedder

SPEED, MEMORY = 1.0, 1.2
ENVIRONMENT = turns.HUGE_PAGES | {"OMP_NUM_THREADS": "1"}


def rival_rows(size: Size, name: str, batch_size: int, python: str, steps: int) -> list[dict]:
    """Ours and PyTorch's, batch for batch by turns on one core; medians."""
    config = size.config(batch_size)
    sizes = {"image_size": size.image_size, "patch_size": size.patch_size}
    sizes |= {key: getattr(config.model, key) for key in ("embed_dim", "depth", "num_heads")}
    sizes |= {"bands": len(size.bands), "batch_size": batch_size}
    theirs = [python, str(pathlib.Path(__file__).with_name("torch_embed.py"))]
    commands = {("ours", "xla"): [sys.executable, __file__, "--worker", name, str(batch_size)]}
    for products in ("onednn", "blas"):
        commands["torch", products] = [*theirs, json.dumps(sizes | {"products": products})]
    core = max(os.sched_getaffinity(0))
    workers = {key: turns.Worker(given, core, ENVIRONMENT) for key, given in commands.items()}
    taken = {key: [] for key in workers}
    for _ in range(steps):
        for key, worker in workers.items():
            taken[key].append(worker.step())
    flops = encoder_flops(encoder_spec(config, len(size.bands)))  # JAX starts: no fork after it
    rows = []
    for (row, products), answers in taken.items():
        workers[row, products].close()
        seconds = statistics.median(answer["cpu_s"] for answer in answers)
        rows.append(
            {
                "row": row,
                "products": products,
                "images_per_cpu_s": round(batch_size / seconds, 3),
                "gflop_per_cpu_s": round(batch_size * flops / seconds / 1e9, 1),
                "peak_mb": round(answers[-1]["peak_mb"], 1),
                "ready_s": round(workers[row, products].facts["ready_s"], 1),
            }
        )
    return rows


def prepare_worker(size: Size, batch_size: int):
    """What `turns.serve` asks of us: an embedding that is compiled, on one batch of noise."""
    bundle = make_bundle(size)
    shape = (batch_size, *bundle.record.shape)
    image = np.random.default_rng(0).integers(1, 200, shape).astype(bundle.record.dtype)
    embedder = Embedder(bundle)
    embedder({size.sensor: image})
    return lambda: embedder({size.sensor: image}), {"version": jax.__version__}


def main() -> int:
    """Prints the rows; with --check, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--torch", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--preset", default="vit_b16_224", choices=PRESETS)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, batch_size = arguments.worker
        turns.serve(lambda: prepare_worker(PRESETS[name], int(batch_size)))
        return 0
    name, batch_size = arguments.preset, arguments.batch_size
    rows = rival_rows(PRESETS[name], name, batch_size, arguments.torch, arguments.steps)
    for row in rows:
        print(json.dumps(row | {"preset": name, "batch_size": batch_size}))
    ours, *theirs = rows
    rival = max(theirs, key=lambda row: row["images_per_cpu_s"])
    speed = ours["images_per_cpu_s"] / rival["images_per_cpu_s"]
    memory = ours["peak_mb"] / rival["peak_mb"]
    print(json.dumps({"row": "ours / torch", "speed": round(speed, 3), "memory": round(memory, 3)}))
    if arguments.check and (speed < SPEED or memory > MEMORY):
        wanted = f"speed >= {SPEED}, memory <= {MEMORY}"
        print(f"speed {speed:.3f}, memory {memory:.3f}: target {wanted}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
