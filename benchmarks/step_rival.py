"""Our step against PyTorch's, on one core of a CPU: `step.py --torch`.

Three programs, each in its own process on the same core, take one step in turn: ours,
torch_step.py as PyTorch comes, and torch_step.py with its products by oneDNN, which is the best
that we could make of it. All do the same arithmetic in float32 (tests/test_step_rival.py holds
their losses and gradients together). Rows, one JSON line each: images and GFLOP by the analytic
count for each second of process CPU time (median over turns), the rate of a plain matrix product
there, peak resident memory; then the ratios to each rival, paired by turn; then seconds to compile.

Targets of `--check`: at least 1.0 times the speed of PyTorch as it comes and at most 1.2 times its
memory, if it reaches 47 GFLOP per CPU-second (a step of I-JEPA's own trainer); compiled in CPU
seconds: tiny in 10, what is compared in 60.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import sys
from typing import Any

import turns
from our_step import Sizes, make_config

from rejepa_jax.methods.masking import token_counts

HERE = pathlib.Path(__file__).parent
SPEED, MEMORY, STRAW_MAN = 1.0, 1.2, 47.0
COMPILE = {"tiny": 10.0, "base": 60.0}
RIVALS = {"torch": "blas", "torch onednn": "onednn"}  # by what multiplies
SHARED = ("embed_dim", "depth", "num_heads", "patch_size", "predictor_dim", "predictor_depth")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def compare(arguments: Any, sizes: Sizes) -> int:
    """Lets all take their turns, prints the rows and, if asked to, says what misses a target."""
    ours = dataclasses.asdict(sizes) | {"dtype": "float32"}
    ours |= {key: path for key in ("profile", "hlo") if (path := getattr(arguments, key))}
    theirs = their_sizes(sizes)
    core = max(os.sched_getaffinity(0))
    workers = {"jax": our_worker(ours, core)}
    for name, products in RIVALS.items():
        command = [arguments.torch, str(HERE / "torch_step.py")]
        command.append(json.dumps(theirs | {"products": products}))
        workers[name] = turns.Worker(command, core, ONE_THREAD)
    taken = turns.take(workers, arguments.steps or 3)
    gflop = workers["jax"].facts["gflop"]
    rows = {name: row_of(workers[name].facts, taken[name], gflop, sizes) for name in workers}
    for name, row in rows.items():
        print(json.dumps({"row": name, **row}), flush=True)
    ratios = {name: ratio_of(taken, rows, name) for name in RIVALS}
    for name, ratio in ratios.items():
        print(json.dumps({"row": f"jax to {name}", **ratio}), flush=True)
    compiled = {"tiny": tiny_compile(core), sizes.size: rows["jax"]["compile_cpu_s"]}
    print(json.dumps({"row": "compile", "cpu_s": compiled}), flush=True)
    found = missed(ratios["torch"], rows["torch"]["gflop_per_cpu_s"], compiled)
    print("\n".join(found), file=sys.stderr)
    return int(bool(found)) if arguments.check else 0


def their_sizes(sizes: Sizes) -> dict[str, Any]:
    """What torch_model.py has to know of a step."""
    config = make_config(sizes)
    model = {name: getattr(config.model, name) for name in SHARED}
    patches = (sizes.image_size // sizes.patch_size) ** 2
    images = {name: getattr(sizes, name) for name in ("batch_size", "image_size", "bands")}
    heads = config.model.predictor_heads or config.model.num_heads
    targets = token_counts(patches, config.mask)[1]
    return model | images | {"predictor_heads": heads, "targets": targets}


def our_worker(sizes: dict[str, Any], core: int) -> turns.Worker:
    """Our step, which finds the package beside this directory."""
    command = [sys.executable, str(HERE / "our_step.py"), json.dumps(sizes)]
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)}
    return turns.Worker(command, core, ONE_THREAD | environment)


def row_of(facts: dict, taken: list[dict], gflop: float, sizes: Sizes) -> dict[str, Any]:
    """What a program reached."""
    seconds = statistics.median(turn["cpu_s"] for turn in taken)
    row = {"images_per_cpu_s": round(sizes.batch_size / seconds, 3)}
    row |= {"gflop_per_cpu_s": round(gflop / seconds, 1)}
    row |= {"matmul_gflop_per_cpu_s": round(facts["matmul"], 1)}
    row |= {"cpu_s": [round(turn["cpu_s"], 2) for turn in taken]}
    row |= {"peak_mb": round(taken[-1]["peak_mb"]), "version": facts["version"]}
    return row | {key: round(facts[key], 1) for key in ("compile_cpu_s",) if key in facts}


def ratio_of(taken: dict, rows: dict, rival: str) -> dict[str, Any]:
    """Speed and memory of ours as a share of a rival's."""
    pairs = zip(taken[rival], taken["jax"], strict=True)
    speeds = sorted(theirs["cpu_s"] / ours["cpu_s"] for theirs, ours in pairs)
    memory = rows["jax"]["peak_mb"] / rows[rival]["peak_mb"]
    row = {"speed": round(statistics.median(speeds), 3), "memory": round(memory, 3)}
    return row | {"speed_from": round(speeds[0], 3), "speed_to": round(speeds[-1], 3)}


def tiny_compile(core: int) -> float:
    """CPU seconds in which the step of the smallest size is compiled."""
    worker = our_worker({"size": "tiny", "dtype": "float32"}, core)
    worker.close()
    return round(worker.facts["compile_cpu_s"], 1)


def missed(ratio: dict, rival: float, compiled: dict[str, float]) -> list[str]:
    """The targets that are missed, each in words."""
    found = []
    if ratio["speed"] < SPEED:
        found.append(f"{ratio['speed']} of PyTorch's speed, target {SPEED}")
    if ratio["memory"] > MEMORY:
        found.append(f"{ratio['memory']} of PyTorch's memory, target {MEMORY}")
    if rival < STRAW_MAN:
        found.append(f"PyTorch reaches {rival} GFLOP per CPU-second, a rival {STRAW_MAN}")
    for size, limit in COMPILE.items():
        if compiled.get(size, 0) > limit:
            found.append(f"{size} compiled in {compiled[size]} CPU seconds, target {limit}")
    return found
