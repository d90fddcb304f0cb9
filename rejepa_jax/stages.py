"""The stages of the road as verbs over one run directory, each leaving one or two artefacts.

    prepare   archive/ (synthetic only) and records/
    train     checkpoints/
    export    encoders/ and embeddings/
    index     index/
    evaluate  evaluation/
    report    report/

Each stage reads what it needs from the artefacts before it, so any of them can run on its own. Of
many processes all train and export (`share`), the main one does the rest.
"""

import dataclasses
import functools
import math
import pathlib
import re
import shlex
from collections.abc import Callable
from typing import Any

import jax
from absl import logging

from rejepa_jax import artifacts, processes
from rejepa_jax.config import Config
from rejepa_jax.data import pipeline
from rejepa_jax.data.archives import synthetic
from rejepa_jax.data.archives.identity import identity
from rejepa_jax.data.archives.layouts import WRITTEN, as_written, check_layout, open_archive
from rejepa_jax.data.beam import prepare_with_beam
from rejepa_jax.data.prepare import count_workers
from rejepa_jax.data.prepare import prepare as write_records
from rejepa_jax.data.splits import refuse_leaks
from rejepa_jax.processes import by_main
from rejepa_jax.report import page
from rejepa_jax.retrieval.embed import embed_rows
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.embeddings.exporting import write_embeddings
from rejepa_jax.retrieval.embeddings.parts import open_parts
from rejepa_jax.retrieval.encoder import Embedder, load_bundle
from rejepa_jax.retrieval.evaluate import ROWS
from rejepa_jax.retrieval.evaluate import evaluate as write_evaluation
from rejepa_jax.retrieval.index import building, stored
from rejepa_jax.storage import mirror
from rejepa_jax.training import export as exporting
from rejepa_jax.training import loop
from rejepa_jax.training.sharding import batch_sharding, make_mesh
from rejepa_jax.types import ConfigError

Path = pathlib.Path
READING = (  # settings of what is read from an archive, and into which splits
    *("layout", "selection", "record_size", "file_bands", "file_sensors", "features"),
    *("split_by", "split_shares", "block_km", "block_gap_km"),
)
SHARDS = "*.tfrecord-?????-of-?????"  # what of records in a bucket is only read there, by ranges
# Layouts to which `data.sensor`, and `scenes`, make no difference; to others they may.
ANY_SENSOR = ("bigearthnet", "fmow_rgb", "fmow_sentinel", "image_folder", WRITTEN)
NO_SCENES = (*ANY_SENSOR, "eurosat", "tfds")
BUILD = "build"  # told to the processes that are to share the work of a stage
LISTS = (".csv", ".txt", ".bz2")  # of splits
OF_A_SPLIT = re.compile(r"(?<![a-z])(train|val|validation|test|country)(?![a-z]).*\.(csv|txt|bz2)$")


def records_directory(config: Config, run: Path) -> Path:
    """Where the records are: in the run, or where the config says, to be shared between runs."""
    if not config.data.records:
        return run / "records"
    return mirror.open_artefact(config.data.records, left=SHARDS)


@by_main
def prepare(config: Config, run: Path) -> None:
    """Makes the synthetic archive if asked for, and the records of any archive."""
    directory, data = records_directory(config, run), config.data
    is_written = data.layout == WRITTEN
    reading = as_written(config, str(run / "archive")) if is_written else config
    source = make_synthetic(config, run) if is_written else _archive_inputs(config)
    if not source and (directory / artifacts.MANIFEST).exists():
        logging.warning("archive %s is gone; its complete records are used", data.archive)
        source = artifacts.load(directory, is_fetched=False)["inputs"]
    check_layout(config)
    settings: dict[str, Any] = {name: getattr(data, name) for name in READING}
    settings["shard_records"] = config.prepare.shard_records
    if data.layout not in ANY_SENSOR:
        settings["sensor"] = data.sensor
    if data.layout not in NO_SCENES:
        settings["scenes"] = dataclasses.asdict(config.scenes)
    write = write_records
    if config.prepare.beam:
        write = functools.partial(prepare_with_beam, options=shlex.split(config.prepare.beam))
    artifacts.run_stage(
        directory,
        settings,
        source,
        lambda partial: write(open_archive(reading), partial, config.prepare),
        is_judge=True,
    )


