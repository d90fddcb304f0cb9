"""The training log as small pictures: one panel a quantity, SVG that follows the page's colours."""

import dataclasses
import fnmatch
import math
import pathlib
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rejepa_jax.report.drawing import LINES, to_svg
from rejepa_jax.training.monitor import read_log
from rejepa_jax.types import DataError

Points = list[tuple[float, float]]  # step and value


@dataclasses.dataclass(frozen=True)
class Panel:
    """One picture: its title, what its vertical axis counts, and the metrics it shows."""

    title: str
    unit: str
    metrics: tuple[str, ...]  # names; `*/x` stands for x of every encoder

    def shown(self, logged: Iterable[str]) -> list[str]:
        """Returns those of its metrics that were logged."""
        return [name for pattern in self.metrics for name in fnmatch.filter(logged, pattern)]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A drawn panel and what it says, in words and in numbers."""

    title: str
    summary: str
    svg: str
    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]  # step and the value of each name, NaN where none


PANELS = {
    "Loss and its parts": (
        Panel("Loss", "loss (no unit)", ("loss", "prediction_loss")),
        Panel("VICReg sum", "weighted sum, before α", ("vicreg_loss",)),
        Panel("Variance loss", "missing std, feature units", ("variance_loss",)),
        Panel("Covariance loss", "squared covariance / width", ("covariance_loss",)),
        Panel("Invariance loss", "mean squared difference", ("invariance_loss",)),
        Panel("Spread of the context features", "std, feature units", ("context_std",)),
        Panel("Gradient norm", "L2 norm", ("gradient_norm",)),
    ),
    "Features of unseen images": (
        Panel("Retrieval score", "F1@k", ("*/f1",)),
        Panel("Effective rank (RankMe)", "directions", ("*/rank_me",)),
        Panel("Spread of the descriptors", "std × √width, 1 at most", ("*/feature_std",)),
        Panel("Mean cosine of two images", "cosine", ("*/mean_cosine",)),
        Panel("Uniformity", "log potential, 0 at worst", ("*/uniformity",)),
    ),
    "Speed": (
        Panel("Images", "images a second", ("images_per_second",)),
        Panel("Model FLOPs utilisation", "share of the peak", ("mfu",)),
        Panel("Devices without data", "share of the time", ("data_wait",)),
    ),
    "Schedules": (
        Panel("Learning rate", "step size", ("learning_rate",)),
        Panel("Weight decay", "× learning rate, a step", ("weight_decay",)),
        Panel("EMA momentum", "share of old weights kept", ("ema_momentum",)),
    ),
}
TABLED = 12  # steps of a curve whose numbers stand beside it


def draw_curves(path: pathlib.Path) -> dict[str, list[Curve]]:
    """Draws every logged metric, in groups; those that no panel knows get one of their own."""
    series = read_series(path)
    known = {name for group in PANELS.values() for panel in group for name in panel.shown(series)}
    others = [Panel(name, "value", (name,)) for name in series if name not in known]
    drawn = {
        title: [_draw(panel, series) for panel in group if panel.shown(series)]
        for title, group in {**PANELS, "Other metrics": others}.items()
    }
    return {title: curves for title, curves in drawn.items() if curves}


def read_series(path: pathlib.Path) -> dict[str, Points]:
    """Returns the finite values of each metric, by step; a DataError where nothing was logged."""
    series: dict[str, Points] = {}
    for line in drop_superseded(read_log(path)):
        for name, value in line.items():
            if name != "step" and math.isfinite(value):
                series.setdefault(name, []).append((float(line["step"]), value))
    if not series:
        raise DataError(f"{path}: got no logged step, expected at least one; run the train stage")
    return series


def drop_superseded(log: list[dict]) -> list[dict]:
    """Returns the lines that stand: a resumption at an earlier step does later ones again."""
    kept = []
    for line in reversed(log):
        if not kept or line["step"] < kept[-1]["step"]:
            kept.append(line)
    return kept[::-1]


def _draw(panel: Panel, series: dict[str, Points]) -> Curve:
    points = {name: series[name] for name in panel.shown(series)}
    words = "; ".join(_words(*item) for item in points.items())
    svg = to_svg(lambda axes: _plot(axes, panel, points), panel.title, words)
    return Curve(panel.title, words, svg, tuple(points), _rows(points))


def _rows(points: dict[str, Points]) -> tuple[tuple[float, ...], ...]:
    """Returns the first step, the last, and some at even distances between them."""
    known = [dict(pairs) for pairs in points.values()]
    steps = sorted(set().union(*known))
    places = sorted({round(i * (len(steps) - 1) / (TABLED - 1)) for i in range(TABLED)})
    return tuple(
        (steps[place], *(pairs.get(steps[place], math.nan) for pairs in known)) for place in places
    )


def _plot(axes: Axes, panel: Panel, points: dict[str, Points]) -> None:
    for (name, pairs), (dashes, colour) in zip(points.items(), LINES, strict=False):
        (line,) = axes.plot(*zip(*pairs, strict=True), dashes, color=colour)
        line.set(label=name, gid=f"line-{name}", marker="o" if len(pairs) < 40 else "", ms=3)
    axes.set(xlabel="step (updates of the weights)", ylabel=panel.unit)
    axes.ticklabel_format(useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if len(points) > 1:
        axes.legend(frameon=False)


def _words(name: str, pairs: Points) -> str:
    (first, start), (last, end) = pairs[0], pairs[-1]
    return f"{name} from {start:.4g} at step {first:g} to {end:.4g} at step {last:g}"
