import logging

import pytest
from absl import logging as absl_logging

from rejepa_jax import console
from rejepa_jax.console import Progress, table


def test_table_aligns_numbers_right_and_text_left():
    rows = [["id", "score", "labels"], ["b", "0.5", "x; y"], ["abc", "10.25", "z"]]
    assert table(rows).splitlines() == [
        "id   score  labels",
        "------------------",
        "b      0.5  x; y",
        "abc  10.25  z",
    ]


def test_progress_says_rate_and_time_left_on_plain_lines(capsys, monkeypatch):
    clock = iter([0.0, 4.0, 20.0, 50.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    progress = Progress("embed", 100, "images")
    progress.update(10)  # after 4 s: too soon for another line
    progress.update(40, "loss 1")
    progress.update(100)
    assert capsys.readouterr().err.splitlines() == [
        "embed 40/100 images (40 %)  2.0 images/s  0:30 left  loss 1",
        "embed 100/100 images (100 %)  2.0 images/s  took 50 s",
    ]


def test_progress_after_a_resumption_counts_only_its_own_work(capsys, monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    Progress("train", 100, "images", done=80).update(90)
    assert "1.0 images/s  0:10 left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "level", "is_shown"),
    [
        (console.OURS + "stages.py", logging.INFO, True),
        ("/site-packages/orbax/checkpoint.py", logging.INFO, False),
        ("/home/rejepa_jax/.venv/site-packages/orbax/checkpoint.py", logging.INFO, False),
        ("/site-packages/orbax/checkpoint.py", logging.WARNING, True),
    ],
)
def test_only_our_own_messages_and_others_warnings_are_shown(path, level, is_shown):
    console.set_up_logging()
    record = logging.LogRecord("absl", level, path, 1, "message", (), None)
    assert bool(absl_logging.get_absl_handler().python_handler.filter(record)) == is_shown
