"""What the backends share whose hosts are reached over SSH: setup, run, logs, status, stop."""

import abc
import concurrent.futures
from collections.abc import Sequence

from cloud import hosts, prices, things
from cloud.backend import State, Status
from cloud.bundle import Bundle
from cloud.commands import LaunchError, Result, Shell
from cloud.job import Job
from cloud.things import Thing

AT_ONCE = 16  # commands; each is a process of gcloud's here
INSTALLING, STARTING, STOPPING = 3600, 600, 900  # seconds
Commands = Sequence[list[str]]


class Remote(abc.ABC):
    """Gives every host of a job the same verb of host.sh, and reads what each says."""

    is_resumed = False  # a run keeps the wheel of last time, and its end counts only if it is ours

    def __init__(self, job: Job, shell: Shell):
        self.job, self.shell = job, shell
        self.bundle = Bundle(job, shell)
        self.google = [f"--project={job.project}", f"--zone={job.zone}"]

    @abc.abstractmethod
    def machines(self) -> Status:
        """Says where the machines stand; READY when all hosts can be reached."""

    @abc.abstractmethod
    def copies(self, source: str, target: str) -> Commands:
        """Returns the commands that copy a file to all hosts."""

    @abc.abstractmethod
    def on_hosts(self, line: str, *, everywhere: bool = True) -> Commands:
        """Returns the commands that give all hosts, or the first, a line for their shell."""

    @abc.abstractmethod
    def delete(self, *, unmarked: bool = False) -> None:
        """Deletes what was made; `unmarked`: also what carries the name and no mark of ours."""

    def starts(self, line: str) -> Commands:
        """Returns the commands that start the run, where they differ from host to host."""
        return self.on_hosts(line)

    def setup(self) -> None:
        """Makes the bundle and installs it on all hosts."""
        self._require_machines()
        if not (self.is_resumed and self.bundle.exists()):
            self.bundle.make()
        self._send()
        self._expect("ready", self._give(self.on_hosts(self.bundle.unpack("setup")), INSTALLING))

    def run(self) -> None:
        """Sends the command and starts it on all hosts, or on none."""
        if self.is_resumed and not self.shell.dry_run and not self.bundle.exists():
            self.shell.say("no wheel of this run here: `setup` takes the one of now")
            self.setup()
        self._require_machines()
        self._send()
        results = self._give(self.starts(self.bundle.unpack("run")), STARTING)
        try:
            self._expect("running", results)
        except LaunchError:
            if not any("already" in answer.text for answer in hosts.answers(results)):
                self._give(self.on_hosts(self.bundle.line("stop")), STOPPING)
            raise
        self.shell.say(f"{self.job.name} {prices.warn(self.job)}")

    def status(self) -> Status:
        """Asks for the machines, then the hosts."""
        machines = self.machines()
        if machines.state is not State.READY:
            return machines
        results = self._give(self.on_hosts(self.bundle.state_line()), STARTING)
        if self.shell.dry_run:
            return machines
        found = hosts.answers(results)
        status = hosts.judge(found, self.job.hosts)
        if not self.is_resumed:
            return status
        return hosts.without_others(status, found, self.bundle.task())

    def logs(self, *, follow: bool, everywhere: bool) -> None:
        """Shows logs; of several hosts each line says whose it is."""
        verb = ("follow all" if everywhere else "follow") if follow else "log 40"
        commands = self.on_hosts(self.bundle.line(verb), everywhere=everywhere)
        self.shell.follow(*commands)

    def stop(self) -> None:
        """Asks all hosts to stop the run, and waits for it."""
        results = self._give(self.on_hosts(self.bundle.line("stop")), STOPPING)
        if not self.shell.dry_run:
            status = hosts.judge(hosts.answers(results), self.job.hosts)
            self.shell.say(f"{status.state.value} {status.detail}")
        self.shell.say(f"the machines of {self.job.name} stay; it {prices.warn(self.job)}")

    def _send(self) -> None:
        self.bundle.pack()
        copies = self.copies(self.bundle.tar, self.bundle.sent)
        for argv, result in zip(copies, self._give(copies, STARTING), strict=True):
            if result.code:
                said = (result.err or result.out).strip()
                raise LaunchError(f"could not copy to all hosts: {' '.join(argv)}\n{said}", 75)

    def _expect(self, word: str, results: Sequence[Result]) -> None:
        """Says how it went on each host, and raises a LaunchError unless all say the word."""
        if self.shell.dry_run:
            self.shell.say(f"waits until {self.job.hosts} hosts say: rejepa HOST {word} bundle ...")
            return
        found = hosts.answers(results)
        for answer in found:
            self.shell.say(f"{answer.host}: {answer.word} {answer.text}")
        hosts.require(found, self.job.hosts, word, results, self.bundle.digest())

    def remove(
        self, every: Sequence[Thing], *, unmarked: bool, trouble: Sequence[LaunchError] = ()
    ) -> None:
        """Tries to delete all of these; raises a LaunchError that names each that may be left."""
        trouble = list(trouble)
        for thing in every:
            try:
                things.remove(self.shell, thing, self.job.name, unmarked=unmarked)
            except LaunchError as error:
                self.shell.say(f"{error}")
                trouble.append(error)
        if trouble:
            said = "\n".join(map(str, trouble))
            code = 75 if all(error.code == 75 for error in trouble) else 1
            raise LaunchError(f"not all is deleted:\n{said}\nit {prices.warn(self.job)}", code)

    def _give(self, commands: Commands, timeout: float) -> list[Result]:
        def attempt(argv: list[str]) -> Result:
            return self.shell.attempt(argv, timeout=timeout)

        if self.shell.dry_run or len(commands) == 1:
            return [attempt(argv) for argv in commands]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(attempt, commands))

    def _require_machines(self) -> None:
        machines = self.machines()
        if self.shell.dry_run:
            self.shell.say("goes on only when that says that all hosts are there")
        if machines.state is not State.READY:
            raise LaunchError(
                f"{self.job.name}: the machines are {machines.state.value} ({machines.detail}),"
                " expected ready; give this verb again later, or `resume`, which waits",
                75 if machines.state in (State.WAITING, State.PROVISIONING) else 1,
            )
