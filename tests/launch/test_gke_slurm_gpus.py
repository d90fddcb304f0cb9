"""Runs the tests of the scripts as operators start them: gke.bats, slurm.bats, gpus.bats."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
BATS = os.environ.get("BATS") or shutil.which("bats")


@pytest.mark.skipif(not BATS, reason="needs bats: on PATH, or its path in BATS (npm install bats)")
@pytest.mark.parametrize("name", ["gke", "slurm", "gpus"])
def test_bats(name):
    done = subprocess.run(
        [BATS, "--tap", HERE / f"{name}.bats"],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