def make_synthetic(config: Config, run: Path) -> dict[str, Any]:
    """Writes the synthetic archive into the run; returns what identifies it."""
    counts = {name: getattr(config.synthetic, name) for name in ("train", "validation", "test")}
    seed, workers = config.synthetic.seed, count_workers(config.prepare)

    def build(partial: Path) -> artifacts.Built:
        summary = synthetic.write_archive(partial, seed=seed, counts=counts, workers=workers)
        return artifacts.Built(summary)

    settings = {**dataclasses.asdict(config.synthetic), "version": synthetic.GENERATOR_VERSION}
    manifest = artifacts.run_stage(run / "archive", settings, {}, build)
    return {"archive": manifest["fingerprint"]}


def _archive_inputs(config: Config) -> dict[str, Any]:
    """Identifies the archive and the split file; empty if the archive is not there."""
    data = config.data
    if not data.archive or not Path(data.archive).exists():
        return {}
    inputs: dict[str, Any] = {"archive": identity(Path(data.archive))}
    if data.split_file:
        inputs["split_file"] = {p.name: artifacts.sha256_file(p) for p in _lists(data.split_file)}
    return inputs


def _lists(split_file: str) -> list[Path]:
    """The split file and other splits' lists beside it, or the lists in a folder."""
    path = Path(split_file)
    if not path.exists():
        raise ConfigError(
            f"config.data.split_file = {split_file!r}: got nothing there, expected a list of "
            "splits, or a folder of them; correct the path"
        )
    if path.is_dir():
        return [file for file in sorted(path.iterdir()) if file.suffix in LISTS]
    if not OF_A_SPLIT.search(path.name):
        return [path]
    return [file for file in sorted(path.parent.iterdir()) if OF_A_SPLIT.search(file.name)]


def share(
    directory: Path,
    settings: dict[str, Any],
    inputs: dict[str, Any],
    build: Callable[[Path], artifacts.Built],
) -> dict[str, Any]:
    """Runs a stage as `artifacts.run_stage` does, but all processes build, each its part.

    The main process finds out whether there is anything to do, tells the others, and publishes.
    """
    if not processes.is_main():
        while processes.hear() == BUILD:
            build(directory.with_name(directory.name + mirror.PARTIAL))
            processes.wait_for_all(directory.name)
        mirror.renew(directory.parent)
        return artifacts.load(directory, is_fetched=False)

    def build_together(partial: Path) -> artifacts.Built:
        processes.tell(BUILD)
        built = build(partial)
        processes.wait_for_all(directory.name)
        return built

    manifest = artifacts.run_stage(directory, settings, inputs, build_together)
    processes.tell("done")
    return manifest


def fingerprints(run: Path, *names: str) -> dict[str, Any]:
    """Returns the fingerprints of complete artefacts; in a mirror none is fetched for that."""
    return {name: artifacts.load(run / name, is_fetched=False)["fingerprint"] for name in names}


def _refuse_leaks(config: Config, records: pipeline.RecordSet) -> None:
    """Raises a ConfigError if queries and gallery share ground, and that is not asked for."""
    asked, leaks = config.eval, records.manifest["info"]["listing"].get("leaks", [])
    refuse_leaks(leaks, asked.query_split, asked.gallery_split, asked.shared_places)


def train(config: Config, run: Path) -> None:
    """Trains from the records; goes on from the last checkpoint after an interruption."""
    records = pipeline.open_records(records_directory(config, run), config.data.check)
    for split in (config.data.train_split, config.eval.query_split, config.eval.gallery_split):
        records.rows(split)  # a wrong name is refused now, not after a night of training
    _refuse_leaks(config, records)
    settings = artifacts.plain(loop.describe(config))
    inputs = {"records": records.manifest["fingerprint"]}
    if config.model.weights:
        inputs["weights"] = load_bundle(Path(config.model.weights)).fingerprint
    share(
        run / "checkpoints",
        settings,
        inputs,
        lambda partial: loop.train(config, records, partial, settings),
    )


