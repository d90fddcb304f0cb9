"""A GKE cluster that is there already: where it is, and how kubectl is led to it and no other."""

import functools
import json
from collections.abc import Sequence
from typing import Any

from cloud.commands import LaunchError, Result, Shell, quote
from cloud.job import Job


def ask(shell: Shell, argv: Sequence[str], *, pretend: str = "") -> Any:
    """Returns what a command that only reads has said in JSON, None if nothing.

    Raises:
        LaunchError: it cannot be told (75): an expired login or a network that is gone for a
            moment says nothing of the run.
    """
    said = _told(argv, shell.capture(argv, pretend=pretend)).out
    try:
        return json.loads(said) if said.strip() else None
    except ValueError as error:
        raise LaunchError(f"{quote(argv)}: got {said[:200]!r}, expected JSON", 75) from error


def _told(argv: Sequence[str], result: Result) -> Result:
    if result.code:
        said = (result.err or result.out).strip() or "it said nothing"
        raise LaunchError(f"exit code {result.code} of: {quote(argv)}\n{said}", 75)
    return result


class Cluster:
    """The cluster that a job names."""

    def __init__(self, job: Job, shell: Shell):
        job.need("cluster")
        self.job, self.shell = job, shell

    @functools.cached_property
    def location(self) -> str:
        """The cluster's region or zone; looked up, as both are common."""
        job = self.job
        asked = ["gcloud", "container", "clusters", "list", f"--project={job.project}"]
        asked += [f"--filter=name={job.cluster}", "--format=value(location)"]
        found = _told(asked, self.shell.capture(asked, pretend=job.region)).out.split()
        near = [place for place in found if place in (job.region, job.zone)]
        if len(near) != 1:
            raise LaunchError(
                f"cluster {job.cluster}: got {', '.join(found) or 'none'} in {job.project},"
                f" expected it in {job.region} or {job.zone}; docs/launching-gke.md makes one",
                2,
            )
        return near[0]

    @functools.cached_property
    def context(self) -> str:
        """The cluster's name for kubectl, which learns it if it does not know it."""
        job = self.job
        name = f"gke_{job.project}_{self.location}_{job.cluster}"
        known = ["kubectl", "config", "get-contexts", name, "--output=name"]
        if self.shell.dry_run or self.shell.capture(known).code:
            where = [f"--location={self.location}", f"--project={job.project}"]
            learn = ["gcloud", "container", "clusters", "get-credentials", job.cluster, *where]
            _told(learn, self.shell.attempt(learn))
        return name

    def kubectl(self, *words: str) -> list[str]:
        """Returns a command for this cluster, whichever one kubectl talks to by default."""
        return ["kubectl", f"--context={self.context}", f"--namespace={self.job.namespace}", *words]
