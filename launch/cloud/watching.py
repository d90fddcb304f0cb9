"""The verb resume: from whatever is there to a finished run, over preemptions, without a watcher.

Never without an end: what passes (preempted, exit code 75, ended by a signal) is tried again only
so often without a step more than before, and what does not pass (exit codes 1, 2, 3) not at all.
"""

import dataclasses
import re

from cloud.backend import Backend, State, Status
from cloud.commands import LaunchError, Shell
from cloud.hosts import AGAIN, is_passing
from cloud.job import Job

LONGEST = 900.0  # seconds between two tries
HANGING = 10  # looks at a run that has ended on some hosts and not on others
UNMADE = 1800.0  # seconds in which no machine more comes to be: some may cost, and wait for it
NO_RIGHT = re.compile("permission|denied|not authorized|forbidden|billing", re.IGNORECASE)
FOR_PEOPLE = re.compile(f"quota|{NO_RIGHT.pattern}", re.IGNORECASE)


@dataclasses.dataclass
class Watch:
    """Brings one job to its end."""

    backend: Backend
    job: Job
    shell: Shell
    tries: int = 10
    period: float = 60.0  # seconds between two looks
    stall: float = 21600.0  # seconds without a step more, after which a run is stopped; 0 is never
    ended: int | None = None  # the run's own exit code, once it is known that it runs nowhere

    def __post_init__(self):
        self._failed, self._step, self._looks = 0, -1, 0
        self._seen: tuple = ()  # what was seen last
        self._same = 0.0  # and for how many seconds
        self._is_first, self._has_asked = True, False

    def run(self) -> int:
        """Returns the run's exit code, or 75 when the tries are spent."""
        if self.shell.dry_run:
            return self._rehearse()
        while self._failed < self.tries:
            code = self._look()
            if code is not None:
                return code
        self.shell.say(f"{self.tries} tries without a step more: given up")
        return AGAIN

    def _look(self) -> int | None:
        """Does the next thing; returns the run's exit code once it has one that stays."""
        try:
            status = self._status()
            self.shell.say(f"{self.job.name}: {status.state.value} {status.detail}".rstrip())
            is_first, self._is_first = self._is_first, False
            return self._act(status, is_first)
        except LaunchError as error:
            if error.code != AGAIN:
                raise
            self._count(f"{error}")
        return None

    def _status(self) -> Status:
        """Asks; that there is no answer says nothing about the run, which may be well."""
        self.ended = None
        try:
            status = self.backend.status()
        except LaunchError as error:
            is_final = error.code == 2 or (error.code == 1 and NO_RIGHT.search(str(error)))
            raise LaunchError(str(error), error.code if is_final else AGAIN) from error
        seen = (status.state, status.step if status.state is State.RUNNING else status.detail)
        self._same = self._same + self.period if seen == self._seen else 0.0
        self._seen = seen
        return status

    def _act(self, status: Status, is_first: bool) -> int | None:
        if status.step is not None and status.step > self._step:
            self._step, self._failed = status.step, 0
        if status.state is State.DONE and is_first and status.code:
            self.backend.run()  # how it ended before is why resume was asked for
        elif status.state is State.DONE:
            return self._ended(status)
        elif status.state is State.RUNNING:
            self._attend(status)
        elif status.state is State.PROVISIONING and self._is_stuck():
            self.shell.say(f"nothing has changed for {UNMADE:g} s: deleted and asked for again")
            self._renew(status)
        elif status.state in (State.WAITING, State.PROVISIONING):
            self.shell.pause(self.period, "for the machines")
        elif status.state is State.READY:
            self.backend.setup()
            self.backend.run()
        else:
            self._renew(status)
        return None

    def _is_stuck(self) -> bool:
        # Of flex-start GKE makes no machine before it can make all, and none costs.
        is_free = self.job.backend == "gke" and self.job.flex_start
        return self._same >= UNMADE and not is_free

    def _ended(self, status: Status) -> int | None:
        code = self.ended = status.code or 0
        if not is_passing(code):
            said = "done" if code == 0 else f"it ended with exit code {code}, which stays"
            self.shell.say(f"{said}: {status.detail}")
            return code
        self._count(f"exit code {code}")
        if self._failed < self.tries:
            self.ended = None
            self.backend.run()
        return None

    def _attend(self, status: Status) -> None:
        """Waits; stops a run that hangs: ended on some hosts only, or without a step for long."""
        self._looks = self._looks + 1 if status.code is not None else 0
        is_stalled = status.step is not None and 0 < self.stall <= self._same
        if self._looks >= HANGING or is_stalled:
            self._looks, self._same = 0, 0.0
            stalled = f"no step more for {self.stall:g} s: stopped"
            partly = "it has ended on some hosts and hangs on others: stopped"
            self.shell.say(stalled if is_stalled else partly)
            self.backend.stop()
            self._count("it hung")
        else:
            self.shell.pause(self.period, "while it runs")

    def _renew(self, status: Status) -> None:
        """Deletes what was taken back, failed or is never whole, and asks again."""
        self._same = 0.0
        if status.state is State.FAILED and FOR_PEOPLE.search(status.detail):
            raise LaunchError(f"asking again would not help: {status.detail}")
        if status.state is not State.ABSENT:
            self.backend.delete()
        if self._has_asked or status.state is not State.ABSENT:
            self._count(status.state.value)
        if self._failed < self.tries:
            self._has_asked = True
            self.backend.create()

    def _count(self, why: str) -> None:
        self._failed += 1
        self.shell.say(f"{why}; try {self._failed} of {self.tries} without a step more")
        if self._failed < self.tries:
            self.shell.pause(min(LONGEST, 15.0 * 2 ** (self._failed - 1)), "before the next try")

    def _rehearse(self) -> int:
        self.shell.say("resume does what is still to be done of the following, and looks again")
        self.backend.status()
        self.backend.create()
        self.shell.pause(self.period, "again and again until the machines are there")
        self.backend.setup()
        self.backend.run()
        self.backend.status()
        self.shell.pause(self.period, "again and again while it runs")
        self.shell.say("preempted: deletes and creates the machines again, then setup and run")
        self.shell.say(
            f"exit code 75 or a signal: run again, {self.tries} times without a step more"
        )
        self.shell.say("exit code 0: done; 1, 2, 3: ends with it, as the same again would not help")
        return 0
