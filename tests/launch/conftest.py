"""A repository's root to launch from, and a cloud that is only played (fake/gcloud)."""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shutil
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
if str(ROOT / "launch") not in sys.path:
    sys.path.insert(0, str(ROOT / "launch"))

WORDS = [
    "--project=my-project",
    "--zone=us-west4-a",
    "--accelerator_type=v5litepod-8",
    "--workdir=gs://my-bucket/runs/base",
    "--config=configs/base.py",
    "--wheel=dist/rejepa_jax-1.0-py3-none-any.whl",
]


def load_gcloud():
    """The played gcloud as a module: a process for each of its commands would cost seconds."""
    loader = importlib.machinery.SourceFileLoader("fake_gcloud", str(HERE / "fake" / "gcloud"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


class Cloud:
    """What the played cloud was asked and is to answer, and what the operator was told."""

    def __init__(self, folder, capsys):
        self.folder, self._capsys, self.slept = folder, capsys, []
        (folder / "hosts").mkdir(parents=True)
        self.answers()

    def answers(self, *rules):
        """Sets the answers: pairs of a pattern and a list of answers."""
        for told in self.folder.glob("told-*"):
            told.unlink()
        (self.folder / "answers.json").write_text(json.dumps(rules))

    def hosts(self, *names):
        for name in names:
            (self.folder / "hosts" / name).mkdir()

    @property
    def asked(self):
        """Every command it was given, as words."""
        log = self.folder / "log.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def launch(self, *argv, backend="qr", words=WORDS):
        """Gives launch/tpu.py a verb; returns exit code, output and errors."""
        import tpu

        verb, *rest = argv
        code = tpu.main([verb, "base", f"--backend={backend}", *rest, *words])
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with what a launch needs of the repository; the current one."""
    folder = tmp_path / "root"
    for file in ("launch/cloud/host.sh", "constraints.txt"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    for file in ("configs/base.py", "configs/ben14k.py", "dist/rejepa_jax-1.0-py3-none-any.whl"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("# what counts is that it is there\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cloud(root, tmp_path, monkeypatch, capsys):
    """The played cloud; nobody waits for real."""
    import tpu
    from cloud import commands

    assert root.is_dir()
    played, gcloud, once = Cloud(tmp_path / "cloud", capsys), load_gcloud(), commands._once

    def play_or_run(argv, timeout, stdin):
        if argv[0] == "gcloud":
            return commands.Result(*gcloud.play(list(argv[1:]), played.folder))
        return once(argv, timeout, stdin)

    monkeypatch.setattr(commands, "_once", play_or_run)
    monkeypatch.setattr(
        tpu, "Shell", lambda dry_run: commands.Shell(dry_run, sleep=played.slept.append)
    )
    monkeypatch.setenv("PATH", str(HERE / "fake"), prepend=os.pathsep)
    return played
