"""What each choice is worth: one setting changed at a time, the same steps, several seeds.

    python benchmarks/ablate.py --config configs/image_folder.py --records RUN/records --out DIR \
        [--tables views,ratio | --tables all] [--seeds 0,1,2] [--config.key=value ...]

Every arm trains by the road's own train stage in DIR/ARM/seed-N, so that the command can be stopped
and given again: finished arms are kept, a begun one goes on. Each is scored with the evaluation's
protocol by every encoder, pooling and form. DIR/ablation.md holds the tables, DIR/TABLE.svg one
figure each, DIR/ARM/seed-N/scores.json the figures behind them.

The arm `baseline` is the config as given, and an arm that would be the same is left out; tables 2
to 5 ask the paper's questions at the config's own size. An arm that takes another preset takes its
method, masks, targets, VICReg and EMA, and keeps the config's size, augmentation, length and
optimiser, also where that method was published with another one, as MAE was.
"""

import argparse
import pathlib
import sys
import time
from typing import Any

import ablation_report
import jax
import numpy as np
from absl import flags, logging

from rejepa_jax import artifacts, stages
from rejepa_jax.config import Config, base_config
from rejepa_jax.console import set_up_logging
from rejepa_jax.data import pipeline, sensors
from rejepa_jax.data.preprocess import plain_view
from rejepa_jax.main import parse_flags
from rejepa_jax.methods.build import build_method
from rejepa_jax.resolve import resolve
from rejepa_jax.retrieval.embed import example_batches
from rejepa_jax.retrieval.evaluate import Protocol
from rejepa_jax.retrieval.forms import forms
from rejepa_jax.retrieval.pooling import POOLS
from rejepa_jax.training import loop, sharding
from rejepa_jax.training.checkpoint import restore_state
from rejepa_jax.training.monitor import LOG, read_log
from rejepa_jax.training.state import abstract_state, initial_params

ALL_CONTEXT = {"mask.context_ratio": None}
BLOCKS = ALL_CONTEXT | {"mask.strategy": "multiblock", "mask.num_target_groups": 4}
TABLES: dict[str, dict[str, dict[str, Any]]] = {
    "method": {
        "rejepa": {"preset": "rejepa"},
        "rejepa_light": {"preset": "rejepa_light"},
        "mae": {"preset": "mae"},
        "mae at equal FLOPs": {"preset": "mae", "equal FLOPs": True},
    },
    "predictor depth (Table 2)": {
        f"predictor depth {depth}": {"model.predictor_depth": depth}
        for depth in (1, 2, 4, 6, 8, 10, 12)
    },
    "masking (Table 3)": {
        "random with all the rest as context": ALL_CONTEXT,
        "context drawn by itself minus targets": ALL_CONTEXT
        | {"mask.disjoint": "context_minus_target"},
        "multi-block": BLOCKS,
        "multi-block with one call a block": BLOCKS | {"model.predictor_mode": "per_group"},
    },
    "ratio (Table 4)": {
        f"targets {ratio:.0%}": ALL_CONTEXT | {"mask.target_ratio": ratio}
        for ratio in (0.25, 0.4, 0.85)
    },
    "VICReg (Table 5)": {
        "without VICReg": {"vicreg.weight": 0.0},
        "without variance": {"vicreg.variance_weight": 0.0},
        "without covariance": {"vicreg.covariance_weight": 0.0},
        "without invariance": {"vicreg.invariance_weight": 0.0},
    },
    "views": {
        "invariance of prediction and target": {"vicreg.invariance": "pred_target"},
        "two views": {"vicreg.invariance": "two_view"},
    },
    "pooling": {"VICReg on the mean of the tokens alone": {"vicreg.pool": "mean"}},
    "alpha": {f"alpha {weight:g}": {"vicreg.weight": weight} for weight in (1e-3, 1e-2, 0.1, 1.0)},
    "EMA": {
        "EMA from 0.9": {"ema.start": 0.9},
        "EMA from 0.98": {"ema.start": 0.98},
        "EMA from 0.996": {"ema.start": 0.996},
        "no EMA": {"ema.start": 0.0, "ema.end": 0.0},
    },
    "target": {
        "targets not normalised": {"target.norm": "none"},
        "targets normalised over the batch": {"target.norm": "batch"},
        "targets from their patches alone": {"target.input": "target_patches"},
        "targets in the full image": {"target.input": "full"},
    },
}
SHORT = {name.split(" (")[0].lower(): name for name in TABLES}
BASELINE, SCORES = "baseline", "scores.json"
METHOD = ("mask", "target", "loss", "vicreg", "ema")  # groups that an arm takes from its preset


