#!/usr/bin/env python3
"""Runs the road on Cloud TPUs: queued resources, managed instance groups, GKE.

    launch/tpu.py VERB NAME --backend qr|mig|gke [--job FILE] [--SETTING=VALUE ...] [-- ARGUMENTS]

From the root of the repository; needs Python 3.11 and gcloud, and of this project nothing that is
installed. `--dry_run` prints every command instead. `--help` lists verbs and settings;
docs/launching.md tells the rest. Exit codes: 0 done, 1 failed, 2 usage or settings, 75 try again;
of `resume`, the run's own.
"""

import argparse
import datetime
import pathlib
import re
import sys
from collections.abc import Sequence

from cloud import prices, settings
from cloud.backend import Backend, State
from cloud.commands import LaunchError, Shell, quote
from cloud.gke import Gke
from cloud.hosts import is_passing
from cloud.job import Job
from cloud.mig import Group
from cloud.queued import Queued
from cloud.remote import Remote
from cloud.watching import Watch

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def main(argv: Sequence[str]) -> int:
    """Gives one job a verb; returns the exit code."""
    try:
        command = settings.read(argv)
        if not pathlib.Path("launch/cloud/host.sh").is_file():
            raise LaunchError("launch/cloud/host.sh: not here; run it in the repository's root", 2)
        return act(command, Shell(command.flags.dry_run))
    except LaunchError as error:
        sys.stderr.write(f"launch/tpu.py: {error}\n")
        return error.code
    except KeyboardInterrupt:
        sys.stderr.write("launch/tpu.py: stopped; what runs in the cloud goes on, and costs\n")
        return 130


def act(command: settings.Command, shell: Shell) -> int:
    """Does what the operator wants."""
    verb, job, flags = command.verb, command.job, command.flags
    if verb == "local":
        return _tell_local(job, shell)
    if verb in ("check", "create", "setup", "run", "resume"):
        job.need_config()
    backend = make_backend(job, shell, flags)
    if verb in ("setup", "run", "resume"):
        job.need("accelerator_type", "config", "workdir")
    else:
        job.need("accelerator_type")
    if verb == "resume":
        return resume(backend, job, shell, flags)
    if verb == "status":
        return show_status(backend, job, shell)
    if verb == "delete":
        return delete(backend, job, shell, flags)
    if verb == "logs":
        backend.logs(follow=flags.follow, everywhere=flags.everywhere)
    else:
        getattr(backend, verb)()
    return 0


def make_backend(job: Job, shell: Shell, flags: argparse.Namespace) -> Backend:
    """Returns the way that the job gets its machines."""
    if job.backend == "gke":
        return Gke(job, shell, flags.via, flags.manifest_out)
    return (Queued if job.backend == "qr" else Group)(job, shell)


def resume(backend: Backend, job: Job, shell: Shell, flags: argparse.Namespace) -> int:
    """Brings the job to its end; then deletes the machines, or says what they cost.

    They are deleted only if the run is known to have ended: where it is not, it may be well.
    """
    if isinstance(backend, Remote):
        backend.is_resumed = True
    watch = Watch(backend, job, shell, flags.tries, flags.period, flags.stall)

    def end() -> None:
        if flags.delete_at_end and (watch.ended is not None or shell.dry_run):
            backend.delete()
            return
        if flags.delete_at_end:
            shell.say("whether the run has ended is not known: nothing is deleted")
        shell.say(f"{job.name} {prices.warn(job)}")

    try:
        code = watch.run()
        if code not in (0, 75):
            backend.logs(follow=False, everywhere=True)
    except LaunchError:  # and not Ctrl-C, after which the run goes on
        end()
        raise
    end()
    return code


def show_status(backend: Backend, job: Job, shell: Shell) -> int:
    """Says where the job stands; ends with 0 unless the run failed."""
    status = backend.status()
    if shell.dry_run:
        return 0
    code = "" if status.code is None else f" (exit code {status.code})"
    shell.say(f"{job.name}: {status.state.value}{code} {status.detail}".rstrip())
    if status.state not in (State.ABSENT, State.WAITING):
        shell.say(f"{job.name} {prices.warn(job)}")
    failed = status.code is not None and status.code != 0
    return (75 if is_passing(status.code or 0) else 1) if failed else 0


def delete(backend: Backend, job: Job, shell: Shell, flags: argparse.Namespace) -> int:
    """Deletes what was made for the job, once the operator has said yes."""
    if flags.older_than and not _is_older(backend.created(), flags.older_than, shell):
        shell.say(
            f"{job.name}: not older than {flags.older_than}, or not there; nothing is deleted"
        )
        return 0
    if not flags.yes and not shell.dry_run:
        shell.say(f"deletes {job.name} ({job.backend}) in {job.project}, {job.zone}, and all on it")
        shell.say(f"what is in {job.workdir or 'the bucket'} stays. Go on? Type the name:")
        if sys.stdin.readline().strip() != job.name:
            raise LaunchError("nothing is deleted", 2)
    if flags.unmarked and isinstance(backend, Remote):
        backend.delete(unmarked=True)
    else:
        backend.delete()
    return 0


def _is_older(created: str, limit: str, shell: Shell) -> bool:
    if not re.fullmatch("[0-9]+[mhd]", limit):
        raise LaunchError(f"--older_than {limit}: expected a time such as 90m, 12h, 7d", 2)
    if shell.dry_run:
        shell.say(f"goes on only if that was more than {limit} ago")
        return True
    if not created:
        return False
    made = datetime.datetime.fromisoformat(created)
    age = datetime.datetime.now(made.tzinfo or datetime.UTC) - made
    return age > datetime.timedelta(**{UNITS[limit[-1]]: int(limit[:-1])})


def _tell_local(job: Job, shell: Shell) -> int:
    config = job.config or "configs/quickstart.py"
    words = ["launch/local.sh", "--processes", "2", "--", "--config", config, *job.arguments]
    shell.say("on this machine the same program runs as N processes that meet on loopback:")
    shell.out.write(f"{quote(words)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
