"""A process that no longer gets on ends by itself and says where it was; others are let be."""

import subprocess
import sys
import time

import road

from rejepa_jax.training.watchdog import Watchdog

HANGING = """
import time
from rejepa_jax.training.watchdog import Watchdog

def hang():
    time.sleep(60)

with Watchdog(1) as watchdog:
    for _ in range(4):
        time.sleep(0.3)
        watchdog.alive()
    hang()
"""


def test_process_without_a_step_ends_with_75_and_shows_where_it_was():
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING],
        cwd=road.ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 75, done.stderr
    assert time.monotonic() - start > 4 * 0.3 + 1
    assert "no step for 1 s, after 4 steps of this process" in done.stderr
    assert " in hang" in done.stderr


def test_it_looks_away_when_it_is_told_to_and_when_all_is_over():
    with Watchdog(0):
        time.sleep(0.1)
    with Watchdog(3600) as watchdog:
        watchdog.alive()
    assert not watchdog._thread.is_alive() or watchdog._is_over.is_set()
