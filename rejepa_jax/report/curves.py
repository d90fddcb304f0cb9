"""The training log as small pictures: one panel a quantity, SVG that follows the page's colours."""

import dataclasses
import fnmatch
import io
import math
import pathlib
import re
from collections.abc import Iterable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    """A drawn panel and what it says, in words."""

    title: str
    summary: str
    svg: str


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
    ),
    "Schedules": (
        Panel("Learning rate", "step size", ("learning_rate",)),
        Panel("Weight decay", "× learning rate, a step", ("weight_decay",)),
        Panel("EMA momentum", "share of old weights kept", ("ema_momentum",)),
    ),
}
INK = "#010203"  # stands for the page's text colour, which an SVG cannot know
LINES = (("-", "#3d7fc4"), ("--", "#c9711a"))  # legible on white and on black
GROUP_ID = re.compile(r'(?<=<g) id="(?!line-)[^"]*"')  # the same in every panel, and used by none
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
STYLE = {**dict.fromkeys(INKED, INK), "svg.fonttype": "none", "font.size": 9}


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
    points, buffer = {name: series[name] for name in panel.shown(series)}, io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": panel.title}):  # one salt, unique ids
        figure = Figure(figsize=(3.5, 2.3), layout="constrained")
        _plot(figure.add_subplot(), panel, points)
        figure.savefig(buffer, format="svg", metadata=NO_METADATA, transparent=True)
    svg = "<svg" + buffer.getvalue().partition("<svg")[2]  # without the XML prologue
    svg = GROUP_ID.sub("", svg).replace(INK, "currentColor")
    return Curve(panel.title, "; ".join(_words(*item) for item in points.items()), svg)


def _plot(axes: Axes, panel: Panel, points: dict[str, Points]) -> None:
    for (name, pairs), (dashes, colour) in zip(points.items(), LINES, strict=False):
        (line,) = axes.plot(*zip(*pairs, strict=True), dashes, color=colour)
        line.set(label=name, gid=f"line-{name}", marker="o" if len(pairs) < 40 else "", ms=3)
    axes.set(xlabel="step (updates of the weights)", ylabel=panel.unit)
    axes.ticklabel_format(useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    if len(points) > 1:
        axes.legend(frameon=False)


def _words(name: str, pairs: Points) -> str:
    (first, start), (last, end) = pairs[0], pairs[-1]
    return f"{name} from {start:.4g} at step {first:g} to {end:.4g} at step {last:g}"
