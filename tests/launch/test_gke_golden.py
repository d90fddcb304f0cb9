"""What every verb prints in a dry run on GKE, to the letter, and that a shell runs just that.

After a change that is meant: GOLDEN=write python -m pytest -n 0 tests/launch/test_gke_golden.py
"""

import json
import os
import pathlib
import subprocess

import pytest
import tpu
from cloud.jobset import manifest
from fake_gke import IMAGE, ROOT, World, job, world

__all__ = ["world"]
GOLDEN = pathlib.Path(__file__).parent / "golden_gke"
BASE = [
    "ben",
    "--backend=gke",
    "--dry_run",
    "--project=my-project",
    "--zone=us-west4-a",
    "--cluster=tpus",
    "--workdir=gs://my-bucket/runs/ben",
    "--config=configs/ben14k.py",
    f"--image={IMAGE}",
]
TWO_SPOT_SLICES = ["--accelerator_type=v5litepod-16", "--num_slices=2", "--spot"]
ONE_HOST = ["--accelerator_type=v5litepod-8"]
CASES = {
    "check": ["check", *TWO_SPOT_SLICES],
    "create": ["create", *TWO_SPOT_SLICES],
    "create_one_host": ["create", *ONE_HOST],
    "create_reservation": ["create", "--accelerator_type=v5p-128", "--reservation=mine"],
    "create_flex_start": ["create", "--accelerator_type=v6e-64", "--flex_start=8h"],
    "create_tpu7x": ["create", "--accelerator_type=tpu7x-64", "--service_account=a@p.iam.com"],
    "create_queue": ["create", *ONE_HOST, "--queue=team"],
    "setup": ["setup", *TWO_SPOT_SLICES],
    "run": ["run", *TWO_SPOT_SLICES, "--env=NOTE=two words"],
    "run_one_host_in_queue": ["run", *ONE_HOST, "--queue=team", "--namespace=research"],
    "run_xpk": ["run", *TWO_SPOT_SLICES, "--via=xpk"],
    "status": ["status", *TWO_SPOT_SLICES],
    "logs": ["logs", *TWO_SPOT_SLICES, "--follow", "--everywhere"],
    "ssh": ["ssh", *TWO_SPOT_SLICES],
    "resume": ["resume", *TWO_SPOT_SLICES],
    "stop": ["stop", *TWO_SPOT_SLICES],
    "stop_xpk": ["stop", *TWO_SPOT_SLICES, "--via=xpk"],
    "delete": ["delete", *TWO_SPOT_SLICES],
    "delete_tpu7x": ["delete", "--accelerator_type=tpu7x-64"],
}
HOSTILE = "--config.data.records=/a b;touch $FAKE/owned;`touch $FAKE/owned`'\"$(touch $FAKE/owned)"


def printed(capsys, monkeypatch, words: list[str]) -> str:
    monkeypatch.chdir(ROOT)
    verb, rest = words[0], words[1:]
    place = rest.index("--") if "--" in rest else len(rest)
    assert tpu.main([verb, *BASE, *rest[:place], *rest[place:]]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", CASES)
def test_dry_run(name, capsys, monkeypatch, world: World):
    text = printed(capsys, monkeypatch, CASES[name])
    assert not world.calls()  # a dry run asks nobody
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


def run_by_bash(text: str) -> None:
    subprocess.run(["/bin/bash", "-euo", "pipefail"], input=text, text=True, check=True, timeout=20)


@pytest.mark.parametrize("name", ["check", "create", "setup", "stop", "delete_tpu7x"])
def test_a_shell_runs_what_is_printed(name, capsys, monkeypatch, world: World):
    text = printed(capsys, monkeypatch, CASES[name])
    run_by_bash(text)
    said = [line for line in text.splitlines() if line not in ("ok", "END") and line[0] != "#"]
    assert len(world.calls()) == len(said)


def test_a_shell_applies_the_manifest_with_every_word_as_it_was(
    capsys, monkeypatch, world: World, tmp_path
):
    out = tmp_path / "a b.json"
    words = [*CASES["run"], f"--manifest_out={out}", "--", HOSTILE]
    text = printed(capsys, monkeypatch, words)
    run_by_bash(text)
    expected = manifest(job(env={"NOTE": "two words"}, arguments=(HOSTILE,)), IMAGE)
    assert json.loads(world.stdin) == json.loads(out.read_text()) == expected
    assert not (world.path / "owned").exists()


def test_a_shell_gives_xpk_every_word_as_it_was(capsys, monkeypatch, world: World):
    text = printed(capsys, monkeypatch, [*CASES["run_xpk"], "--", HOSTILE])
    run_by_bash(text)
    [call] = world.calls("xpk")
    command = call[-1].removeprefix("--command=")
    monkeypatch.setenv("PATH", f"{world.path / 'bin'}")
    (world.path / "bin/python3").symlink_to(ROOT / "tests/launch/fake_k8s/tool")
    run_by_bash(command)  # as xpk's container does
    assert world.calls("python3") == [job(arguments=(HOSTILE,)).command]
    assert not (world.path / "owned").exists()


@pytest.mark.parametrize(
    "flag",
    ["ben;reboot", "ben ben", "$(reboot)", "Ben", "-ben"],
)
@pytest.mark.parametrize("key", ["cluster", "project", "namespace", "image", "queue"])
def test_names_that_no_cloud_would_take_are_refused(key, flag, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["run", *BASE, *TWO_SPOT_SLICES, f"--{key}={flag}"]
    assert tpu.main(words) == 2
    assert f"{key}: got {flag!r}" in capsys.readouterr().err
