"""The node pools of a job on GKE: one a slice, called NAME-0, NAME-1 ... and marked with its name.

A cluster does one thing at a time to its node pools, and says of the next that it would be an
`incompatible operation`; that passes.
"""

import dataclasses
import json
import re
from collections.abc import Sequence

from cloud import gke_policy, gke_pool, prices
from cloud.backend import State, Status
from cloud.commands import LaunchError, Result, Shell
from cloud.gke_cluster import ask
from cloud.gke_pool import BROKEN, LABEL, Pool
from cloud.job import Job

BUSY = "incompatible operation"
LOOKS, PERIOD = 60, 30  # how often, and every how many seconds, half an hour in all


@dataclasses.dataclass(frozen=True)
class Pools:
    """The node pools of `job` in a cluster at `location` (its region or zone)."""

    job: Job
    shell: Shell
    location: str

    def names(self) -> list[str]:
        return [f"{self.job.name}-{index}" for index in range(self.job.num_slices)]

    def found(self, *, pretend: Sequence[str] = ()) -> list[Pool]:
        """Lists the pools that are called as ours are; a dry run finds the names in `pretend`."""
        ours = {"status": "RUNNING", "config": {"labels": {LABEL: self.job.name}}}
        made_up = json.dumps([{"name": name, **ours} for name in pretend])
        listed = ask(self.shell, self._gcloud("list", "--format=json"), pretend=made_up)
        pools = [gke_pool.read(entry) for entry in listed or []]
        called = re.compile(re.escape(self.job.name) + "-[0-9]+")
        return [pool for pool in pools if called.fullmatch(pool.name)]

    def create(self) -> None:
        """Asks for the pools that are not there yet."""
        there = {pool.name: pool for pool in self.found()}
        if gke_pool.has_policy(self.job):
            gke_policy.make(self.job, self.shell)
        for name in self.names():
            if name in there:
                self._keep(there[name])
            else:
                self._make(name)

    def require_fit(self) -> None:
        """Raises a LaunchError for a pool of ours on which the job's pods would never run."""
        for pool in self.found():
            if pool.job == self.job.name and pool.name in self.names():
                gke_pool.require_fit(pool, self.job)

    def delete(self) -> None:
        """Deletes the job's pools, also any beyond its present number; waits until all are gone.

        Raises:
            LaunchError: some are still there, with their names and what they cost.
        """
        refused = self._delete_all()
        left = self._wait_until_gone(refused)
        if left:
            said = "".join(f"\n{name}: {refused[name]}" for name in left if name in refused)
            passes = all(BUSY in refused.get(name, BUSY) for name in left)
            raise LaunchError(
                f"node pools still there: {', '.join(left)}; delete again{said}\n"
                f"{self.job.name} {prices.warn(self.job)}",
                75 if passes else 1,
            )
        if gke_pool.has_policy(self.job):
            gke_policy.remove(self.job, self.shell)
        self.shell.say("no node pool of this job is left: nothing of it costs any more")

    def status(self) -> Status:
        """Says how far the machines are, by the worst of the pools."""
        pools = [pool for pool in self.found(pretend=self.names()) if pool.job == self.job.name]
        missing = sorted({*self.names()} - {pool.name for pool in pools})
        broken = [
            f"{pool.name} {pool.status}: {pool.message}" for pool in pools if pool.status in BROKEN
        ]
        if not pools:
            return Status(State.ABSENT)
        if broken:
            return Status(State.FAILED, detail="; ".join(broken))
        if any(pool.status == "STOPPING" for pool in pools):
            return Status(State.PROVISIONING, detail="node pools are being deleted")
        if missing:
            return Status(State.FAILED, detail=f"no node pool {', '.join(missing)}; create again")
        if any(pool.status != "RUNNING" for pool in pools):
            return Status(State.PROVISIONING, detail="node pools are being made")
        return Status(State.READY)

    def _delete_all(self) -> dict[str, str]:
        """Asks for the deletion of each; returns by name what was said of those refused."""
        refused = {}
        for pool in self.found(pretend=self.names()):
            if pool.job != self.job.name:
                self.shell.say(
                    f"left alone: node pool {pool.name} has no label {LABEL} of this job"
                )
            elif pool.status != "STOPPING":
                asked = self._insist("delete", pool.name, "--quiet", "--async")
                if asked.code:
                    refused[pool.name] = (asked.err or asked.out).strip()
        return refused

    def _wait_until_gone(self, refused: dict[str, str]) -> list[str]:
        """Waits for the pools that are being deleted; returns the names of those that stay."""
        left: list[str] = []
        for _ in range(LOOKS):
            left = [pool.name for pool in self.found() if pool.job == self.job.name]
            going = [name for name in left if name not in refused]
            if not going:
                break
            self.shell.pause(PERIOD, f"until these node pools are gone: {', '.join(going)}")
        return left

    def _make(self, name: str) -> None:
        asked = self._insist("create", name, *gke_pool.form(self.job), "--async")
        if asked.code:
            raise LaunchError(
                f"node pool {name}: {(asked.err or asked.out).strip()}\npools asked for before it"
                " stay, and cost: `create` again goes on, `delete` removes them",
                75 if BUSY in asked.err else 1,
            )

    def _keep(self, pool: Pool) -> None:
        gke_pool.require_fit(pool, self.job)
        if pool.status in BROKEN:
            raise LaunchError(
                f"node pool {pool.name} is in {pool.status}: {pool.message}; delete it"
            )
        self.shell.say(f"node pool {pool.name} is there already ({pool.status})")

    def _insist(self, verb: str, *words: str) -> Result:
        """Gives a command until the cluster is not busy with another of its node pools."""
        asked = self.shell.attempt(self._gcloud(verb, *words))
        for _ in range(LOOKS):
            if not asked.code or BUSY not in asked.err:
                break
            self.shell.pause(PERIOD, "until the cluster is done with another operation")
            asked = self.shell.attempt(self._gcloud(verb, *words))
        return asked

    def _gcloud(self, verb: str, *words: str) -> list[str]:
        job = self.job
        place = [f"--cluster={job.cluster}", f"--location={self.location}"]
        command = ["gcloud", "container", "node-pools", verb, *words]
        return [*command, *place, f"--project={job.project}"]
