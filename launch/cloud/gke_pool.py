"""One node pool of a job: as GKE describes it, as it is asked for, and whether the two agree.

Flags are those of docs.cloud.google.com/sdk/gcloud/reference/container/node-pools/create; fields of
cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters.nodePools.
"""

import dataclasses
from typing import Any

from cloud.commands import LaunchError
from cloud.job import Job
from cloud.things import LABEL  # on the nodes: what is deleted must carry it, whatever its name

BROKEN = ("ERROR", "RUNNING_WITH_ERROR")


@dataclasses.dataclass(frozen=True)
class Pool:
    """A node pool as GKE describes it; `job` is whose it is by our label, "" is nobody's."""

    name: str
    status: str
    job: str
    machine_type: str
    topology: str
    spot: bool
    flex_start: bool
    message: str
    instance_groups: tuple[str, ...]


def read(entry: dict[str, Any]) -> Pool:
    """Reads one entry of `gcloud container node-pools list --format=json`."""
    config = entry.get("config", {})
    said = [condition.get("message", "") for condition in entry.get("conditions", [])]
    return Pool(
        entry["name"],
        entry.get("status", ""),
        config.get("labels", {}).get(LABEL, ""),
        config.get("machineType", ""),
        entry.get("placementPolicy", {}).get("tpuTopology", ""),
        bool(config.get("spot")),
        bool(config.get("flexStart")),
        "; ".join(said) or entry.get("statusMessage", "") or "it gives no reason",
        tuple(entry.get("instanceGroupUrls", ())),
    )


def has_policy(job: Job) -> bool:
    """Whether a workload policy says the pool's topology: from TPU7x on, over several hosts."""
    # docs.cloud.google.com/kubernetes-engine/docs/how-to/tpus
    return job.accelerator_type.startswith("tpu7x-") and job.slice.hosts > 1


def form(job: Job) -> list[str]:
    """What a pool is made of: one slice, or (flex-start) none until a run asks for it."""
    machines = job.slice
    words = [f"--node-locations={job.zone}", f"--machine-type={machines.machine_type}"]
    words += [f"--node-labels={LABEL}={job.name}", "--scopes=cloud-platform"]
    if job.service_account:
        words.append(f"--service-account={job.service_account}")
    if has_policy(job):
        words.append(f"--placement-policy={job.name}")
    elif machines.hosts > 1:
        words.append(f"--tpu-topology={machines.topology}")
    if job.flex_start:
        words += ["--num-nodes=0", "--enable-autoscaling", f"--max-nodes={machines.hosts}"]
        words += ["--location-policy=ANY", "--flex-start", "--reservation-affinity=none"]
        return [*words, f"--max-run-duration={job.flex_start}", "--no-enable-autorepair"]
    words.append(f"--num-nodes={machines.hosts}")
    if job.reservation:
        words += ["--reservation-affinity=specific", f"--reservation={job.reservation}"]
    return [*words, "--spot"] if job.spot else words


def require_fit(pool: Pool, job: Job) -> None:
    """Raises a LaunchError if a pool is not the job's, or not what its pods would ask for."""
    if pool.job != job.name:
        raise LaunchError(
            f"node pool {pool.name} is there and not this job's (no label {LABEL}={job.name});"
            " take another --name",
            2,
        )
    # A slice of one host has no topology of its own, and a policy tells it in the pool's place.
    is_said = pool.topology or (job.slice.hosts > 1 and not has_policy(job))
    got = {"machines": pool.machine_type, "spot": pool.spot, "flex_start": pool.flex_start}
    expected = {
        "machines": job.slice.machine_type,
        "spot": job.spot,
        "flex_start": bool(job.flex_start),
    }
    if is_said:
        got["topology"], expected["topology"] = pool.topology, job.slice.topology
    for key, value in expected.items():
        if got[key] != value:
            raise LaunchError(
                f"node pool {pool.name}: got {key} {got[key] or 'none'}, expected {value};"
                " the run's pods would wait for ever: delete it first, or take another --name",
                2,
            )
