"""What a run says of itself while it trains: one JSON line and one console line at a time."""

import json
import math
import pathlib
from typing import Any

from rejepa_jax.console import Progress

LOG = "metrics.jsonl"


class Monitor:
    """Writes the metrics of logged steps; after a resumption the curve goes on without a seam."""

    def __init__(self, directory: pathlib.Path, steps: int, start: int, batch_size: int):
        self._path = directory / LOG
        kept = [line for line in read_log(self._path) if line["step"] <= start]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._batch_size = batch_size
        self._progress = Progress("train", steps * batch_size, "images", start * batch_size)

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        """Records the metrics after `step` steps.

        Raises:
            FloatingPointError: a metric, such as the loss, is no longer a finite number.
        """
        values = {name: float(value) for name, value in metrics.items()}
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:  # the gradient tells a step before the loss does
            raise FloatingPointError(
                f"{', '.join(wrong)} after step {step}; earlier checkpoints are kept. "
                "Lower optim.peak_lr or lengthen optim.warmup_steps, and give another --workdir"
            )
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        note = f"loss {values['loss']:.4f}"
        self._progress.update(step * self._batch_size, note)


def read_log(path: pathlib.Path) -> list[dict[str, int | float]]:
    """Returns the logged lines; a last line cut short by an interruption is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
