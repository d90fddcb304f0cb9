"""Memory and communication of a device: the formulas of docs/scaling.md against the compiler.

    python benchmarks/scaling.py [--devices 8,64,512] [--fsdp 1,8] [--remat none,dots,block]
        [--width 128] [--depth 4]

Compiles the training step for simulated CPU devices and prints, for each mesh and each way of
re-computation, what XLA says of one device and, after it, what the formulas say. `an image` is the
slope of the temporaries between two batches: what does not grow with the batch is out of both.
"""

import argparse
import dataclasses

from rejepa_jax.config import Config, base_config
from rejepa_jax.console import say, table
from rejepa_jax.planning import formulas
from rejepa_jax.planning.plan import Plan, make_plan
from rejepa_jax.planning.topologies import find_topology
from rejepa_jax.resolve import resolve

IMAGES = (2, 6)  # a device, of the two batches
KINDS = ("all-reduce", "all-gather", "reduce-scatter")
MIB = 2**20


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", default="8,64,512", help="numbers of simulated devices")
    parser.add_argument("--fsdp", default="1,8", help="over how many of them the state is split")
    parser.add_argument("--remat", default="none,dots,block")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    arguments = parser.parse_args()
    numbers = sorted(map(int, arguments.devices.split(",")))
    find_topology(f"cpu:{numbers[-1]}")  # the most, once and before any other
    rows = [["devices", "fsdp", "remat", "state MiB", "an image MiB", *KINDS]]
    for devices in numbers:
        for fsdp in map(int, arguments.fsdp.split(",")):
            for remat in arguments.remat.split(","):
                config = toy(arguments.width, arguments.depth, fsdp, remat)
                cells = [f"{a / MIB:.2f} {b / MIB:.2f}" for a, b in compare(config, devices)]
                rows.append([str(devices), str(fsdp), remat, *cells])
    say(table(rows))


def toy(width: int, depth: int, fsdp: int, remat: str) -> Config:
    """Returns a small model over Sentinel-1 images of 128 px."""
    config = base_config()
    config.data.update({"image_size": 128, "sensor": "s1"})
    config.model.update({"embed_dim": width, "depth": depth, "num_heads": 4, "remat": remat})
    config.model.update({"predictor_dim": width // 2, "predictor_depth": depth})
    config.mesh.fsdp = fsdp
    return resolve(config)


def compare(config: Config, devices: int) -> list[tuple[float, float]]:
    """Compiles for two batches; returns what the compiler says and what the formulas say."""
    topology = find_topology(f"cpu:{devices}")
    small, large = (make_plan(topology, config, images) for images in IMAGES)
    counts = formulas.count(config)
    state = sum(dataclasses.astuple(small.program.memory)[:3])
    temporaries = [plan.program.memory.temporaries for plan in (small, large)]
    slope = (temporaries[1] - temporaries[0]) / (IMAGES[1] - IMAGES[0])
    moved = formulas.traffic_bytes(config, counts, devices, "cpu")
    return [
        (state, counts.state_bytes),
        (slope, formulas.activation_bytes(config, "cpu")),
        *((payload(small, kind), moved.get(kind, 0.0)) for kind in KINDS),
    ]


def payload(plan: Plan, kind: str) -> int:
    """Returns the bytes of the whole arrays that collectives of one kind work on."""
    return sum(part.payload for part in plan.program.collectives if part.kind == kind)


if __name__ == "__main__":
    main()
