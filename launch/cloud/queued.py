"""Queued resources of the Cloud TPU API: v4, v5e, v5p, v6e.

Google keeps this interface for what is there and puts newer TPUs on Compute Engine and GKE only
(docs.cloud.google.com/tpu/docs/tpus-in-compute-engine). States and commands are those of
cloud.google.com/tpu/docs/queued-resources, several slices those of .../multislice-introduction,
flex-start .../request-using-flex-start. The hosts of several slices get MEGASCALE_* from the
platform, and JAX reads them.
"""

from cloud import checks, prices, things
from cloud.backend import State, Status
from cloud.commands import LaunchError
from cloud.remote import Commands, Remote
from cloud.things import Thing

TPUS = ["gcloud", "compute", "tpus"]
QUEUED = [*TPUS, "queued-resources"]
STATES = {
    "CREATING": State.WAITING,
    "ACCEPTED": State.WAITING,
    "WAITING_FOR_RESOURCES": State.WAITING,
    "PROVISIONING": State.PROVISIONING,
    "ACTIVE": State.READY,
    "DELETING": State.WAITING,
    "FAILED": State.FAILED,
    "SUSPENDING": State.PREEMPTED,
    "SUSPENDED": State.PREEMPTED,
}


class Queued(Remote):
    """One queued resource NAME with node NAME, or NAME-0, NAME-1 ... of several slices."""

    @property
    def nodes(self) -> list[str]:
        """The TPU VMs' names; one node is one slice, on one host or more."""
        name, count = self.job.name, self.job.num_slices
        return [f"{name}-{i}" for i in range(count)] if count > 1 else [name]

    @property
    def _runtime(self) -> str:
        runtime = self.job.runtime_version or self.job.slice.generation.runtime_version
        if not runtime or self.job.topology not in ("", self.job.slice.usual_topology):
            raise LaunchError(
                f"{self.job.accelerator_type} {self.job.topology}: queued resources do not offer"
                " it; try --backend mig or gke",
                2,
            )
        return runtime

    def check(self) -> None:
        """Says what is missing before anything costs."""
        zone, job = self.google, self.job
        kind = [*TPUS, "accelerator-types", "describe", job.accelerator_type, *zone]
        runtime = [*TPUS, "versions", "describe", self._runtime, *zone]
        checks.run(
            self.shell,
            job,
            service="tpu.googleapis.com",
            facts={f"{job.accelerator_type} in {job.zone}": kind, self._runtime: runtime},
        )

    def create(self) -> None:
        """Asks for the slices; what is asked for already is left."""
        found = things.look(self.shell, self._request)
        if self.shell.dry_run:
            self.shell.say("goes on only if that was not found")
        elif found is not None:
            things.require_ours(self.shell, self._request, self.job.name)
            self._tell_of(self.machines())
            return
        result = self.shell.attempt([*self._track, "create", self.job.name, *self._wanted()])
        if result.code and "ALREADY_EXISTS" not in result.err:  # of a try that failed in passing
            raise LaunchError(f"could not create {self._request}: {result.err.strip()}")
        self.shell.say(f"{self.job.name} {prices.warn(self.job)}")

    def _tell_of(self, machines: Status) -> None:
        said = f"{self._request} exists already: {machines.detail}"
        if machines.state in (State.FAILED, State.PREEMPTED):
            raise LaunchError(f"{said}; nothing comes of it: `delete` it first, or give `resume`")
        self.shell.say(f"{said}\n{self.job.name} {prices.warn(self.job)}")

    @property
    def _request(self) -> Thing:
        about = [self.job.name, *self.google]
        delete = [*QUEUED, "delete", *about, "--force", "--quiet"]
        return Thing("request", self.job.name, [*QUEUED, "describe", *about], delete)

    def _node(self, name: str) -> Thing:
        vms = [*TPUS, "tpu-vm"]
        delete = [*vms, "delete", name, *self.google, "--quiet"]
        return Thing("node", name, [*vms, "describe", name, *self.google], delete)

    @property
    def _track(self) -> list[str]:
        # Only the alpha track has --provisioning-model.
        return ["gcloud", "alpha", *QUEUED[1:]] if self.job.flex_start else QUEUED

    def _wanted(self) -> list[str]:
        job, count = self.job, self.job.num_slices
        several = [f"--node-count={count}", f"--node-prefix={job.name}"]
        flex = ["--provisioning-model=flex-start", f"--max-run-duration={job.flex_start}"]
        chosen = {
            f"--network={job.network}": job.network,
            f"--subnetwork={job.subnetwork}": job.subnetwork,
            f"--service-account={job.service_account}": job.service_account,
            "--internal-ips": job.internal_ips,
            "--spot": job.spot,
            "--reserved": job.reservation,
        }
        return [
            *self.google,
            *(several if count > 1 else [f"--node-id={job.name}"]),
            f"--accelerator-type={job.accelerator_type}",
            f"--runtime-version={self._runtime}",
            f"--labels={things.mark(job.name)}",
            f"--description={things.mark(job.name)}",
            *(flag for flag, is_wanted in chosen.items() if is_wanted),
            *(flex if job.flex_start else []),
        ]

    def machines(self) -> Status:
        """Reads the queued resource's state."""
        active = '{"state": {"state": "ACTIVE"}}'
        request = things.look(self.shell, self._request, pretend=active)
        if request is None:
            return Status(State.ABSENT, None, "not asked for")
        found = request.get("state", {})
        name = found.get("state", "none")
        if name not in STATES:
            raise LaunchError(f"{self._request}: got state {name}, expected {', '.join(STATES)}")
        why = found.get("failedData", {}).get("error", {}).get("message", "")
        return Status(STATES[name], None, f"{name} {why}".rstrip())

    def created(self) -> str:
        """Returns when it was asked for, or the youngest of its nodes was made."""
        return things.youngest(self.shell, self._things(), "createTime")

    def copies(self, source: str, target: str) -> Commands:
        """Copies to all hosts of all nodes with one command."""
        every = ["--node=all", "--worker=all", "--batch-size=all", *self._tunnel]
        return [[*QUEUED, "scp", source, f"{self.job.name}:{target}", *self.google, *every]]

    def on_hosts(self, line: str, *, everywhere: bool = True) -> Commands:
        """Gives all hosts of all nodes a line with one command."""
        which = ["--node=all", "--worker=all", "--batch-size=all"]
        which = which if everywhere else ["--node=0", "--worker=0"]
        to = [*QUEUED, "ssh", self.job.name, *self.google, *which, *self._tunnel]
        return [[*to, f"--command={line}"]]

    @property
    def _tunnel(self) -> list[str]:
        return ["--tunnel-through-iap"] if self.job.internal_ips else []

    def ssh(self) -> None:
        """Opens a shell on the first host of the first node."""
        alpha = ["gcloud", "alpha", *TPUS[1:]] if self.job.internal_ips else TPUS
        to = [*alpha, "tpu-vm", "ssh", self.nodes[0], *self.google, "--worker=0"]
        self.shell.follow([*to, *self._tunnel])

    def delete(self, *, unmarked: bool = False) -> None:
        """Deletes the queued resource with its nodes, and nodes that outlived it."""
        self.remove(self._things(), unmarked=unmarked)

    def _things(self) -> list[Thing]:
        return [self._request, *map(self._node, self.nodes)]
