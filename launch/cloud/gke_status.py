"""What a JobSet and its pods say about a run.

Conditions and their reasons are those of jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2; the
waiting reasons of a container those of the kubelet (kubernetes.io/docs/concepts/containers/images).
"""

import datetime
from typing import Any

from cloud.backend import State, Status
from cloud.job import Job
from cloud.jobset import CONTAINER, MISTAKES, RESTARTS, command
from cloud.things import LABEL
from cloud.xpk import MARK

Object = dict[str, Any]

# No waiting mends these.
STUCK = ("InvalidImageName", "CreateContainerConfigError")
# The kubelet pulls again and again: a registry that is away for a moment is no mistake.
PULLING = ("ImagePullBackOff", "ErrImagePull")
PATIENCE = datetime.timedelta(minutes=15)  # of a pod, with its image
INTERRUPTED, SETTINGS = 75, 2


def is_ours(jobset: Object, name: str) -> bool:
    """Whether a JobSet was made for this job: by its label or, of xpk, by a variable."""
    labels = jobset.get("metadata", {}).get("labels") or {}
    mark = {"name": MARK, "value": name}
    said = [entry for container in _asked(jobset) for entry in container.get("env", [])]
    return labels.get(LABEL) == name or mark in said


def is_other_run(jobset: Object, job: Job) -> bool:
    """Whether a JobSet of ours has another command: of another workdir, with other arguments.

    One of xpk, which wraps the command, cannot be told from this run.
    """
    is_known = LABEL in jobset["metadata"].get("labels", {}) and job.config and job.workdir
    return bool(is_known) and any(
        container.get("command") != command(job) for container in _asked(jobset)
    )


def _asked(jobset: Object) -> list[Object]:
    jobs = jobset.get("spec", {}).get("replicatedJobs", [])
    pods = [job["template"]["spec"]["template"]["spec"] for job in jobs]
    return [container for pod in pods for container in pod["containers"]]


def is_finished(jobset: Object) -> bool:
    """Whether it will start no pod any more."""
    return bool(_conditions(jobset).keys() & {"Completed", "Failed"})


def status_of(jobset: Object, pods: list[Object], now: datetime.datetime) -> Status:
    """Says where a run stands, from its JobSet and the pods that are there."""
    conditions = _conditions(jobset)
    if "Completed" in conditions:
        return Status(State.DONE, 0)
    if "Failed" in conditions:
        return _failed(conditions["Failed"], pods)
    restarts = jobset.get("status", {}).get("restarts", 0)
    again = f"; restart {restarts} of at most {RESTARTS}" if restarts else ""
    if "Suspended" in conditions or jobset.get("spec", {}).get("suspend"):
        return Status(State.WAITING, detail=f"suspended: the queue has not let it in{again}")
    stuck = [f"{_name(pod)}: {reason}" for pod in pods if (reason := _stuck(pod, now))]
    if stuck:  # other machines would not mend it
        return Status(State.DONE, SETTINGS, f"{stuck[0]}; mend the image, then stop and run")
    if pods and all(pod["status"].get("phase") in ("Running", "Succeeded") for pod in pods):
        return Status(State.RUNNING, detail=f"{len(pods)} pods run{again}")
    why = [reason for pod in pods if (reason := _unschedulable(pod))]
    pulls = [f"{_name(pod)}: {reason}" for pod in pods if (reason := _waits(pod, PULLING))]
    waiting = f"waits for machines: {why[0]}" if why else "pods are being started"
    return Status(State.PROVISIONING, detail="; ".join([waiting, *pulls[:1]]) + again)


def _failed(condition: Object, pods: list[Object]) -> Status:
    codes = {_name(pod): code for pod in pods if (code := _exit_code(pod))}
    mistakes = {name: code for name, code in codes.items() if code in MISTAKES}
    said = f"{condition.get('reason', '')}: {condition.get('message', '')}"
    if mistakes:
        name, code = max(mistakes.items(), key=lambda pair: pair[1])
        return Status(State.DONE, code, f"exit code {code} of {name}; {said}")
    if condition.get("reason") == "ReachedMaxRestarts":
        return Status(State.DONE, INTERRUPTED, f"interrupted {RESTARTS} times and given up; {said}")
    worst = max(codes.values(), default=1)  # pods that are gone take their codes with them
    return Status(State.DONE, worst, said)


def _conditions(jobset: Object) -> dict[str, Object]:
    found = jobset.get("status", {}).get("conditions", [])
    return {entry["type"]: entry for entry in found if entry.get("status") == "True"}


def _containers(pod: Object) -> list[Object]:
    found = pod["status"].get("containerStatuses", [])
    return [entry.get("state", {}) for entry in found if entry.get("name") == CONTAINER]


def _exit_code(pod: Object) -> int:
    return max(
        (state.get("terminated", {}).get("exitCode", 0) for state in _containers(pod)), default=0
    )


def _stuck(pod: Object, now: datetime.datetime) -> str:
    began = pod["status"].get("startTime")
    is_late = began and now - datetime.datetime.fromisoformat(began) > PATIENCE
    return _waits(pod, (*STUCK, "ImagePullBackOff") if is_late else STUCK)


def _waits(pod: Object, reasons: tuple[str, ...]) -> str:
    for state in _containers(pod):
        waiting = state.get("waiting", {})
        if waiting.get("reason") in reasons:
            return f"{waiting['reason']} {waiting.get('message', '')}".strip()
    return ""


def _unschedulable(pod: Object) -> str:
    for entry in pod["status"].get("conditions", []):
        if entry.get("type") == "PodScheduled" and entry.get("status") == "False":
            return entry.get("message") or entry.get("reason", "")
    return ""


def _name(pod: Object) -> str:
    return pod["metadata"]["name"]
