"""What a checkpoint costs: how long it holds training up, until it is whole, and to verify it.

    python benchmarks/checkpoint.py [--numbers 86000000] [--folder DIR]

Random float32 numbers, for zeros would take no room: as many parameters as asked for (a ViT-B's),
an average that follows them, two moments. The folder's disk should be the one that is meant.
"""

import argparse
import pathlib
import tempfile
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np

from rejepa_jax.training import checkpoint_files
from rejepa_jax.training.checkpoint import Checkpoints
from rejepa_jax.training.state import TrainState

ARRAYS = 24  # that a tree has


def make_state(numbers):
    """Makes four trees of so many numbers each."""
    rng = np.random.default_rng(0)
    trees = [
        {str(i): jnp.asarray(rng.random(numbers // ARRAYS, np.float32)) for i in range(ARRAYS)}
        for _ in range(4)
    ]
    return TrainState(jnp.int32(1), trees[0], trees[1], tuple(trees[2:]))


def measure(what, act):
    """Does something and prints how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:<28}{wall:8.2f} s{cpu:8.2f} s of CPU")


def main():
    """Saves, verifies and restores once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--numbers", type=int, default=86_000_000)
    parser.add_argument("--folder", type=pathlib.Path)
    options = parser.parse_args()
    state = make_state(options.numbers)
    jax.block_until_ready(state)
    batches = iter(grain.MapDataset.range(10).to_iter_dataset())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        directory = pathlib.Path(folder)
        checkpoints = Checkpoints(directory, 0, {})
        measure("training is held up", lambda: checkpoints.save(state, batches))
        measure("until it is whole", checkpoints.wait)
        measure("verified", lambda: checkpoint_files.find_fault(directory / "1"))
        measure("verified and restored", lambda: checkpoints.restore(state, batches))
        checkpoints.close()
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    print(f"{sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e9:.2f} GB of arrays,", end=" ")
    print(f"{size / 1e9:.2f} GB on the disk")


if __name__ == "__main__":
    main()
