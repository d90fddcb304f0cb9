"""The workload policy of a job on TPU7x: called as the job, and marked as made for it."""

from cloud import mig_form, things
from cloud.commands import LaunchError, Shell
from cloud.job import Job


def _thing(job: Job) -> things.Thing:
    policies = ["gcloud", "compute", "resource-policies"]
    place = [job.name, f"--project={job.project}", f"--region={job.region}"]
    describe, delete = [*policies, "describe", *place], [*policies, "delete", *place, "--quiet"]
    return things.Thing("workload policy", job.name, describe, delete)


def make(job: Job, shell: Shell) -> None:
    """Makes the policy unless it is there.

    Raises:
        LaunchError: it could not be made, or somebody else's has its name.
    """
    made = shell.attempt(mig_form.policy(job))
    if made.code and "already exists" not in made.err:
        raise LaunchError(f"workload policy {job.name}: {made.err.strip()}")
    if made.code:
        things.require_ours(shell, _thing(job), job.name)


def remove(job: Job, shell: Shell) -> None:
    """Deletes the policy if it is there and ours."""
    things.remove(shell, _thing(job), job.name)
