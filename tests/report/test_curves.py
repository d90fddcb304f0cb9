import json
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from rejepa_jax.report import curves, drawing
from rejepa_jax.types import DataError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def write(tmp_path):
    def write(lines):
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


def line_points(curve, name):
    """The corners of a drawn line in SVG's pixels, y downwards; fails if it has gaps."""
    root = ElementTree.fromstring(curve.svg)
    group = next(g for g in root.iter(f"{SVG}g") if g.get("id") == f"line-{name}")
    steps = re.findall(r"([A-Z]) ([-\d.]+) ([-\d.]+)", group.find(f"{SVG}path").get("d"))
    assert [step[0] for step in steps] == ["M"] + ["L"] * (len(steps) - 1)
    return np.array([[float(x), float(y)] for _, x, y in steps])


def test_a_resumed_run_is_one_line_forwards(write):
    again = [(10, 5.0), (20, 4.0), (30, 9.0), (40, 9.0), (20, 3.0), (30, 2.0)]
    path = write([{"step": step, "loss": loss} for step, loss in again])
    assert curves.read_series(path)["loss"] == [(10, 5.0), (20, 3.0), (30, 2.0)]
    (curve,) = curves.draw_curves(path)["Loss and its parts"]
    points = line_points(curve, "loss")
    assert len(points) == 3
    assert (np.diff(points[:, 0]) > 0).all()


def test_the_line_has_the_shape_of_the_values(write):
    losses = [8.0, 6.0, 7.0, 0.0]
    path = write([{"step": 10 * i, "loss": loss} for i, loss in enumerate(losses)])
    (curve,) = curves.draw_curves(path)["Loss and its parts"]
    x, y = line_points(curve, "loss").T
    share = (y[-1] - y) / (y[-1] - y[0])  # 0 at the last value, 1 at the first
    np.testing.assert_allclose(share, np.array(losses) / 8, atol=1e-3)
    np.testing.assert_allclose(np.diff(x), np.diff(x)[0], rtol=1e-3)


def test_every_metric_is_drawn_once_in_its_group(write):
    known = ("loss", "prediction_loss", "vicreg_loss", "variance_loss", "covariance_loss")
    known += ("invariance_loss", "context_std", "gradient_norm")
    measured = ("f1", "rank_me", "feature_std", "mean_cosine", "uniformity")
    measured = tuple(f"{encoder}/{name}" for name in measured for encoder in ("target", "context"))
    speed = ("images_per_second", "mfu", "data_wait")
    planned = ("learning_rate", "weight_decay", "ema_momentum")
    names = (*known, *measured, *speed, *planned, "masked_accuracy")
    path = write([{"step": s, **dict.fromkeys(names, s / 3)} for s in (1, 2)])
    groups = curves.draw_curves(path)
    assert [len(group) for group in groups.values()] == [7, 5, 3, 3, 1]
    svg = "".join(curve.svg for group in groups.values() for curve in group)
    for name in names:
        assert svg.count(f'id="line-{name}"') == 1
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(set(ids)) == len(ids)  # all panels stand in one page


def test_axes_are_labelled(write):
    (curve,) = curves.draw_curves(write([{"step": 1, "ema_momentum": 0.996}]))["Schedules"]
    texts = [text.text for text in ElementTree.fromstring(curve.svg).iter(f"{SVG}text")]
    assert "step (updates of the weights)" in texts
    assert "share of old weights kept" in texts
    assert curve.summary == "ema_momentum from 0.996 at step 1 to 0.996 at step 1"


def test_two_lines_in_one_panel_are_told_apart_without_colour(write):
    path = write([{"step": s, "loss": 2 / s, "prediction_loss": 1 / s} for s in (1, 2)])
    (curve,) = curves.draw_curves(path)["Loss and its parts"]
    groups = {g.get("id"): g for g in ElementTree.fromstring(curve.svg).iter(f"{SVG}g")}
    dashed = [
        "stroke-dasharray" in groups[f"line-{n}"].find(f"{SVG}path").get("style")
        for n in ("loss", "prediction_loss")
    ]
    assert dashed == [False, True]
    assert curve.summary.count("from") == 2


def test_measures_of_all_encoders_of_any_method_share_a_panel(write):
    measured = {"a/f1": 0.2, "b/f1": 0.3, "a/rank_me": 9.0}
    path = write([{"step": 0, **measured}, {"step": 1, "loss": 1.0}, {"step": 9, **measured}])
    score, rank = curves.draw_curves(path)["Features of unseen images"]
    assert score.title == "Retrieval score"
    assert [line_points(score, name).shape for name in ("a/f1", "b/f1")] == [(2, 2), (2, 2)]
    assert rank.summary == "a/rank_me from 9 at step 0 to 9 at step 9"


def test_what_is_not_a_number_is_left_out(write):
    path = write([{"step": 1, "loss": 2.0, "context_std": float("nan")}, {"step": 2, "loss": 1.0}])
    series = curves.read_series(path)
    assert series == {"loss": [(1, 2.0), (2, 1.0)]}


def test_the_picture_takes_the_colours_of_the_page_and_nothing_from_outside(write):
    before = dict(matplotlib.rcParams)
    (curve,) = curves.draw_curves(write([{"step": 1, "loss": 2.0}]))["Loss and its parts"]
    assert dict(matplotlib.rcParams) == before
    assert curve.svg.startswith("<svg")
    assert "currentColor" in curve.svg
    assert drawing.INK not in curve.svg
    assert not re.findall(r'(?:href|src)="(?!#)', curve.svg)


def test_drawing_twice_gives_the_same(write):
    path = write([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    assert curves.draw_curves(path) == curves.draw_curves(path)


def test_a_missing_or_empty_log_is_named(write, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl.*run the train stage"):
        curves.draw_curves(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match=r"metrics\.jsonl: got no logged step"):
        curves.draw_curves(write([]))
