"""GKE: node pools for the machines, a JobSet for the run, which Kubernetes restarts by itself.

The JobSet goes on by itself after a preemption, an eviction and exit code 75, RESTARTS times, and
ends at once with exit codes 1, 2 and 3; nothing needs to watch it from here.
"""

import dataclasses
import datetime

from cloud import checks, gke_image, gke_jobset, gke_status, prices, xpk
from cloud.backend import State, Status
from cloud.commands import LaunchError, Shell
from cloud.gke_cluster import Cluster, ask
from cloud.gke_jobset import JOBSETS
from cloud.gke_pools import Pools
from cloud.job import Job
from cloud.jobset import CONTAINER, manifest, to_json

HOST_0 = "jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"


class Gke:
    """A job on a GKE cluster that is there already.

    `via` is "kubectl", or "xpk" to start and stop the run by xpk; `manifest_out` is a file that
    `run` writes the JobSet to.
    """

    def __init__(self, job: Job, shell: Shell, via: str = "kubectl", manifest_out: str = ""):
        if via not in ("kubectl", "xpk"):
            raise LaunchError(f"via: got {via!r}, expected kubectl or xpk", 2)
        if job.accelerator_type and job.num_slices > 1 and job.slice.hosts == 1:
            raise LaunchError(
                f"num_slices: got {job.num_slices} of {job.accelerator_type}, which is one host;"
                " GKE joins only slices of several hosts, take a larger one",
                2,
            )
        self.job, self.shell, self.via, self.manifest_out = job, shell, via, manifest_out
        self.cluster = Cluster(job, shell)

    @property
    def pools(self) -> Pools:
        return Pools(self.job, self.shell, self.cluster.location)

    def check(self) -> None:
        """Looks for tools, cluster, JobSet, the right to make one, image, bucket and firewall."""
        gke_image.require_config(self.job)
        xpk_too = {"xpk": ["xpk", "version"]} if self.via == "xpk" else {}
        kubectl, namespace = self.cluster.kubectl, self.job.namespace
        facts = {
            "kubectl": ["kubectl", "version", "--client"],
            "gke-gcloud-auth-plugin": ["gke-gcloud-auth-plugin", "--version"],
            **xpk_too,
            f"JobSet in {self.job.cluster} (docs/launching-gke.md installs it)": kubectl(
                "get", "customresourcedefinition", JOBSETS, "--output=name"
            ),
            f"right to make one in {namespace}": kubectl("auth", "can-i", "create", JOBSETS),
        }
        checks.run(self.shell, self.job, service="container.googleapis.com", facts=facts)
        there = gke_image.is_there(self.job, self.shell)
        self.shell.say(f"image {self.job.image}: {'is there' if there else 'made by `setup`'}")

    def create(self) -> None:
        """Asks for a node pool a slice; a queue (Kueue) hands out those that the cluster has."""
        gke_image.require_config(self.job)
        if self.job.queue:
            self.shell.say(
                f"queue {self.job.queue} hands out the cluster's own machines: none made"
            )
            return
        self.pools.create()
        self.shell.say(f"asked for {self.job.name}; {prices.warn(self.job)}")

    def setup(self) -> None:
        """Builds and pushes the image unless the registry has it; every host pulls the same."""
        gke_image.require_config(self.job)
        if gke_image.is_there(self.job, self.shell):
            self.shell.say(
                f"image {self.job.image} is there and left as it is, with its own copy of"
                f" {self.job.config}: what was changed here since needs another tag"
            )
        else:
            gke_image.build(self.job, self.shell)

    def run(self) -> None:
        """Applies the JobSet; one of ours that runs is left, one that has ended makes way."""
        gke_image.require_config(self.job)
        image = gke_image.image_of(self.job)
        text = to_json(manifest(self.job, image))
        if self.manifest_out:
            gke_jobset.write(self.manifest_out, text)
            self.shell.say(f"manifest written to {self.manifest_out}")
        there = gke_jobset.find(self.cluster)
        if there and not gke_status.is_finished(there):
            gke_jobset.leave(self.cluster, there)
            return
        if not self.job.queue:
            self.pools.require_fit()
        if there:
            gke_jobset.delete(self.cluster)
        if self.via == "xpk":
            self.shell.run(xpk.create(self.job, image), timeout=1800)
        else:
            self.shell.run(self.cluster.kubectl("apply", "--filename=-"), stdin=text)
        self.shell.say(f"it runs in {self.job.workdir} once {self.job.hosts} hosts are there")
        self.shell.say(self._cost())

    def logs(self, *, follow: bool, everywhere: bool) -> None:
        """Shows what the pods of this try say; Cloud Logging keeps the earlier ones."""
        words = [f"--selector={self._selector(everywhere)}", f"--container={CONTAINER}"]
        words += ["--tail=200", "--prefix", f"--max-log-requests={self.job.hosts}"]
        self.shell.follow(self.cluster.kubectl("logs", *words, *(["--follow"] if follow else [])))
        self.shell.say(
            "earlier tries: gcloud logging read "
            f"'resource.labels.pod_name:{self.job.name}-slice-' --project={self.job.project}"
        )

    def status(self) -> Status:
        """Says where the run stands, or, where there is none, the machines."""
        jobset = gke_jobset.find(self.cluster)
        is_other = bool(jobset) and gke_status.is_other_run(jobset, self.job)
        if jobset and not (is_other and gke_status.is_finished(jobset)):
            asked = ("get", "pods", f"--selector={self._selector(True)}", "--output=json")
            pods = (ask(self.shell, self.cluster.kubectl(*asked)) or {}).get("items", [])
            status = gke_status.status_of(jobset, pods, datetime.datetime.now(datetime.UTC))
            if is_other:
                said = f"{status.detail}; with another workdir, config or arguments"
                status = dataclasses.replace(status, detail=said)
            if status.state is not State.PROVISIONING or self.job.queue:
                return status
            machines = self.pools.status()
            return machines if machines.state is State.FAILED else status
        if self.job.queue:
            return Status(State.READY, None, f"nothing of it is in queue {self.job.queue}")
        return self.pools.status()

    def ssh(self) -> None:
        """Opens a shell in the pod of host 0."""
        asked = ("get", "pods", f"--selector={self._selector(False)}", "--output=name")
        pods = self.shell.read(
            self.cluster.kubectl(*asked), pretend=f"pod/{self.job.name}-slice-0-0"
        ).split()
        if not pods:
            raise LaunchError(f"no pod of {self.job.name} is there; look at `status`")
        words = ["--stdin", "--tty", pods[0], f"--container={CONTAINER}", "--", "bash"]
        self.shell.follow(self.cluster.kubectl("exec", *words))

    def stop(self) -> None:
        """Deletes the JobSet: every process gets SIGTERM and has 300 s to save."""
        if not gke_jobset.find(self.cluster, pretend=True):
            self.shell.say(f"JobSet {self.job.name}: was not there")
        elif self.via == "xpk":
            self.shell.run(xpk.delete(self.job), timeout=1800)
        else:
            gke_jobset.delete(self.cluster)
        self.shell.say(f"what was saved stays; {self._cost()}")

    def created(self) -> str:
        """Returns when the machines of the first pool came to be."""
        groups = [group for pool in self.pools.found() for group in pool.instance_groups]
        if not groups:
            return ""
        asked = ["gcloud", "compute", "instance-groups", "managed", "describe", groups[0]]
        return self.shell.read([*asked, "--format=value(creationTimestamp)"]).strip()

    def delete(self) -> None:
        """Ends the run and deletes its node pools; cluster, image and bucket stay."""
        trouble = None
        try:
            if gke_jobset.find(self.cluster, pretend=True):
                gke_jobset.delete(self.cluster)
        except LaunchError as error:  # what costs is deleted all the same
            trouble = error
            self.shell.say(f"JobSet {self.job.name} is not deleted: {error}")
        if not self.job.queue:
            self.pools.delete()
        self.shell.say("not touched: the cluster (which has a fee of its own), image and bucket")
        if trouble:
            raise trouble

    def _cost(self) -> str:
        if self.job.queue:
            return f"its machines go back to queue {self.job.queue} when it ends or is stopped"
        return f"the machines stay: {self.job.name} {prices.warn(self.job)}"

    def _selector(self, everywhere: bool) -> str:
        ours = f"jobset.sigs.k8s.io/jobset-name={self.job.name}"
        return ours if everywhere else f"{ours},{HOST_0}"
