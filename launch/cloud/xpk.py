"""The same run through xpk (github.com/AI-Hypercomputer/xpk, 1.13), for clusters kept with it.

xpk makes a JobSet of its own with the job's name, and needs the queues that `xpk cluster create` or
`xpk cluster adapt` sets up; status and logs are then asked of Kubernetes as for ours.
"""

import shlex

from cloud.job import Job
from cloud.jobset import CONTAINER, ENVIRONMENT, GRACE_SECONDS, RESTARTS

# xpk gives its JobSets no label of ours: this variable says whose it is.
MARK = "REJEPA_JOB"


def create(job: Job, image: str) -> list[str]:
    """Returns the command that starts the run.

    xpk restarts after 42 and 127 to 255 by itself; 75 has to be added, all others fail the run.
    """
    env = ENVIRONMENT | job.env | {MARK: job.name}
    return [
        *("xpk", "workload", "create", *_where(job)),
        f"--tpu-type={job.accelerator_type.rpartition('-')[0]}-{job.slice.topology}",
        f"--num-slices={job.num_slices}",
        *(f"--docker-image={image}", f"--docker-name={CONTAINER}"),
        *(f"--max-restarts={RESTARTS}", "--restart-on-exit-codes=75"),
        f"--termination-grace-period-seconds={GRACE_SECONDS}",
        *(f"--env={key}={value}" for key, value in sorted(env.items())),
        f"--command={shlex.join(job.command)}",
    ]


def delete(job: Job) -> list[str]:
    """Returns the command that ends the run and takes its JobSet away."""
    return ["xpk", "workload", "delete", *_where(job), "--force"]


def _where(job: Job) -> list[str]:
    return [
        *(f"--workload={job.name}", f"--cluster={job.cluster}"),
        *(f"--project={job.project}", f"--zone={job.zone}"),
    ]
