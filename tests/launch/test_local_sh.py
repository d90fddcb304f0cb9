"""launch/local.sh with a program that is only played, which notes signals, ends as it is told."""

import os
import pathlib
import signal
import subprocess

import pytest

LOCAL = pathlib.Path(__file__).parents[2] / "launch" / "local.sh"
# Ends 0.3 s after the first signal, or at once with a second one, as training does.
PROGRAM = """#!/usr/bin/env bash
if [[ $1 == -c ]]; then echo 1; exit; fi
take() { trap 'echo "$1 again"; exit 99' INT TERM; echo "got $1"; sleep 0.3; exit "$CODE"; }
trap 'take TERM' TERM
trap 'take INT' INT
echo "started on ${JAX_PLATFORMS:-any}"
for _ in {1..150}; do sleep 0.1; done
"""
MANY = ["--processes", "2", "--"]


def heed_signals():
    """Undoes what `nohup` or a shell's `&` around the tests has set: bash cannot trap it then."""
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)


@pytest.fixture
def local(tmp_path):
    """Starts the launcher, waits until its programs run, sends signals; returns (code, output)."""
    program = tmp_path / "python"
    program.write_text(PROGRAM)
    program.chmod(0o755)

    def run(*argv, send=(), **environment):
        env = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
        launcher = subprocess.Popen(
            [LOCAL, *argv, "--config", "x"],
            env=env | {"PYTHON": str(program), "CODE": "75"} | environment,
            stdout=subprocess.PIPE,
            preexec_fn=heed_signals,  # noqa: PLW1509
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            out = launcher.stdout
            assert out
            lines = [out.readline() for _ in range(2 if argv else 1)] if send else []
            for name in send:
                launcher.send_signal(name)
            return launcher, "".join(lines) + launcher.communicate(timeout=30)[0]
        finally:
            launcher.kill()

    return run


@pytest.mark.parametrize(
    ("argv", "send", "environment", "code", "got"),
    [
        ([], [signal.SIGTERM], {}, 75, ["got TERM"]),
        ([], [signal.SIGTERM, signal.SIGTERM], {"CODE": "0"}, 0, ["got TERM"]),  # as `timeout` does
        ([], [signal.SIGHUP], {"CODE": "3"}, 3, ["got TERM"]),
        ([], [signal.SIGINT], {}, 130, ["got INT"]),
        (MANY, [signal.SIGTERM], {}, 75, ["[0] got TERM", "[1] got TERM"]),
        (MANY, [signal.SIGINT], {}, 130, ["[0] got TERM", "[1] got TERM"]),
    ],
)
def test_a_signal_to_the_launcher_reaches_every_process_once(
    local, argv, send, environment, code, got
):
    launcher, said = local(*argv, send=send, **environment)
    assert launcher.returncode == code, said
    assert sorted(line for line in said.splitlines() if "started" not in line) == got


def test_several_processes_run_where_the_environment_says(local):
    assert "[1] started on cpu\n" in local(*MANY, send=[signal.SIGTERM])[1]
    said = local(*MANY, send=[signal.SIGTERM], JAX_PLATFORMS="cuda,cpu")[1]
    assert said.count("started on cuda,cpu\n") == 2


@pytest.mark.parametrize(
    ("argv", "environment", "message"),
    [
        ([], {"TRIES": "0"}, "TRIES: got '0', expected a whole number from 1 on"),
        ([], {"TRIES": "08"}, "TRIES: got '08'"),
        ([], {"GRACE": "a[$(touch owned)]"}, "GRACE: got"),
        (["--processes", "08"], {}, "--processes: got '08'"),
        (["--processes", ""], {}, "--processes: got ''"),
        (["--devices", "0"], {}, "--devices: got '0', expected a whole number from 1 on"),
    ],
)
def test_numbers_that_are_none_are_refused(local, argv, environment, message):
    launcher, said = local(*argv, **environment)
    assert (launcher.returncode, "started" in said) == (2, False)
    assert message in said
