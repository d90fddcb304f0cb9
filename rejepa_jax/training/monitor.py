"""What a run says of itself while it trains: JSON lines, the console, TensorBoard if asked for."""

import contextlib
import json
import math
import pathlib
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from rejepa_jax import artifacts, processes
from rejepa_jax.config import Config
from rejepa_jax.console import Progress
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.training.compute import Compute, mfu
from rejepa_jax.training.health import Health
from rejepa_jax.training.pace import Pace
from rejepa_jax.training.state import TrainState
from rejepa_jax.types import Batch, ConfigError, Metrics

LOG = "metrics.jsonl"
WRONG = "nan_step_{}.json"  # beside it: the batch of a step that went wrong
NAMED = 8  # images of that batch, in the message
NOTES = {"loss": "loss {:.4f}", "mfu": "MFU {:.1%}", "data_wait": "data wait {:.1%}"}  # console


class Monitor:
    """Writes the metrics of logged steps; after a resumption the curve goes on without a seam.

    Of several processes all take part, since what they ask of the devices must be the same, and
    the main one writes.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        config: Config,
        start: int,
        records: RecordSet,
        health: Health,
        compute: Compute,
    ):
        first = start + 1 if start else 0  # the first step that is logged, perhaps again
        self._path, self._is_main = directory / LOG, processes.is_main()
        if self._is_main:
            kept = [line for line in read_log(self._path) if line["step"] < first]
            self._path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._config, self._records, self._health = config, records, health
        self._compute, self._pace = compute, Pace()
        self._pending: list[tuple[int, Metrics, Any]] = []
        self._mark: tuple[float, int] | None = None  # when the clock was started, after which step
        self._notes = dict.fromkeys(NOTES, "")
        batch_size, steps = config.train.batch_size, config.train.steps
        self._progress = Progress("train", steps * batch_size, "images", start * batch_size)
        has_events = config.health.tensorboard and self._is_main
        self._events = open_events(directory, first) if has_events else None

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        """Encloses the wait for the next batch, of which `data_wait` is made."""
        return self._pace.waiting()

    def keep(self, step: int, batch: Batch, metrics: Metrics) -> None:
        """Takes note of a step; its metrics stay on the device until something is logged.

        Waits for a step some steps back, so that the host does not run away from the devices.
        """
        self._pending.append((step, metrics, batch["id"]))
        self._pace.follow(metrics)
        if self._mark is None:
            jax.block_until_ready(metrics)  # the time of the first step is that of compilation
            self._start_clock(step)

    def is_due(self, step: int) -> bool:
        """Whether something is to be logged after this step."""
        return step % self._config.train.log_every == 0 or self._health.is_due(step)

    def log(self, step: int, state: TrainState) -> None:
        """Records the metrics after `step` steps, with the measures of the features if due.

        Raises:
            FloatingPointError: a metric of this or an earlier step is not a finite number.
            CollapseError: the features have collapsed, and the run is to stop then.
        """
        values = self._fetch() | self._speed(step)
        is_measured = self._health.is_due(step)
        if is_measured:
            values |= self._health.measure(state)
        if self._is_main:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
            self._show(step, values)
            if is_measured:
                self._health.judge(read_log(self._path))
        if self._mark:
            self._start_clock(step)

    def close(self) -> None:
        """Writes out what TensorBoard has not been given yet."""
        self._pace.close()
        if self._events:
            self._events.close()

    def _fetch(self) -> dict[str, float]:
        """Returns the last step's metrics after looking at those of every step since the last log.

        The gradient tells a step before the loss does, and either names the batch that did it.
        """
        values: dict[str, float] = {}
        fetched = jax.device_get([metrics for _, metrics, _ in self._pending])
        for (step, _, rows), metrics in zip(self._pending, fetched, strict=True):
            values = {name: float(value) for name, value in metrics.items()}
            if not all(map(math.isfinite, values.values())):
                everywhere = multihost_utils.process_allgather(rows, tiled=True)
                self._stop(step, values, np.asarray(everywhere).tolist())
        self._pending.clear()
        return values

    def _stop(self, step: int, values: dict[str, float], rows: list[int]) -> None:
        """Writes down the batch that went wrong, all of it, and raises what says so."""
        path = self._path.with_name(WRONG.format(step))
        if self._is_main:
            images = [{"row": row, "id": self._id(row)} for row in rows]
            metrics = {name: _plain(value) for name, value in values.items()}
            artifacts.write_json(path, {"step": step, "metrics": metrics, "images": images})
        wrong = [f"{k} is {value}" for k, value in values.items() if not math.isfinite(value)]
        names = ", ".join(map(self._id, rows[:NAMED]))
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        raise FloatingPointError(
            f"{', '.join(wrong)} at step {step}, on the batch of {names}{more}; earlier "
            f"checkpoints are kept, and {path} lists the batch. Look at these images, lower "
            "optim.peak_lr or lengthen optim.warmup_steps, and give another --workdir"
        )

    def _id(self, row: int) -> str:
        return self._records.read_examples([row])[0].id

    def _start_clock(self, step: int) -> None:
        self._mark = time.monotonic(), step
        self._pace.lacked()

    def _speed(self, step: int) -> dict[str, float]:
        """Returns images a second since the last log, their share of the peak, and of waiting."""
        if self._mark is None or self._mark[1] == step:
            return {}
        start, first = self._mark
        seconds = time.monotonic() - start
        rate = (step - first) * self._config.train.batch_size / seconds
        return {
            "images_per_second": rate,
            "mfu": mfu(rate, self._compute, jax.device_count()),
            "data_wait": self._pace.lacked() / seconds,
        }

    def _show(self, step: int, values: dict[str, float]) -> None:
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        notes = NOTES | {name: name + " {:.3f}" for name in values if name.endswith("/f1")}
        self._notes |= {n: form.format(values[n]) for n, form in notes.items() if n in values}
        note = "  ".join(filter(None, self._notes.values()))
        self._progress.update(step * self._config.train.batch_size, note)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # JSON has no such numbers


def open_events(directory: pathlib.Path, first: int) -> Any:
    """Opens an event file for TensorBoard, which is to forget what it has of `first` and later."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "config.health.tensorboard = True needs the package tensorboardX; "
            "pip install 'rejepa_jax[tensorboard]', or set it to False"
        ) from error
    where = str(directory / "tensorboard")
    return SummaryWriter(where, purge_step=first, filename_suffix=f".{first}")


def read_log(path: pathlib.Path) -> list[dict[str, int | float]]:
    """Returns the logged lines; a last line cut short by an interruption is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
