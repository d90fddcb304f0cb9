"""Tables and figures of `ablate.py`: each arm's mean over seeds, its interval, each seed."""

import pathlib
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from rejepa_jax.config import Config
from rejepa_jax.training.compute import compute_to_reach

matplotlib.use("svg")
Results = dict[str, list[dict[str, Any]]]  # arm -> one entry a seed
UNTRAINED, BASELINE, FORM = "untrained", "baseline", "plain"


def write(out: pathlib.Path, tables: dict[str, Any], results: Results, config: Config) -> None:
    """Writes `ablation.md` and one SVG a table."""
    pool = config.eval.pool
    text = [heading(results, config), encoders_table(results[BASELINE])]
    for name, arms in tables.items():
        present = [arm for arm in (BASELINE, *arms) if arm in results]
        if len(present) > 1:
            figure = f"{name.split(' (')[0].replace(' ', '_').lower()}.svg"
            draw(out / figure, present, results, pool)
            text += [f"### {name}", "", table(present, results, pool), f"![{name}]({figure})", ""]
    text.append(compute_table(results))
    (out / "ablation.md").write_text("\n".join(text))


def heading(results: Results, config: Config) -> str:
    """Says what all arms share."""
    first = results[BASELINE][0]
    model = config.model
    return (
        f"f1_micro_sets@{config.eval.k}. {steps(first)} steps of {first['batch_size']} images of "
        f"{config.data.image_size} px, {model.depth} layers of {model.embed_dim}, patch "
        f"{model.patch_size}; {len(results[BASELINE])} seeds. Mean over seeds, in brackets the "
        "mean 95 % bootstrap interval over queries, then each seed.\n"
    )


def steps(run: dict[str, Any]) -> int:
    """Returns how many steps a run had."""
    return run["images"] // run["batch_size"]


def best(run: dict[str, Any], pool: str) -> dict[str, float]:
    """Returns the score of the better trained encoder."""
    trained = [name for name in run["scores"] if name != UNTRAINED]
    scores = [run["scores"][name][pool][FORM] for name in trained]
    return max(scores, key=lambda score: score["value"])


def summary(scores: list[dict[str, float]]) -> str:
    """Lays out mean, mean interval and seeds."""
    value, low, high = (sum(s[k] for s in scores) / len(scores) for k in ("value", "low", "high"))
    seeds = ", ".join(f"{s['value']:.3f}" for s in scores)
    return f"{value:.3f} [{low:.3f}, {high:.3f}] | {seeds}"


def table(arms: list[str], results: Results, pool: str) -> str:
    """Lays out one table: every encoder of every arm, pooled as the config says."""
    lines = ["| arm | encoder | F1 | seeds | steps | GFLOPs an image |", "|---" * 6 + "|"]
    for arm in arms:
        for encoder in results[arm][0]["scores"]:
            if encoder == UNTRAINED and arm != BASELINE:
                continue
            scores = [run["scores"][encoder][pool][FORM] for run in results[arm]]
            cost = results[arm][0]["flops_per_image"] / 1e9
            spent = " | " if encoder == UNTRAINED else f"{steps(results[arm][0])} | {cost:.2f}"
            lines.append(f"| {arm} | {encoder} | {summary(scores)} | {spent} |")
    return "\n".join([*lines, ""])


def encoders_table(runs: list[dict[str, Any]]) -> str:
    """Lays out the baseline by encoder, pooling and form: which to retrieve with."""
    lines = ["### Encoder, pooling and form (baseline)", ""]
    lines += ["| encoder | pooling | form | F1 | seeds |", "|---|---|---|---|---|"]
    for encoder, pools in runs[0]["scores"].items():
        for pool, forms in pools.items():
            for form in forms:
                scores = [run["scores"][encoder][pool][form] for run in runs]
                lines.append(f"| {encoder} | {pool} | {form} | {summary(scores)} |")
    return "\n".join([*lines, ""])


def compute_table(results: Results) -> str:
    """Says what it cost to reach the scores that the health monitor saw on the way."""
    curves = {arm: [_curve(run) for run in runs] for arm, runs in results.items()}
    finals = [points[-1][1] for runs in curves.values() for points in runs if points]
    if not finals:
        return ""
    goals = [round(min(finals), 2), round(sorted(finals)[len(finals) // 2], 2)]
    lines = ["### Compute to reach a score (held-out images, while training)", ""]
    lines += [f"| arm | TFLOPs to {' | to '.join(f'{goal:.2f}' for goal in goals)} |"]
    lines += ["|---" * (1 + len(goals)) + "|"]
    for arm, runs in results.items():
        cells = []
        for goal in goals:
            spent = [
                compute_to_reach(
                    [{"step": s, "f1": v} for s, v in curve],
                    "f1",
                    goal,
                    run["flops_per_image"] * run["batch_size"],
                )
                for run, curve in zip(runs, curves[arm], strict=True)
            ]
            cells.append(
                ", ".join("not reached" if s is None else f"{s / 1e12:.2f}" for s in spent)
            )
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _curve(run: dict[str, Any]) -> list[tuple[int, float]]:
    """Returns the steps and the best encoder's score at each measurement."""
    points = []
    for line in run["log"]:
        scores = [value for name, value in line.items() if name.endswith("/f1")]
        if scores:
            points.append((line["step"], max(scores)))
    return points


def draw(path: pathlib.Path, arms: list[str], results: Results, pool: str) -> None:
    """Draws one row an arm: each seed a dot, the mean interval a line, the untrained encoder."""
    figure = Figure(figsize=(7, 0.6 + 0.42 * len(arms)), layout="constrained")
    axes = figure.add_subplot()
    for place, arm in enumerate(arms):
        scores = [best(run, pool) for run in results[arm]]
        low, high = (sum(s[key] for s in scores) / len(scores) for key in ("low", "high"))
        axes.plot([low, high], [place, place], color="#3d7fc4", lw=2)
        axes.plot([s["value"] for s in scores], [place] * len(scores), "o", color="#1d4f85", ms=5)
    untrained = [run["scores"][UNTRAINED][pool][FORM]["value"] for run in results[BASELINE]]
    axes.axvline(sum(untrained) / len(untrained), color="#c9711a", ls="--", lw=1)
    axes.set(
        yticks=range(len(arms)), yticklabels=arms, xlabel=f"F1, better encoder, {pool}, {FORM}"
    )
    axes.set_title("dashed: untrained encoder", fontsize=9, loc="left")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
