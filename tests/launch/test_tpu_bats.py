"""Runs tpu.bats: launch/tpu.py as an operator starts it."""

import os
import pathlib
import shutil
import subprocess

import pytest

BATS = os.environ.get("BATS") or shutil.which("bats")


@pytest.mark.skipif(not BATS, reason="needs bats: on PATH, or its path in BATS (npm install bats)")
def test_bats():
    script = pathlib.Path(__file__).with_name("tpu.bats")
    done = subprocess.run(
        [BATS, "--tap", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
