"""Runs that were evaluated alike: what a comparison needs of each, and who is refused."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rejepa_jax import artifacts
from rejepa_jax.data.pipeline import RecordSet, open_records
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.report import evaluated, page
from rejepa_jax.retrieval.encoder import Bundle, load_bundle
from rejepa_jax.retrieval.evaluate import UNLABELLED
from rejepa_jax.types import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Side:
    """One run: what the page needs of it."""

    name: str
    path: pathlib.Path
    found: evaluated.Evaluated
    stages: dict[str, dict[str, Any]]  # manifests
    bundle: Bundle  # that fills the index

    @property
    def parameters(self) -> int:
        """Of the encoder."""
        return count_parameters(self.bundle.encoder)

    @property
    def sensor(self) -> str:
        """The sensor's title."""
        return page.title(self.bundle.sensor, self.bundle.record.bands)

    @property
    def protocol(self) -> dict[str, Any]:
        """All that two runs must share for their scores to be comparable."""
        shared = {name: self.found.table[name] for name in ("queries", "gallery", "k")}
        return shared | {"records": self.stages["evaluation"]["inputs"]["records"]}


def open_sides(runs: Sequence[pathlib.Path]) -> list[Side]:
    """Opens the runs and refuses those whose scores cannot be compared."""
    paths = [run.resolve() for run in runs]
    if len(paths) < 2 or len(set(paths)) < len(paths):
        raise ConfigError(
            f"got runs {', '.join(map(str, runs)) or '(none)'}, expected two or more different "
            "run directories; name each once"
        )
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in paths]
    sides = [_open_side(name, path) for name, path in zip(names, paths, strict=True)]
    first = sides[0]
    if not first.found.table["rows"]:
        raise ConfigError(f"run {first.path}: {UNLABELLED} Compare runs over labelled records")
    for side in sides[1:]:
        for key, value in side.protocol.items():
            if value != first.protocol[key]:
                raise ConfigError(
                    f"{side.path} was evaluated with {key} = {value}, {first.path} with "
                    f"{first.protocol[key]}; evaluate both on the same records (data.records) "
                    "with the same eval settings"
                )
    return sides


def _open_side(name: str, path: pathlib.Path) -> Side:
    stages = {n: artifacts.load(path / n) for n in ("checkpoints", "encoders", "evaluation")}
    page.check_sources(path, stages)
    found = evaluated.read(path / "evaluation")
    return Side(name, path, found, stages, load_bundle(path / "encoders" / found.table["encoder"]))


def find_records(sides: Sequence[Side], given: pathlib.Path | None) -> RecordSet:
    """Opens the records that all runs were evaluated on: the given ones, or those in a run."""
    wanted = sides[0].protocol["records"]
    for place in [given] if given else [side.path / "records" for side in sides]:
        if given or (place / artifacts.MANIFEST).exists():
            records = open_records(place)
            if records.manifest["fingerprint"] == wanted:
                return records
    raise DataError(
        f"{given or 'the runs'}: got no records {wanted[:12]}, which the runs were evaluated on; "
        "give their directory with --records"
    )
