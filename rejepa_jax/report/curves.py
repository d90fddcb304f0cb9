"""The training log as small pictures: one panel a quantity, SVG that follows the page's colours."""

import dataclasses
import io
import math
import pathlib

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rejepa_jax.training.monitor import read_log
from rejepa_jax.types import DataError

Log = list[dict[str, float]]
Points = list[tuple[float, float]]  # step and value


@dataclasses.dataclass(frozen=True)
class Panel:
    """One picture: its title, what its vertical axis counts, and the metrics it shows."""

    title: str
    unit: str
    metrics: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A drawn panel and what it says, in words."""

    title: str
    summary: str
    svg: str


LOSSES = (
    Panel("Loss", "loss (no unit)", ("loss", "prediction_loss")),
    Panel("VICReg sum", "weighted sum, before α", ("vicreg_loss",)),
    Panel("Variance loss", "missing std, feature units", ("variance_loss",)),
    Panel("Covariance loss", "squared covariance / width", ("covariance_loss",)),
    Panel("Invariance loss", "mean squared difference", ("invariance_loss",)),
    Panel("Spread of the context features", "std, feature units", ("context_std",)),
    Panel("Gradient norm", "L2 norm", ("gradient_norm",)),
)
SCHEDULES = (
    Panel("Learning rate", "step size", ("learning_rate",)),
    Panel("Weight decay", "× learning rate, a step", ("weight_decay",)),
    Panel("EMA momentum", "share of old weights kept", ("ema_momentum",)),
)
INK = "#010203"  # stands for the page's text colour, which an SVG cannot know
COLOURS = ("#3d7fc4", "#c9711a")  # legible on white and on black
FEW = 40  # points; fewer are marked one by one
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
STYLE = {**dict.fromkeys(INKED, INK), "svg.fonttype": "none", "font.size": 9}


def draw_curves(path: pathlib.Path) -> dict[str, list[Curve]]:
    """Draws every logged metric, in groups; those that no panel knows get one of their own.

    Raises:
        DataError: nothing was logged.
    """
    log = drop_superseded(read_log(path))
    if not log:
        raise DataError(f"{path}: got no logged step, expected at least one; run the train stage")
    known = {name for panel in (*LOSSES, *SCHEDULES) for name in panel.metrics}
    names = dict.fromkeys(name for line in log for name in line if name not in known | {"step"})
    others = tuple(Panel(name, "value", (name,)) for name in names)
    groups = {"Loss and its parts": LOSSES, "Schedules": SCHEDULES, "Other metrics": others}
    drawn = {title: [_draw(panel, log) for panel in group] for title, group in groups.items()}
    return {title: list(filter(None, group)) for title, group in drawn.items() if any(group)}


def drop_superseded(log: Log) -> Log:
    """Returns the lines that stand: a resumption at an earlier step does later ones again."""
    kept: Log = []
    for line in reversed(log):
        if not kept or line["step"] < kept[-1]["step"]:
            kept.append(line)
    return kept[::-1]


def _draw(panel: Panel, log: Log) -> Curve | None:
    """Draws the panel's metrics that were logged, or nothing."""
    points = {
        name: [
            (line["step"], line[name]) for line in log if math.isfinite(line.get(name, math.nan))
        ]
        for name in panel.metrics
    }
    points = {name: pairs for name, pairs in points.items() if pairs}
    if not points:
        return None
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": panel.title}):  # one salt, unique ids
        figure = Figure(figsize=(3.5, 2.3), layout="constrained")
        _plot(figure.add_subplot(), panel, points)
        without = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=without, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")  # without the XML prologue
    return Curve(panel.title, _words(points), svg)


def _plot(axes: Axes, panel: Panel, points: dict[str, Points]) -> None:
    """Plots each metric as one line, told apart by colour and by dashes."""
    for (name, pairs), colour, dashes in zip(points.items(), COLOURS, ("-", "--"), strict=False):
        marker = "o" if len(pairs) <= FEW else ""
        label = name.replace("_", " ")
        (line,) = axes.plot(*zip(*pairs, strict=True), dashes, color=colour, marker=marker, ms=3)
        line.set(label=label, gid=f"line-{name}")
    axes.set(xlabel="step (updates of the weights)", ylabel=panel.unit)
    axes.ticklabel_format(useOffset=False)
    axes.spines[["top", "right"]].set_visible(False)
    if len(points) > 1:
        axes.legend(frameon=False)


def _words(points: dict[str, Points]) -> str:
    """Says where each line starts and ends."""
    parts = []
    for name, pairs in points.items():
        (first, start), (last, end) = pairs[0], pairs[-1]
        words = f"from {start:.4g} at step {first:g} to {end:.4g} at step {last:g}"
        parts.append(f"{name.replace('_', ' ')} {words}" if len(points) > 1 else words)
    return "; ".join(parts)
