"""A job for GKE and a PATH on which every tool of the cloud is a stand-in."""

import io
import json
import pathlib
import shlex

import pytest
from cloud.commands import Shell
from cloud.gke import Gke
from cloud.job import Job
from cloud.jobset import manifest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("kubectl", "gcloud", "gke-gcloud-auth-plugin", "docker", "xpk")
IMAGE = "us-west4-docker.pkg.dev/my-project/rejepa/rejepa-jax:1"
CLUSTER = ("gcloud container clusters list*", 0, "us-west4")


def job(**settings) -> Job:
    """Two spot slices of four hosts each."""
    base = {
        "name": "ben",
        "backend": "gke",
        "project": "my-project",
        "zone": "us-west4-a",
        "accelerator_type": "v5litepod-16",
        "workdir": "gs://my-bucket/runs/ben",
        "config": "configs/ben14k.py",
        "num_slices": 2,
        "spot": True,
        "cluster": "tpus",
        "image": IMAGE,
    }
    return Job(**(base | settings))


class World:
    """What the stand-ins answer, and how they were called."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.out, self.waits, self.count = io.StringIO(), [], 0
        (path / "answers").mkdir()

    def gke(self, **settings) -> Gke:
        options = {key: settings.pop(key) for key in ("via", "manifest_out") if key in settings}
        shell = Shell(out=self.out, pauses=(0, 0), sleep=self.waits.append)
        return Gke(job(**settings), shell, **options)

    def answer(self, pattern: str, code: int = 0, said="", *, once: bool = False) -> None:
        """Adds an answer after those that are there."""
        text = said if isinstance(said, str) else json.dumps(said)
        self.count += 1
        name = f"{self.count:03d}{'.once' if once else ''}"
        (self.path / "answers" / name).write_text(f"{pattern}\n{code}\n{text}")

    def calls(self, start: str = "") -> list[list[str]]:
        """Returns the calls whose line starts so, as words."""
        noted = self.path / "calls"
        lines = noted.read_text().splitlines() if noted.exists() else []
        return [shlex.split(line) for line in lines if line.startswith(start)]

    @property
    def stdin(self) -> str:
        return (self.path / "stdin").read_text()


def pool(
    name: str,
    status: str = "RUNNING",
    owner: str = "ben",
    message: str = "",
    topology: str = "4x4",
    **config,
) -> dict:
    """A node pool as `gcloud container node-pools list --format=json` has it."""
    labels = {"rejepa-job": owner} if owner else {}
    return {
        "name": name,
        "status": status,
        "config": {"machineType": "ct5lp-hightpu-4t", "spot": True, "labels": labels} | config,
        "placementPolicy": {"tpuTopology": topology} if topology else {},
        "conditions": [{"message": message}] if message else [],
        "instanceGroupUrls": [f"https://compute/zones/us-west4-a/instanceGroupManagers/{name}"],
    }


def jobset(
    kind: str = "", reason: str = "", restarts: int = 0, suspend: bool = False, **settings
) -> dict:
    """A JobSet as `kubectl get --output=json` has it."""
    conditions = [{"type": kind, "status": "True", "reason": reason, "message": "said so"}]
    status = {"conditions": conditions if kind else [], "restarts": restarts}
    made = manifest(job(**settings), IMAGE)
    return made | {"spec": made["spec"] | {"suspend": suspend}, "status": status}


def foreign(kind: str = "") -> dict:
    """Somebody else's JobSet of the same name."""
    theirs = jobset(kind)
    return theirs | {"metadata": {"name": "ben", "labels": {"team": "other"}}}


def pod(
    name: str,
    phase: str,
    code: int | None = None,
    waiting: str = "",
    why: str = "",
    since: str = "2026-11-22T12:00:00Z",
) -> dict:
    """A pod as `kubectl get --output=json` has it."""
    state = {"terminated": {"exitCode": code}} if code is not None else {}
    state |= {"waiting": {"reason": waiting}} if waiting else {}
    unscheduled = {"type": "PodScheduled", "status": "False", "message": why}
    return {
        "metadata": {"name": name},
        "status": {
            "phase": phase,
            "startTime": since,
            "conditions": [unscheduled] if why else [],
            "containerStatuses": [{"name": "rejepa", "state": state}] if state else [],
        },
    }


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A PATH with nothing on it but stand-ins, and a cluster."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in TOOLS:
        (programs / name).symlink_to(ROOT / "tests/launch/fake_k8s/tool")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.chdir(ROOT)
    world = World(tmp_path)
    world.answer(*CLUSTER)
    return world
