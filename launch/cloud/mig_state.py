"""What a managed instance group says of its hosts.

States are those of cloud.google.com/compute/docs/reference/rest/v1/instances and
.../instanceGroupManagers.
"""

from typing import Any

from cloud.backend import State, Status

GONE = {"STOPPING", "STOPPED", "TERMINATED", "SUSPENDING", "SUSPENDED", "DEPROVISIONING"}
HOPELESS = ("QUOTA", "PERMISSION", "INVALID", "UNSUPPORTED")  # unlike a lack of machines


def names(instances: list[dict[str, Any]]) -> list[str]:
    """Returns the hosts' names in order."""
    return sorted(instance["instance"].rpartition("/")[2] for instance in instances)


def judge(instances: list[dict[str, Any]], wanted: int, *, is_over: bool = False) -> Status:
    """Returns where the machines of all groups stand; `is_over`: no more of them will come."""
    states = [instance.get("instanceStatus", "") for instance in instances]
    running, gone = states.count("RUNNING"), [state for state in states if state in GONE]
    errors = [
        f"{error.get('code', '')}: {error.get('message', '')}"
        for instance in instances
        for error in instance.get("lastAttempt", {}).get("errors", {}).get("errors", [])
    ]
    detail = f"{running} of {wanted} hosts run" + (f"; {errors[0]}" if errors else "")
    if gone:
        return Status(State.PREEMPTED, None, f"{detail}; {len(gone)} {gone[0]}")
    if is_over:
        return Status(State.PREEMPTED, None, f"{detail}; {len(instances)} left, none is being made")
    if running == wanted:
        return Status(State.READY, None, detail)
    if errors and any(sign in errors[0] for sign in HOPELESS):
        return Status(State.FAILED, None, detail)
    return Status(State.PROVISIONING if any(states) else State.WAITING, None, detail)
