"""One training step on images that already lie on the devices.

    python benchmarks/step.py --preset vit_b16_224 [--batch_size 512] [--check]
    python benchmarks/step.py --torch ENVIRONMENT/bin/python [--check]

The first measures our step alone on whatever JAX finds. It prints one JSON line: images/s,
FLOP/s by the analytic count (models/flops.py), their share of the peak (MFU), peak memory, seconds
to compile. The peak is `--peak` TFLOP/s, or the datasheet's. Targets of `--check`, for one H200 in
bfloat16 with 512 images or more: 2,000 images/s for vit_b16_224 (2,800 are good, 3,400 a stretch),
5,300 for vit_b15_120x10 (7,900, 10,000). Preset `toy` shows that it runs.

The second holds our step against PyTorch's on one core of a CPU; step_rival.py says how.

`--profile DIR` writes a jax.profiler trace of one step, `--hlo DIR` the compiled program.
"""

import argparse
import dataclasses
import json
import sys
import time

import jax
from our_step import PRESETS, Run, Sizes, write_hlo
from step_rival import compare

from rejepa_jax.training.compute import measure_compute

TARGETS = {"vit_b16_224": (2000, 2800, 3400), "vit_b15_120x10": (5300, 7900, 10000)}
MIN_BATCH = 512


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="vit_b16_224", choices=PRESETS)
    parser.add_argument("--torch", default="", help="an interpreter that has PyTorch")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--batch_size", type=int, help="over all devices; 512, on a CPU 16")
    parser.add_argument("--steps", type=int, help="that are timed; 20, on a CPU 3")
    parser.add_argument("--size", default="base")
    parser.add_argument("--depth", type=int, help="of encoder and predictor, for a quick look")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--unroll", action="store_true")
    parser.add_argument("--peak", type=float, help="TFLOP/s of a device")
    parser.add_argument("--profile", default="", help="directory for a trace")
    parser.add_argument("--hlo", default="", help="directory for the compiled program")
    return parser.parse_args()


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    """The preset, as the command line changes it."""
    on_cpu = jax.default_backend() == "cpu"
    changes = {name: getattr(arguments, name) for name in ("size", "dtype", "remat", "unroll")}
    if arguments.depth:
        changes |= {"depth": arguments.depth, "predictor_depth": arguments.depth}
    batch_size = arguments.batch_size or (16 if on_cpu else MIN_BATCH)
    return Sizes(**changes | {"batch_size": batch_size} | PRESETS[arguments.preset])


def measure(run: Run, steps: int) -> float:
    """Seconds a step, of many that are begun one after the other."""
    for _ in range(2):
        run.step()
    start = time.perf_counter()
    for _ in range(steps):
        run.start()
    jax.block_until_ready(run.state)
    return (time.perf_counter() - start) / steps


def peak_gb(run: Run) -> tuple[float, str]:
    """Most memory of a device in use at once, and who says so."""
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if used:
        return used / 1e9, "device"
    plan = run.compiled.memory_analysis()
    return (plan.argument_size_in_bytes + plan.temp_size_in_bytes) / 1e9, "compiler"


def alone(arguments: argparse.Namespace, sizes: Sizes) -> int:
    """Measures our step on what is here and prints its row."""
    run = Run(sizes)
    if arguments.hlo:
        write_hlo(run, arguments.hlo)
    seconds = measure(run, arguments.steps or (3 if jax.default_backend() == "cpu" else 20))
    if arguments.profile:
        with jax.profiler.trace(arguments.profile):
            run.step()
    rate, devices = sizes.batch_size / seconds, jax.device_count()
    compute = measure_compute(run.update.method)
    if arguments.peak:
        compute = dataclasses.replace(compute, peak=arguments.peak * 1e12, peak_source="given")
    tflops = run.gflop / seconds / 1e3
    memory, source = peak_gb(run)
    row = {"row": "step", "preset": arguments.preset, "images_per_s": round(rate, 1)}
    row |= {"tflops": round(tflops, 2), "mfu": round(tflops * 1e12 / devices / compute.peak, 3)}
    row |= {"peak_tflops": round(compute.peak / 1e12, 2), "peak_by": compute.peak_source}
    row |= {"gflop_per_image": round(run.gflop / sizes.batch_size, 1)}
    row |= {"peak_memory_gb": round(memory, 2), "memory_by": source}
    row |= {"compile_s": round(run.compile_s, 1), **dataclasses.asdict(sizes)}
    row |= {"device": jax.devices()[0].device_kind, "devices": devices, "jax": jax.__version__}
    print(json.dumps(row))
    return missed(arguments, sizes, rate) if arguments.check else 0


def missed(arguments: argparse.Namespace, sizes: Sizes, rate: float) -> int:
    """Says what a target lacks; 1 if it lacks something."""
    if arguments.preset not in TARGETS:
        print(f"preset {arguments.preset} has no target", file=sys.stderr)
        return 1
    must, good, stretch = TARGETS[arguments.preset]
    if sizes.batch_size < MIN_BATCH:
        print(f"the targets are for batches of {MIN_BATCH} or more", file=sys.stderr)
        return 1
    reached = [name for name, goal in (("good", good), ("stretch", stretch)) if rate >= goal]
    if rate < must:
        print(f"{rate:.0f} images/s, must be {must}", file=sys.stderr)
    elif reached:
        print(f"{rate:.0f} images/s: {reached[-1]}", file=sys.stderr)
    return int(rate < must)


def main() -> int:
    """Measures alone, or against PyTorch."""
    arguments = read_arguments()
    sizes = sizes_of(arguments)
    if not arguments.torch:
        return alone(arguments, sizes)
    if jax.default_backend() != "cpu":
        sys.exit("--torch compares on a CPU: set JAX_PLATFORMS=cpu")
    return compare(arguments, sizes)


if __name__ == "__main__":
    sys.exit(main())
