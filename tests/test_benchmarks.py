"""The checks that wait for an accelerator: one command runs them, here at toy sizes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

COMMAND = pathlib.Path(__file__).parents[1] / "benchmarks" / "accelerator.sh"

FAKE = """#!/usr/bin/env bash
if [ "$1" = -c ]; then exit "${BACKEND:-0}"; fi
echo "a library talks"
echo "{\\"row\\": \\"${*##*/}\\"}"
echo "and complains" >&2
[[ "$*" != *fed.py*120x10* ]]
"""


@pytest.fixture
def accelerator(tmp_path):
    """Runs the command with a Python that only repeats what it is asked."""
    python = tmp_path / "python"
    python.write_text(FAKE)
    python.chmod(0o755)

    def run(*arguments, **environment):
        command = [str(COMMAND), *arguments]
        environment |= {"PYTHON": str(python), "PATH": os.environ["PATH"]}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_part_that_misses_does_not_stop_the_others(accelerator, tmp_path):
    out = tmp_path / "out"
    done = accelerator(str(out), PEAK="790")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "missed or failed: fed_vit_b15_120x10"
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["part"] for line in results] == [
        *("step_vit_b16_224", "step_vit_b15_120x10", "fed_vit_b16_224", "fed_vit_b15_120x10"),
        *("embed_vit_b16_224", "embed_vit_b15_120x10", "search"),
    ]
    assert results[1]["row"] == "step.py --preset vit_b15_120x10 --check --peak 790"
    assert results[-1]["row"] == "search.py --device --check"
    assert (out / "search.log").read_text() == "and complains\n"


def test_chosen_parts_run_alone(accelerator, tmp_path):
    out = tmp_path / "out"
    done = accelerator("--toy", str(out), "embed_vit_b16_224", "step_vit_b16_224", BACKEND="1")
    assert done.returncode == 0
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["row"] for line in results] == ["embed.py --preset toy", "step.py --preset toy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "PART is one of"), (["OUT", "fed_all"], "PART is one of"), (["OUT"], "no accelerator")],
)
def test_what_cannot_run_is_refused(accelerator, tmp_path, arguments, message):
    given = [word.replace("OUT", str(tmp_path / "out")) for word in arguments]
    done = accelerator(*given, BACKEND="1")
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.service
def test_every_part_runs_at_toy_size(tmp_path):
    parts = ("step_vit_b16_224", "fed_vit_b16_224", "embed_vit_b16_224")
    environment = os.environ | {"PYTHON": sys.executable, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [str(COMMAND), "--toy", str(tmp_path), *parts]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    found = {(line["part"].partition("_")[0], line["row"]): line for line in results}
    fed, still = found["fed", "fed"], found["fed", "synthetic"]
    share = fed["images_per_cpu_s"] / still["images_per_cpu_s"]
    assert fed["share"] == pytest.approx(share, abs=1e-3)
    assert 0 <= fed["data_wait"] <= 1
    row = found["embed", "synthetic"]
    # 4 tokens of 8 x 8 x 3 values, 16 features: embedded; four projections, an MLP of 64; scores.
    flops = 2 * 4 * 192 * 16 + 2 * 4 * (4 * 16 * 16 + 2 * 16 * 64) + 2 * 2 * 4 * 4 * 16
    assert row["gflop_an_image"] == pytest.approx(flops / 1e9, rel=1e-3)
    assert row["tflops"] == pytest.approx(row["images_per_s"] * flops / 1e12, abs=1e-4)
    assert found["embed", "records"]["images_per_s"] > 0
    assert found["step", "step"]["images_per_s"] > 0
