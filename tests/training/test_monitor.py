import json
import math

import jax.numpy as jnp
import pytest

from rejepa_jax.training.monitor import LOG, Monitor, read_log

FINE = {"loss": jnp.float32(0.5), "gradient_norm": jnp.float32(2.0)}


def monitor(directory, start=0):
    return Monitor(directory, steps=10, start=start, batch_size=4)


def test_each_logged_step_is_one_json_line(tmp_path):
    log = monitor(tmp_path)
    log.log(2, FINE)
    log.log(4, FINE | {"loss": jnp.float32(0.25)})
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == [
        {"step": 2, "loss": 0.5, "gradient_norm": 2.0},
        {"step": 4, "loss": 0.25, "gradient_norm": 2.0},
    ]
    assert read_log(tmp_path / LOG) == lines


def test_a_new_run_starts_an_empty_log(tmp_path):
    monitor(tmp_path)
    assert (tmp_path / LOG).read_text() == ""


def test_no_log_reads_as_empty(tmp_path):
    assert read_log(tmp_path / "none.jsonl") == []


def test_resumption_drops_the_lines_after_its_checkpoint(tmp_path):
    log = monitor(tmp_path)
    for step in (1, 2, 3, 4):
        log.log(step, FINE)
    log = monitor(tmp_path, start=2)
    log.log(3, FINE)
    assert [line["step"] for line in read_log(tmp_path / LOG)] == [1, 2, 3]


def test_line_cut_short_by_an_interruption_is_left_out(tmp_path):
    monitor(tmp_path).log(1, FINE)
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 2, "lo')
    assert [line["step"] for line in read_log(tmp_path / LOG)] == [1]
    monitor(tmp_path, start=1).log(2, FINE)
    assert [line["step"] for line in read_log(tmp_path / LOG)] == [1, 2]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_loss_that_is_no_number_stops_the_run(tmp_path, loss):
    log = monitor(tmp_path)
    log.log(1, FINE)
    with pytest.raises(FloatingPointError, match=r"loss.* after step 2; .*optim\.peak_lr"):
        log.log(2, FINE | {"loss": jnp.float32(loss)})
    assert [line["step"] for line in read_log(tmp_path / LOG)] == [1]


def test_gradient_that_is_no_number_stops_the_run(tmp_path):
    # The loss was taken before the update: these parameters are already lost.
    with pytest.raises(FloatingPointError, match="gradient_norm"):
        monitor(tmp_path).log(1, FINE | {"gradient_norm": jnp.float32(math.nan)})
