"""The command as users give it, at sizes at which the whole road takes seconds."""

import os
import pathlib
import subprocess
import sys
import tempfile

import compiling

ROOT = pathlib.Path(__file__).resolve().parents[1]
TOY = {
    "synthetic.train": 24,
    "synthetic.validation": 10,
    "synthetic.test": 14,
    "prepare.workers": 1,
    "prepare.shard_records": 10,
    "data.image_size": 16,
    "model.patch_size": 8,
    "model.embed_dim": 16,
    "model.depth": 2,
    "model.num_heads": 2,
    "model.predictor_dim": 8,
    "model.predictor_depth": 1,
    "train.batch_size": 8,
    "train.steps": 6,
    "train.log_every": 1,
    "train.save_every": 2,
    "optim.warmup_steps": 2,
    "health.every": 0,
    "report.queries": 2,
}


def arguments(workdir, config="quickstart", stage="", **changes):
    """The command line of `rejepa_jax.main`; settings are named with `__` for a dot."""
    settings = TOY | {name.replace("__", "."): value for name, value in changes.items()}
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    chosen = [f"--stage={stage}"] if stage else []
    return ["--config", f"configs/{config}.py", "--workdir", str(workdir), *chosen, *flags]


def command(module="main", *argv):
    """A fresh process of one of our modules, on one device, from the project's root."""
    return [sys.executable, "-m", f"rejepa_jax.{module}", *map(str, argv)]


# Runs of one session share what they compile: most of a toy run is compilation.
COMPILED = tempfile.TemporaryDirectory(prefix="rejepa-compiled-")


def environment():
    """The environment with one device, and compilation that does not dwell on speed."""
    return os.environ | {
        "XLA_FLAGS": compiling.FLAGS,
        "OPENBLAS_NUM_THREADS": "1",  # its threads wait for one another where cores are shared
        "JAX_COMPILATION_CACHE_DIR": COMPILED.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def run(module, *argv, timeout=300):
    """Runs one of our modules to its end; returns what it printed and its exit code."""
    return subprocess.run(
        command(module, *argv),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
