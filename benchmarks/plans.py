"""The plans of docs/scaling.md and of the configs' docstrings, made anew: an hour of one core.

    python benchmarks/plans.py --out plans [--only NAME,...] [--configs]

Runs `rejepa plan` once a row (extra `tpu`), one after the other, keeps its JSON as
`plans/NAME.json`, takes up what lies there already, and prints the tables in Markdown. `--configs`
does the same for every config at its own batch size on eight v5e chips and prints a sentence for
each docstring.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

from absl import logging

from rejepa_jax.console import say, set_up_logging

BASE = "configs/ben14k.py"  # ViT-B/16 at 224 px, 12 bands
PLANS = {  # name: topology, images a chip, settings
    "v5e_8": ("v5e:2x4", 128, []),
    "v5e_8_block": ("v5e:2x4", 128, ["model.remat=block"]),
    "v5e_256_fsdp": ("v5e:16x16", 128, ["mesh.fsdp=16"]),
    "v5p_64": ("v5p:4x4x4", 128, []),
    "v6e_16": ("v6e:4x4", 128, []),
}
CONFIGS = (  # planned for eight chips of v5e
    *("ben14k", "bigearthnet", "fmow_rgb", "fmow_sentinel", "eurosat", "tfds", "aid_gpu"),
    *("own_scenes", "image_folder", "quickstart"),
)
GIB, MIB = 2**30, 2**20


def main() -> None:
    """Makes the plans and prints what they say."""
    set_up_logging()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="", help="names of rows")
    parser.add_argument("--configs", action="store_true", help="the configs instead of the table")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    jobs = commands(arguments.configs)
    names = arguments.only.split(",") if arguments.only else list(jobs)
    made = {name: plan(arguments.out / f"{name}.json", jobs[name]) for name in names}
    for part in sentences(made) if arguments.configs else tables(made):
        say(part + "\n")


def commands(is_configs: bool) -> dict[str, list[str]]:
    """Returns the arguments of `rejepa plan` by the name of a row."""
    if is_configs:
        return {name: [f"configs/{name}.py", "--topology", "v5e:2x4"] for name in CONFIGS}
    return {
        name: [BASE, "--topology", topology, "--images_per_chip", str(images)]
        + [f"--config.{setting}" for setting in extra]
        for name, (topology, images, extra) in PLANS.items()
    }


def plan(file: pathlib.Path, arguments: list[str]) -> dict[str, Any]:
    """Returns a plan from its file, or from a process that makes it."""
    if not file.exists():
        logging.info("rejepa plan %s", " ".join(arguments))
        command = [sys.executable, "-m", "rejepa_jax.cli", "plan", *arguments, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        file.write_text(done.stdout)
    return json.loads(file.read_text())


def tables(plans: dict[str, dict[str, Any]]) -> list[str]:
    """Returns memory, communication and speed, each with one column a plan."""
    made = {name: found for name, found in plans.items() if found["program"]}
    return [
        columns(made, memory),
        columns(made, communication),
        columns(made, speed),
        *(f"{name}: {p['refused']['message']}" for name, p in plans.items() if p["refused"]),
    ]


def columns(plans: dict[str, dict[str, Any]], describe: Any) -> str:
    """Lays out what is said of each plan side by side."""
    said = [describe(found) for found in plans.values()]
    head = ["", *(f"{p['topology']}" for p in plans.values())]
    rows = [head, ["---", *["---:"] * len(said)]]
    names = dict.fromkeys(name for one in said for name in one)
    rows += [[name, *(one.get(name, "") for one in said)] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def setting(found: dict[str, Any]) -> dict[str, str]:
    """Says what was planned."""
    mesh = ", ".join(f"{name} {size}" for name, size in found["mesh"].items() if size > 1)
    return {"mesh": mesh, "re-computation": found["remat"]}


def memory(found: dict[str, Any]) -> dict[str, str]:
    """Says what a chip holds."""
    kinds = {**found["program"]["memory"], "waiting batches": found["waiting"]}
    total = kinds.pop("total") + found["waiting"]
    rows = {f"{kind}, MiB": f"{size / MIB:,.1f}" for kind, size in kinds.items()}
    rows["together, GiB"] = f"{total / GIB:.2f} of {found['available'] / GIB:.2f}"
    return {**setting(found), "images a chip": str(found["images_per_chip"]), **rows}


def communication(found: dict[str, Any]) -> dict[str, str]:
    """Says what a chip sends."""
    return setting(found) | {
        f"{c['kind']} over {c['group']}": f"{c['count']}, {c['payload'] / MIB:,.0f} MiB"
        for c in found["program"]["collectives"]
    }


def speed(found: dict[str, Any]) -> dict[str, str]:
    """Says how fast it may be, and why not faster."""
    program, batch = found["program"], found["batch_size"]
    times = program["roofline"]
    best, worst = batch / max(times.values()), batch / sum(times.values())
    share = best * found["model_flops"] / (found["peak"] * found["devices"])
    compiled = program["flops"] * found["devices"] / batch
    return setting(found) | {
        "GFLOP an image, by hand": f"{found['model_flops'] / 1e9:.1f}",
        "in products of the program": f"{compiled / 1e9:.1f}",
        **{f"{name}, ms a step": f"{1e3 * value:.1f}" for name, value in times.items()},
        "images/s, all at once": f"{best:,.0f}",
        "share of the peak": f"{100 * share:.0f} %",
        "images/s, one after the other": f"{worst:,.0f}",
        "records, GB/s": f"{best * found['record_bytes'] / 1e9:.1f}",
    }


def sentences(plans: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a sentence for each docstring."""
    return [f"{name}: {sentence(found)}" for name, found in plans.items()]


def sentence(found: dict[str, Any]) -> str:
    """Says in one breath whether a config fits eight chips, and how fast it may be there."""
    head = f"{found['images_per_chip']} images a chip (re-computation {found['remat']})"
    if not found["program"]:
        return f"{head} do not fit: {found['refused']['message']}"
    needed = found["program"]["memory"]["total"] + found["waiting"]
    figures = speed(found)
    return (
        f"{head} need {needed / GIB:.1f} of {found['available'] / GIB:.2f} GiB; at most "
        f"{figures['images/s, all at once']} images/s on the eight, "
        f"{figures['images/s, one after the other']} if nothing overlaps; unmeasured"
    )


if __name__ == "__main__":
    main()
