"""How the features fare while training: measured on images that are never trained on, and judged.

Nothing here changes the result of training: no random draw, no write to the state. `docs/health.md`
says what the numbers mean, and on what evidence a run is called collapsed.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Shaped

from rejepa_jax.config import Config
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.models.vit import Encoder
from rejepa_jax.retrieval import exact
from rejepa_jax.retrieval.embed import example_batches
from rejepa_jax.retrieval.encoder import embed
from rejepa_jax.retrieval.feature_statistics import feature_statistics
from rejepa_jax.retrieval.metrics.sets import f1_of_ranking
from rejepa_jax.training import sharding
from rejepa_jax.training.state import TrainState
from rejepa_jax.training.step import Update
from rejepa_jax.types import ConfigError

STD_SHARE = 0.3  # of its first value: a smaller `feature_std` is a sign of collapse
RANK_SHARE = 0.4  # of its first value: a smaller `rank_me` is one
STD_FLOOR = 0.01  # and so is a `feature_std` below this
FEWEST = 4  # images: two query two
ADVICE = (
    "Raise vicreg.weight, bring ema.start nearer to 1 or lower optim.peak_lr, and give another "
    "--workdir"
)
Line = Mapping[str, int | float]  # what was logged of a step


class CollapseError(RuntimeError):
    """Training goes on, but its features no longer tell images apart."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Images as the archive has them, in batches of one size, and what they show."""

    batches: list[Shaped[np.ndarray, "b h w c"]]  # the last one is filled up
    labels: Bool[np.ndarray, "r l"]


def read_sample(records: RecordSet, config: Config, devices: int) -> Sample:
    """Reads evenly spread images of the query split, in batches that divide over the devices.

    Raises:
        ConfigError: there are too few to measure anything.
    """
    split = config.eval.query_split
    rows = records.rows(split)
    count = min(config.health.images, len(rows))
    if count < FEWEST:
        raise ConfigError(
            f"got {count} images of split {split!r} to measure health on, expected {FEWEST} at "
            "least; take another config.eval.query_split, or set config.health.every = 0"
        )
    rows = rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]
    batch_size = min(config.train.batch_size, -(-count // devices) * devices)
    batches, labels = [], np.zeros((count, len(records.schema.classes)), bool)
    done = 0
    for examples, images in example_batches(records, rows, config.data.sensor, batch_size):
        batches.append(images)
        for place, example in enumerate(examples, done):
            labels[place, list(example.labels)] = True
        done += len(examples)
    return Sample(batches, labels)


class Health:
    """Measures every encoder of a method on the same images, now and then."""

    def __init__(self, config: Config, records: RecordSet, update: Update, mesh: jax.sharding.Mesh):
        self._config, self._records, self._update, self._mesh = config, records, update, mesh
        self._embed = jax.jit(
            lambda encoder, images: embed(encoder, images, update.preprocess, config.eval.pool),
            out_shardings=sharding.replicated(mesh),
        )

    @functools.cached_property
    def _sample(self) -> Sample:
        return read_sample(self._records, self._config, self._mesh.size)

    def is_due(self, step: int) -> bool:
        """Whether to measure after this step: before the first, at intervals, after the last."""
        every = self._config.health.every
        return every > 0 and (step % every == 0 or step == self._config.train.steps)

    def measure(self, state: TrainState) -> dict[str, float]:
        """Returns the measures of each encoder as `encoder/measure`.

        Raises:
            FloatingPointError: descriptors are not finite.
        """
        measured = {}
        for name, encoder in self._update.method.encoders(state.params, state.average).items():
            descriptors = self._describe(encoder)
            if not np.isfinite(descriptors).all():
                raise FloatingPointError(
                    f"the {name} encoder's descriptors are no longer finite after step "
                    f"{state.step}; earlier checkpoints are kept. Lower optim.peak_lr, and give "
                    "another --workdir"
                )
            values = feature_statistics(descriptors)
            if self._sample.labels.any():
                values["f1"] = self._f1(descriptors)
            measured |= {f"{name}/{key}": value for key, value in values.items()}
        return measured

    def _describe(self, encoder: Encoder) -> Float[np.ndarray, "r d"]:
        sensor, place = self._config.data.sensor, sharding.batch_sharding(self._mesh)
        parts = []
        for images in self._sample.batches:  # every process has all of them, and brings its rows
            placed = jax.make_array_from_callback(images.shape, place, images.__getitem__)
            parts.append(np.asarray(self._embed(encoder, {sensor: placed})))
        return np.concatenate(parts)[: len(self._sample.labels)]

    def _f1(self, descriptors: Float[np.ndarray, "r d"]) -> float:
        """Lets every other image query the rest: f1_micro_sets at `eval.k`."""
        queries, gallery = descriptors[::2], descriptors[1::2]
        labels = self._sample.labels
        ranking = exact.top_k(queries, gallery, min(self._config.eval.k, len(gallery)))[1]
        return f1_of_ranking(labels[::2], labels[1::2], ranking)

    def judge(self, lines: Sequence[Line]) -> None:
        """Warns once when an encoder collapses, given the log up to the measurement just made.

        Raises:
            CollapseError: one has, and `health.on_collapse` is stop.
        """
        before = collapsed(lines[:-1])
        for name, reason in collapsed(lines).items():
            if self._config.health.on_collapse == "stop":
                raise CollapseError(
                    f"{reason}, and health.on_collapse is stop; earlier checkpoints are kept. "
                    f"{ADVICE}"
                )
            if name not in before:
                logging.warning("%s. Training goes on (health.on_collapse). %s", reason, ADVICE)


def collapsed(lines: Sequence[Line]) -> dict[str, str]:
    """Returns the encoders that are collapsed at the end of a log, and what says so.

    Both of the last two measurements must show a sign: descriptors much closer together than at
    the first measurement, closer than any of use, or in far fewer directions than at the first.
    """
    ending = "/feature_std"
    names = {key.removesuffix(ending) for line in lines for key in line if key.endswith(ending)}
    found = {}
    for name in sorted(names):
        measured = [line for line in lines if name + ending in line]
        signs = [_sign(name, measured[0], line) for line in measured[-2:]]
        if len(signs) == 2 and all(signs):
            found[name] = (
                f"the {name} encoder has collapsed at step {lines[-1]['step']}: {signs[1]}"
            )
    return found


def _sign(name: str, first: Line, line: Line) -> str:
    """Returns the sign of collapse that a measurement shows, "" if none."""
    shares = {"feature_std": STD_SHARE, "rank_me": RANK_SHARE}
    signs = [
        f"{key} {line[f'{name}/{key}']:.3g}, less than {share} x {first[f'{name}/{key}']:.3g} of "
        f"step {first['step']}"
        for key, share in shares.items()
        if line[f"{name}/{key}"] < share * first[f"{name}/{key}"]
    ]
    if line[f"{name}/feature_std"] < STD_FLOOR:
        signs.append(f"feature_std {line[f'{name}/feature_std']:.2g}, less than {STD_FLOOR}")
    return " and ".join(signs)