def export(config: Config, run: Path) -> None:
    """Writes the encoder bundles, then the embeddings of every record by the chosen one."""
    records = pipeline.open_records(records_directory(config, run))
    checkpoints = artifacts.load(run / "checkpoints", is_fetched=False)
    trained_with = artifacts.plain(loop.describe(config))
    artifacts.refuse_changes(run / "checkpoints", checkpoints["settings"], trained_with)
    encoders = share(
        run / "encoders",
        {"pool": config.eval.pool},
        {"checkpoints": checkpoints["fingerprint"]},
        lambda partial: exporting.export(config, records, run / "checkpoints", partial),
    )
    artifacts.load(run / "encoders")  # in a mirror: brings them here
    written = dataclasses.asdict(config.export)
    written = {name: value for name, value in written.items() if name != "processes"}
    share(
        run / "embeddings",
        {"encoder": config.eval.encoder} | written,
        {"encoders": encoders["fingerprint"], "records": records.manifest["fingerprint"]},
        lambda partial: write_embeddings(
            open_embedder(config, run / "encoders" / config.eval.encoder),
            records,
            partial,
            config.eval.batch_size,
            config.export,
        ),
    )


def open_embedder(config: Config, bundle: Path) -> Embedder:
    """Opens an encoder on as many devices of this process as divide the batch."""
    devices = jax.local_devices()
    mesh = make_mesh(devices=devices[: math.gcd(len(devices), config.eval.batch_size)])
    return Embedder(load_bundle(bundle), batch_sharding(mesh))


@by_main
def build_index(config: Config, run: Path) -> None:
    """Builds the index over all embeddings."""

    def build(partial: Path) -> artifacts.Built:
        footer = reading.copy_vectors(run / "embeddings", partial / stored.VECTORS)
        info = building.build(None, partial, config.index.kind, footer["fingerprint"])
        return artifacts.Built(info, {name: f["sha256"] for name, f in info["files"].items()})

    inputs = fingerprints(run, "embeddings") | {"schema": stored.SCHEMA}
    artifacts.run_stage(run / "index", {"kind": config.index.kind}, inputs, build)


@by_main
def evaluate(config: Config, run: Path) -> None:
    """Scores every encoder beside the free descriptors."""
    records = pipeline.open_records(records_directory(config, run))
    inputs = fingerprints(run, "encoders", "embeddings")
    _refuse_leaks(config, records)
    keys = ("encoder", "k", "query_split", "gallery_split", "shared_places")

    def build(partial: Path) -> artifacts.Built:
        vectors = reading.read_vectors(run / "embeddings")
        fingerprint = open_parts(run / "embeddings").footer["fingerprint"]
        encoders: dict[str, Callable[[Any], Any]] = {}
        for name in artifacts.load(run / "encoders")["info"]["encoders"]:
            embedder = open_embedder(config, run / "encoders" / name)
            if embedder.bundle.fingerprint == fingerprint:
                encoders[name] = vectors.__getitem__  # all rows are embedded already
            else:
                encoders[name] = functools.partial(
                    embed_rows, embedder, records, batch_size=config.eval.batch_size
                )
        return write_evaluation(encoders, config.data.sensor, records, config.eval, partial)

    inputs["rows"] = ROWS  # a table of an earlier version is made again
    artifacts.run_stage(
        run / "evaluation",
        {key: getattr(config.eval, key) for key in keys},
        inputs | {"records": records.manifest["fingerprint"]},
        build,
    )


@by_main
def report(config: Config, run: Path) -> None:
    """Writes the page about the run."""
    records = pipeline.open_records(records_directory(config, run))
    shown = ("checkpoints", "embeddings", "index", "evaluation")
    inputs = fingerprints(run, *shown)
    artifacts.run_stage(
        run / "report",
        dataclasses.asdict(config.report),
        inputs,
        lambda partial: page.write_report(run, records, config.report, partial),
    )


STAGES: dict[str, Callable[[Config, Path], None]] = {
    "prepare": prepare,
    "train": train,
    "export": export,
    "index": build_index,
    "evaluate": evaluate,
    "report": report,
}
