"""The JobSet of a job in its cluster: found, deleted, and never somebody else's of that name."""

import json
import pathlib
from typing import Any

from cloud import gke_status
from cloud.commands import LaunchError
from cloud.gke_cluster import Cluster, ask
from cloud.jobset import GRACE_SECONDS
from cloud.things import LABEL

JOBSETS = "jobsets.jobset.x-k8s.io"


def find(cluster: Cluster, *, pretend: bool = False) -> dict[str, Any]:
    """Returns the JobSet as the cluster has it, {} if there is none.

    Raises:
        LaunchError: it cannot be told (75), or somebody else's has the name (2).
    """
    job = cluster.job
    asked = cluster.kubectl("get", JOBSETS, job.name, "--ignore-not-found", "--output=json")
    made_up = json.dumps({"metadata": {"labels": {LABEL: job.name}}}) if pretend else ""
    found = ask(cluster.shell, asked, pretend=made_up) or {}
    if found and not gke_status.is_ours(found, job.name):
        raise LaunchError(
            f"JobSet {job.name} in namespace {job.namespace} was not made here (no label"
            f" {LABEL}={job.name}): left as it is; take another --name",
            2,
        )
    return found


def delete(cluster: Cluster) -> None:
    """Deletes the JobSet, which `find` has found; waits until its pods are gone."""
    words = ["--ignore-not-found", "--cascade=foreground", f"--timeout={GRACE_SECONDS + 60}s"]
    asked = cluster.kubectl("delete", JOBSETS, cluster.job.name, *words)
    cluster.shell.run(asked, timeout=GRACE_SECONDS + 120)


def leave(cluster: Cluster, running: dict[str, Any]) -> None:
    """Says that it is left to run.

    Raises:
        LaunchError: it runs something else than the job says.
    """
    name = cluster.job.name
    if gke_status.is_other_run(running, cluster.job):
        raise LaunchError(
            f"JobSet {name} runs with another workdir, config or arguments: stop it first, or take"
            " another --name",
            2,
        )
    cluster.shell.say(f"JobSet {name} is there and has not ended: left as it is")


def write(path: str, text: str) -> None:
    """Writes a manifest.

    Raises:
        LaunchError: the file cannot be written.
    """
    try:
        pathlib.Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise LaunchError(f"--manifest_out {path}: {error.strerror}", 2) from error
