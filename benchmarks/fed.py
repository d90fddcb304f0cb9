"""Training fed from records beside the same step on images that already lie on the devices.

    python benchmarks/fed.py [--preset vit_b15_120x10] [--batch_size 512] [--check]

Both take turns in one run, several times, and the best turn of each counts; on a CPU, seconds are
those of CPU time, since reading takes its share of the cores there. The feeding is that of
training: shards of noise on the disk, of uint16 at 120 x 120 x 10 or uint8 at 224 x 224 x 3 (the
page cache is warm), every checksum at every reading, shuffled, brought to the devices by a thread
(data.prefetch). A fed turn begins when what was fetched during the turn before is used up. Presets:
vit_b16_224 and vit_b15_120x10 for accelerators, tiny_120x10 for a CPU, toy to see that it runs.
Rows, one JSON line each:

    feeding      images/s that reach the devices while nothing is trained
    synthetic    images/s of the step on one batch that stays on the devices
    fed          images/s of the same step from records, share of `synthetic`, and `data_wait`: the
                 share of the time in which the devices had nothing to do because no batch was there

Target of `--check`: fed reaches 0.90 of synthetic.
"""

import argparse
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time

import jax
from noise import PRESETS, Size, write_records

from rejepa_jax.data import pipeline
from rejepa_jax.methods.build import encoder_spec
from rejepa_jax.training import loop, sharding
from rejepa_jax.training.compiling import compile_step
from rejepa_jax.training.pace import Pace
from rejepa_jax.training.state import init_state

TARGET = 0.90
READ_AHEAD = 4  # batches beside those of data.prefetch that may be waiting somewhere on the way


class Run:
    """A state, the compiled step, and batches for it."""

    def __init__(self, size: Size, batch_size: int, records: pipeline.RecordSet):
        on_cpu = jax.default_backend() == "cpu"
        self.clock = time.process_time if on_cpu else time.perf_counter
        self.config = size.config(batch_size)
        self.dtype = encoder_spec(self.config, len(size.bands)).dtype
        update = loop.make_update(self.config, records)
        mesh = sharding.make_mesh(self.config.mesh)
        place = sharding.batch_sharding(mesh)
        self.state = init_state(update.method, update.optimizer, self.config.seed, mesh, None)
        places = jax.tree.map(lambda array: array.sharding, self.state)
        self.prefetch = self.config.data.prefetch
        self.batches = pipeline.placed_batches(
            *(records, "train", (size.sensor,), batch_size, 0, place),
            prefetch=self.prefetch,
            resident=False,
        )
        self.resident = next(self.batches)
        self.step = compile_step(update, places, place)
        self.take(itertools.repeat(self.resident), 2)

    def take(self, batches, steps: int) -> tuple[float, float]:
        """Trains; returns seconds, and the share of the time in which the devices lacked data."""
        pace, clock, start, metrics = Pace(), self.clock(), time.perf_counter(), None
        for _ in range(steps):
            with pace.waiting():
                batch = next(batches)
            self.state, metrics = self.step(self.state, batch)
            pace.follow(metrics)
        jax.block_until_ready(metrics)
        pace.close()
        return self.clock() - clock, pace.lacked() / (time.perf_counter() - start)

    def use_up(self) -> None:
        """Trains on what was fetched while others had their turn."""
        self.take(self.batches, self.prefetch + READ_AHEAD)

    def feed(self, steps: int) -> float:
        """Takes batches and does nothing with them; returns seconds."""
        for batch in itertools.islice(self.batches, self.prefetch + READ_AHEAD):
            jax.block_until_ready(batch)
        start = self.clock()
        for batch in itertools.islice(self.batches, steps):
            jax.block_until_ready(batch)
        return self.clock() - start


def measure(run: Run, steps: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Returns the best turn of each row."""
    found = {"feeding": [(run.feed(steps), 0.0)], "synthetic": [], "fed": []}
    for _ in range(rounds):
        found["synthetic"].append(run.take(itertools.repeat(run.resident), steps))
        run.use_up()
        found["fed"].append(run.take(run.batches, steps))
    return {row: min(turns) for row, turns in found.items()}


def main() -> int:
    """Prints the rows; with --check, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--preset", default="", choices=PRESETS, help="by default one that suits")
    parser.add_argument("--batch_size", type=int, help="over all devices; 512, or less on a CPU")
    parser.add_argument("--steps", type=int, default=0, help="of a turn; 40, on a CPU 5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, help="four batches, at least 2,048 (toy: 64)")
    arguments = parser.parse_args()
    on_cpu = jax.default_backend() == "cpu"
    name = arguments.preset or ("tiny_120x10" if on_cpu else "vit_b15_120x10")
    size = PRESETS[name]
    batch_size = arguments.batch_size or size.batch_size
    steps = arguments.steps or (5 if on_cpu else 40)
    count = arguments.records or max(4 * batch_size, 64 if name == "toy" else 2048)

    with tempfile.TemporaryDirectory() as directory:
        run = Run(size, batch_size, write_records(pathlib.Path(directory), size, count))
        found = measure(run, steps, arguments.rounds)
        run.batches.close()
    rates = {row: steps * batch_size / seconds for row, (seconds, _) in found.items()}
    share = rates["fed"] / rates["synthetic"]
    facts = {"preset": name, "batch_size": batch_size, "dtype": run.dtype}
    facts |= {"device": jax.devices()[0].device_kind, "devices": jax.device_count()}
    facts |= {"cores": len(os.sched_getaffinity(0))}
    unit = "images_per_cpu_s" if on_cpu else "images_per_s"
    for row, rate in rates.items():
        more = {}
        if row == "fed":
            more = {"share": round(share, 3), "data_wait": round(found[row][1], 3)}
        print(json.dumps({"row": row, unit: round(rate, 1), **more, **facts}))
    if arguments.check and share < TARGET:
        print(f"fed reaches {share:.3f} of synthetic, target {TARGET}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
