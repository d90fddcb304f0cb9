"""What every way to get machines can do, and in which states a job can be."""

import dataclasses
import enum
from typing import Protocol


class State(enum.Enum):
    """Where a job stands."""

    ABSENT = "absent"  # nothing of it exists
    WAITING = "waiting"  # asked for, in a queue; costs nothing yet
    PROVISIONING = "provisioning"  # machines are being made
    READY = "ready"  # machines are there, nothing runs
    RUNNING = "running"
    DONE = "done"  # the run ended; Status.code says how
    FAILED = "failed"  # the machines cannot be had as asked for, or broke
    PREEMPTED = "preempted"  # the cloud took them back


@dataclasses.dataclass(frozen=True)
class Status:
    """A state and what belongs to it.

    `code` is the run's exit code, of the worst host: with DONE, and with RUNNING where it goes on
    on some hosts only. `detail` is for people, `step` the last one that was logged.
    """

    state: State
    code: int | None = None
    detail: str = ""
    step: int | None = None


class Backend(Protocol):
    """A way to get machines; made as `Backend(job, shell)`.

    Every verb may be given again: what is there already is left and said. A failure is a
    LaunchError.
    In a dry run (`shell.dry_run`) every verb prints what it would do and waits for nothing.
    """

    def check(self) -> None:
        """Says what is missing before anything costs: tools, rights, quota, image, firewall."""

    def create(self) -> None:
        """Asks for the machines; does not wait for them (`status` does not either)."""

    def setup(self) -> None:
        """Puts the same program on all hosts; names a host that failed."""

    def run(self) -> None:
        """Starts the run, detached, on all hosts."""

    def logs(self, *, follow: bool, everywhere: bool) -> None:
        """Shows the log of host 0, or of all."""

    def status(self) -> Status:
        """Says where the job stands; asks only."""

    def ssh(self) -> None:
        """Opens a shell on host 0."""

    def stop(self) -> None:
        """Asks the run to save and end (SIGTERM, exit code 75); the machines stay, and cost."""

    def created(self) -> str:
        """Returns when the machines were asked for, as RFC 3339, or "" if there are none."""

    def delete(self) -> None:
        """Deletes all that `create` made, by name, whatever of it exists; nothing else."""
