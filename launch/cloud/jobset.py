"""The JobSet of a job: one Job a slice, one pod a host, all or none of them running.

Fields are those of jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2 (v0.8 or newer), of Job and
Pod in Kubernetes, and of cloud.google.com/kubernetes-engine/docs/how-to/tpu-multislice. GKE itself
tells every pod which host of which slice it is (TPU_WORKER_ID, TPU_WORKER_HOSTNAMES, MEGASCALE_*),
and `jax.distributed` reads that. JSON is YAML too, and needs no library.
"""

import json
from typing import Any

from cloud.job import Job
from cloud.things import LABEL

CONTAINER = "rejepa"
REPLICATED_JOB = "slice"
RESTARTS = 20  # as launch/local.sh: what is interrupted more often has another fault
# Between SIGTERM and SIGKILL: long enough to end a step and to save in the bucket. A spot machine
# that is taken back waits 15 s at most, whatever stands here.
GRACE_SECONDS = 300
MISTAKES = [1, 2, 3]  # training failed, settings, data: the same again would end the same way
COORDINATOR_PORT = 8482  # JAX's on a TPU, unless the job names one
# What the TPU hosts of a slice, and of several slices, talk through.
TPU_PORTS = (8471, 8080)
# No silent training on processors where the chips do not answer.
ENVIRONMENT = {"JAX_PLATFORMS": "tpu,cpu", "PYTHONUNBUFFERED": "1"}
NODE_POOL = "cloud.google.com/gke-nodepool"

Fields = dict[str, Any]


def to_json(manifest: Fields) -> str:
    """Writes a manifest as `kubectl apply` takes it."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def manifest(job: Job, image: str) -> Fields:
    """Returns the JobSet that runs `job` from `image`."""
    labels = {"app.kubernetes.io/name": "rejepa-jax", LABEL: job.name}
    queue = {"kueue.x-k8s.io/queue-name": job.queue} if job.queue else {}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "namespace": job.namespace,
            "labels": labels | queue,
            # A slice is a node pool: no two of our Jobs share one.
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": NODE_POOL},
        },
        "spec": {
            "failurePolicy": _failure_policy(),
            "replicatedJobs": [
                {
                    "name": REPLICATED_JOB,
                    "replicas": job.num_slices,
                    "template": {"spec": _slice_job(job, image, labels)},
                }
            ],
        },
    }


def command(job: Job) -> list[str]:
    """Returns the run's command as Kubernetes takes and keeps it."""
    return [_literal(word) for word in job.command]


def _failure_policy() -> Fields:
    # A Job that fails for any other reason, its default says, restarts all of them.
    return {
        "maxRestarts": RESTARTS,
        "restartStrategy": "BlockingRecreate",  # no pod of the last try beside one of the next
        "rules": [
            {
                "name": "mistake",
                "action": "FailJobSet",
                "onJobFailureReasons": ["PodFailurePolicy"],
            }
        ],
    }


def _slice_job(job: Job, image: str, labels: Fields) -> Fields:
    return {
        "completions": job.slice.hosts,
        "parallelism": job.slice.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one pod alone is never begun again: its peers wait in a collective
        "podFailurePolicy": {
            "rules": [
                # The first that fits decides. A pod that is evicted is no mistake, however it ends.
                {
                    "action": "Count",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": MISTAKES,
                    },
                },
            ]
        },
        "template": {"metadata": {"labels": labels}, "spec": _pod(job, image)},
    }


def _pod(job: Job, image: str) -> Fields:
    # Slices talk through their hosts' own network, at the data center's full rate.
    network = (
        {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"} if job.is_distributed else {}
    )
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        # Else the program would be process 1, which SIGTERM does not end before it handles it.
        "shareProcessNamespace": True,
        **network,
        "nodeSelector": _node_selector(job),
        "tolerations": [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [_container(job, image)],
    }


def _node_selector(job: Job) -> dict[str, str]:
    return {
        "cloud.google.com/gke-tpu-accelerator": job.slice.generation.gke_accelerator,
        "cloud.google.com/gke-tpu-topology": job.slice.topology,
        **({"cloud.google.com/gke-spot": "true"} if job.spot else {}),
        **({"cloud.google.com/gke-flex-start": "true"} if job.flex_start else {}),
    }


def _container(job: Job, image: str) -> Fields:
    env = ENVIRONMENT | job.env
    ports = (*TPU_PORTS, job.coordinator_port or COORDINATOR_PORT)
    chips = str(job.slice.chips_per_host)
    return {
        "name": CONTAINER,
        "image": image,
        "command": command(job),
        "env": [{"name": key, "value": _literal(value)} for key, value in sorted(env.items())],
        "ports": [{"containerPort": port} for port in sorted(set(ports))],
        "resources": {"requests": {"google.com/tpu": chips}, "limits": {"google.com/tpu": chips}},
        "securityContext": {"privileged": True},  # to lock the memory that the chips read
    }


def _literal(text: str) -> str:
    """Keeps Kubernetes from putting a variable's value in the place of `$(NAME)`."""
    return text.replace("$", "$$")
