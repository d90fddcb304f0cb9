"""The training step of one preset, compiled, on images that already lie on the devices.

    python benchmarks/our_step.py '{"depth": 2}'     # takes one step for each line of input

step.py runs it so on a CPU, as a worker of turns.py; on an accelerator it runs it in its own
process.
"""

import dataclasses
import json
import os
import sys
import time
from typing import Any

import jax
import numpy as np
import turns

from rejepa_jax.config import Config, base_config
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.methods.build import build_method
from rejepa_jax.resolve import resolve
from rejepa_jax.training import sharding
from rejepa_jax.training.compiling import compile_step
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import init_state
from rejepa_jax.training.step import Update

SENSORS = {3: "rgb", 10: "s2", 12: "s2", 2: "s1"}  # by number of bands
PRESETS: dict[str, dict[str, Any]] = {
    "vit_b16_224": {},
    "vit_b15_120x10": {"image_size": 120, "patch_size": 15, "bands": 10},
    "toy": {"image_size": 32, "size": "tiny", "depth": 1, "predictor_depth": 1, "batch_size": 8},
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a step is made of; the defaults are ViT-B/16 and the paper's settings."""

    batch_size: int = 16
    image_size: int = 224
    patch_size: int = 16
    bands: int = 3
    size: str = "base"
    depth: int | None = None  # None: what the size has
    predictor_dim: int = 384
    predictor_depth: int = 12
    dtype: str = "auto"
    remat: str = "none"
    unroll: bool = False


def make_config(sizes: Sizes) -> Config:
    """The default config at these sizes."""
    config = base_config()
    config.data.sensor, config.data.image_size = SENSORS[sizes.bands], sizes.image_size
    config.train.batch_size = sizes.batch_size
    for name in dataclasses.asdict(sizes).keys() - {"batch_size", "image_size", "bands"}:
        config.model[name] = getattr(sizes, name)
    return resolve(config)


class Run:
    """State, batch and the compiled step."""

    def __init__(self, sizes: Sizes):
        config, mesh = make_config(sizes), sharding.make_mesh()
        self.update = make_update(config, sizes.bands)
        self.state = init_state(self.update.method, self.update.optimizer, 0, mesh)
        place = sharding.batch_sharding(mesh)
        self.batch = jax.device_put(make_batch(sizes), place)
        places = jax.tree.map(lambda array: array.sharding, self.state)
        lowered = compile_step(self.update, places, place).lower(self.state, self.batch)
        start = time.perf_counter()
        cpu = time.process_time()
        self.compiled = lowered.compile()
        self.compile_s = time.perf_counter() - start
        self.compile_cpu_s = time.process_time() - cpu
        self.gflop = sum(self.update.method.flops.values()) * sizes.batch_size / 1e9

    def start(self) -> Any:
        """Begins a step; returns its metrics, which may not be there yet."""
        self.state, metrics = self.compiled(self.state, self.batch)
        return metrics

    def step(self) -> None:
        """Takes a step and waits for it."""
        jax.block_until_ready((self.start(), self.state))


def make_update(config: Config, bands: int) -> Update:
    """What a step depends on, with invented statistics of the bands."""
    schedules = Schedules(config.optim, config.ema, config.train.steps)
    given = SensorInput(tuple(range(bands)), (100.0,) * bands, (50.0,) * bands, None)
    return Update(
        build_method(config, bands),
        make_optimizer(schedules),
        schedules,
        Preprocess(config.data.image_size, {config.data.sensor: given}),
        config.augment,
        config.seed,
    )


def make_batch(sizes: Sizes) -> dict[str, Any]:
    """Random images: 8 bits a value for three bands, 16 for others, as in archives."""
    shape = (sizes.batch_size, sizes.image_size, sizes.image_size, sizes.bands)
    dtype = np.uint8 if sizes.bands == 3 else np.uint16
    image = np.random.default_rng(0).integers(0, 256, shape, dtype)
    ids = np.arange(sizes.batch_size, dtype=np.int32)
    return {"image": {SENSORS[sizes.bands]: image}, "id": ids, "valid": ids >= 0}


def write_hlo(run: Run, directory: str) -> None:
    """Writes the compiled program, which says what the compiler made of the step."""
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "step.hlo.txt"), "w") as file:
        file.write(run.compiled.as_text())


def matmul_rate(side: int = 2048) -> float:
    """GFLOP per CPU-second of a plain float32 product."""
    a, product = jax.numpy.ones((side, side)), jax.jit(jax.numpy.matmul)
    product(a, a).block_until_ready()
    return turns.best_rate(lambda: product(a, a).block_until_ready(), 2 * side**3 / 1e9)


def prepare():
    """Makes the state, compiles and takes the first step, which is not counted."""
    given = json.loads(sys.argv[1])
    profile, hlo = given.pop("profile", None), given.pop("hlo", None)
    run = Run(Sizes(**given))
    if hlo:
        write_hlo(run, hlo)
    run.step()
    if profile:
        with jax.profiler.trace(profile):
            run.step()
    facts = {"version": jax.__version__, "gflop": run.gflop, "compile_s": run.compile_s}
    facts["matmul"] = matmul_rate()
    return run.step, facts | {"compile_cpu_s": run.compile_cpu_s}


if __name__ == "__main__":
    turns.serve(prepare)
