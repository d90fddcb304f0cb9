"""One training step on images that already lie on the device, beside plain matrix products.

    python benchmarks/step.py [--check] [--size tiny] [--image_size 96] [--batch_size 64]

The rival is the BLAS behind numpy, multiplying float32 matrices of 2048 x 2048 in the same run:
nothing on a CPU does this model's arithmetic faster. Rows, one JSON line each:

    matmul   GFLOP/s of the rival
    step     images/s, GFLOP/s by the analytic count (models/flops.py), seconds to the first result

Target of `--check`: the step's GFLOP/s are at least 0.5 of the rival's, whose matrices are large
and nothing else; a ViT's are small, and norms, GELU and softmax lie between them.
"""

import argparse
import json
import sys
import time

import jax
import numpy as np

from rejepa_jax.config import base_config
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.methods.build import build_method
from rejepa_jax.resolve import resolve
from rejepa_jax.training import loop, sharding
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import init_state
from rejepa_jax.training.step import Update

TARGET = 0.5


def best_rate(run, work: float, repeats: int) -> float:
    """Work done a second in the fastest of some repeats."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return work / min(times)


def matmul_rate() -> float:
    """GFLOP/s of numpy's float32 matrix product."""
    a = np.random.default_rng(0).normal(size=(2048, 2048)).astype(np.float32)
    return best_rate(lambda: a @ a, 2 * 2048**3 / 1e9, 5)


def make_config(arguments: argparse.Namespace):
    """The default config at the sizes asked for."""
    config = base_config()
    config.data.sensor, config.data.image_size = "rgb", arguments.image_size
    config.model.size, config.train.batch_size = arguments.size, arguments.batch_size
    config.model.predictor_dim, config.model.predictor_depth = 96, 4
    return resolve(config)


def main() -> int:
    """Prints the rows; with --check, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--image_size", type=int, default=96)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    config, bands = make_config(arguments), 3

    rival = matmul_rate()
    print(json.dumps({"row": "matmul", "by": "numpy BLAS float32", "gflops": round(rival, 1)}))

    mesh = sharding.make_mesh()
    given = SensorInput((0, 1, 2), (100.0,) * 3, (50.0,) * 3, None)
    schedules = Schedules(config.optim, config.ema, config.train.steps)
    update = Update(
        build_method(config, bands),
        make_optimizer(schedules),
        schedules,
        Preprocess(config.data.image_size, {"rgb": given}),
        config.augment,
        config.seed,
    )
    state = init_state(update.method, update.optimizer, 0, mesh)
    places = jax.tree.map(lambda array: array.sharding, state)
    place = sharding.batch_sharding(mesh)
    shape = (arguments.batch_size, config.data.image_size, config.data.image_size, bands)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    ids = np.arange(arguments.batch_size, dtype=np.int32)
    batch = {"image": {"rgb": image}, "id": ids, "valid": ids >= 0}
    batch = jax.device_put(batch, place)
    step = loop.compile_step(update, places, place)

    start = time.perf_counter()
    state, _ = jax.block_until_ready(step(state, batch))
    first = time.perf_counter() - start

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, batch))

    rate = best_rate(run, arguments.batch_size, arguments.steps)
    gflops = rate * sum(update.method.flops.values()) / 1e9
    share = gflops / rival
    row = {
        "row": "step",
        "size": arguments.size,
        "image_size": arguments.image_size,
        "batch_size": arguments.batch_size,
        "images_per_s": round(rate, 1),
        "gflops": round(gflops, 1),
        "share_of_matmul": round(share, 3),
        "first_result_s": round(first, 1),
        "backend": jax.default_backend(),
    }
    print(json.dumps(row))
    if arguments.check and share < TARGET:
        print(f"step reaches {share:.3f} of the matmul rate, target {TARGET}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