def arms_of(tables: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the arms of some tables, after the baseline."""
    return {BASELINE: {}} | {arm: change for name in tables for arm, change in TABLES[name].items()}


def arm_config(given: Any, change: dict[str, Any], records: str, seed: int) -> Config:
    """Returns the config of an arm; the seed is of parameters, masks, views and order."""
    config = given.copy_and_resolve_references()
    config.unlock()
    change = dict(change)
    if "preset" in change:
        preset = base_config(change.pop("preset"))
        config.method, config.eval.encoder = preset.method, ""
        for group in METHOD:
            config[group] = preset[group]
    is_matched = change.pop("equal FLOPs", False)
    config.update_from_flattened_dict(change)
    if is_matched:
        config.train.steps = round(given.train.steps * _step_flops(given) / _step_flops(config))
    config.data.records, config.data.seed, config.seed = records, seed, seed
    return resolve(config)


def _step_flops(config: Any) -> float:
    """Returns the FLOPs of an image in a training step, with the bands of the sensor's table."""
    bands = len(config.data.bands) or len(sensors.SENSORS[config.data.sensor].band_names)
    return sum(build_method(resolve(config), bands).flops.values())


def run_arm(config: Config, directory: pathlib.Path, protocol: Protocol) -> dict[str, Any]:
    """Trains and scores one arm with one seed, unless that is done already."""
    path = directory / SCORES
    start = time.perf_counter()
    stages.train(config, directory)  # refuses a directory that other settings made
    evaluation = artifacts.plain(config.eval)
    if path.exists() and (done := artifacts.read_json(path))["evaluation"] == evaluation:
        return done
    seconds = time.perf_counter() - start
    records = pipeline.open_records(pathlib.Path(config.data.records))
    update = loop.make_update(config, records)
    mesh = sharding.make_mesh()
    like = abstract_state(update.method, update.optimizer, config.seed, mesh)
    state = restore_state(directory / "checkpoints", like)
    encoders = update.method.encoders(state.params, state.average)
    pools = [config.eval.pool]
    if directory.parent.name == BASELINE:  # where the descriptor itself is compared
        given = loop.given_encoder(config, records)
        fresh = initial_params(update.method, config.seed, given)
        untrained = update.method.encoders(fresh, update.method.averaged(fresh))
        encoders["untrained"] = next(iter(untrained.values()))
        pools = list(POOLS)
    content = {
        "evaluation": evaluation,
        "scores": {
            name: score(encoder, update.preprocess, records, config, protocol, pools)
            for name, encoder in encoders.items()
        },
        "flops_per_image": sum(update.method.flops.values()),
        "images": config.train.steps * config.train.batch_size,
        "batch_size": config.train.batch_size,
        "seconds": seconds,
        "log": read_log(directory / "checkpoints" / LOG),
    }
    artifacts.write_json(path, content)
    return content


def score(
    encoder: Any,
    preprocess: Any,
    records: pipeline.RecordSet,
    config: Config,
    protocol: Protocol,
    pools: list[str],
) -> dict[str, Any]:
    """Returns P@k or its multi-label form by pooling and form, each with its interval."""

    @jax.jit
    def describe(encoder, images):
        (view,) = plain_view(images, preprocess).values()
        return {name: POOLS[name](encoder, view) for name in pools}

    rows = np.concatenate([protocol.queries, protocol.gallery])
    parts: dict[str, list[np.ndarray]] = {name: [] for name in pools}
    sensor = config.data.sensor
    for examples, images in example_batches(records, rows, sensor, config.eval.batch_size):
        for name, vectors in describe(encoder, {sensor: images}).items():
            parts[name].append(np.asarray(vectors)[: len(examples)])
    out: dict[str, Any] = {}
    for name, vectors in parts.items():
        split = np.split(np.concatenate(vectors), [len(protocol.queries)])
        out[name] = {
            form: protocol.score(protocol.rank(*pair)[1])["f1_micro_sets"]._asdict()
            for form, pair in forms(*split).items()
        }
    return out


def open_protocol(config: Config) -> Protocol:
    """Reads the labels of queries and gallery."""
    records = pipeline.open_records(pathlib.Path(config.data.records))
    splits = [records.rows(s) for s in (config.eval.query_split, config.eval.gallery_split)]
    labels = []
    for rows in splits:
        table = np.zeros((len(rows), len(records.schema.classes)), bool)
        for place, example in enumerate(records.read_examples(rows)):
            table[place, list(example.labels)] = True
        labels.append(table)
    return Protocol(*splits, *labels, config.eval.k)


def main() -> int:
    """Runs the arms and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tables", default="all", help=f"of {sorted(SHORT)}")
    parser.add_argument("--arms", default="", help="only these, of all; the tables need `baseline`")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--report_only", action="store_true", help="use what has been run")
    given, rest = parser.parse_known_args()
    parse_flags(["ablate", *rest])
    set_up_logging()
    asked = list(SHORT) if given.tables == "all" else given.tables.lower().split(",")
    if unknown := set(asked) - set(SHORT):
        parser.error(f"--tables {sorted(unknown)}: choose from {sorted(SHORT)}")
    tables = [SHORT[name] for name in asked]
    arms = arms_of(tables)
    wanted = given.arms.split(",") if given.arms else list(arms)
    if unknown := set(wanted) - set(arms):
        parser.error(f"--arms {sorted(unknown)}: these tables have {list(arms)}")
    results: dict[str, list[dict[str, Any]]] = {}
    protocol = None
    for seed in map(int, given.seeds.split(",")):
        for arm in [name for name in arms if name in wanted]:
            config = arm_config(flags.FLAGS.config, arms[arm], given.records, seed)
            if arm != BASELINE and config == arm_config(
                flags.FLAGS.config, {}, given.records, seed
            ):
                continue  # the baseline by another name
            directory = given.out / arm.replace(" ", "_").replace("/", "-") / f"seed-{seed}"
            if given.report_only and not (directory / SCORES).exists():
                continue
            protocol = protocol or open_protocol(config)
            logging.info("arm %s, seed %d", arm, seed)
            results.setdefault(arm, []).append(run_arm(config, directory, protocol))
    if BASELINE in results:
        chosen = {name: TABLES[name] for name in tables}
        ablation_report.write(given.out, chosen, results, resolve(flags.FLAGS.config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
