"""Managed instance groups of Compute Engine: v5p, v6e, TPU7x and what comes after.

Docs: docs.cloud.google.com/tpu/docs/tpus-and-migs. A host's metadata tell JAX its number and its
neighbours, as on the Cloud TPU API; nothing there knows of several slices, so `run` tells them
(MEGASCALE_*).
"""

import json
from collections.abc import Sequence
from typing import Any

from cloud import checks, hosts, mig_form, mig_state, prices, things
from cloud.backend import State, Status
from cloud.commands import LaunchError
from cloud.mig_form import COMPUTE, GROUPS
from cloud.remote import STARTING, Commands, Remote
from cloud.things import Thing


class Group(Remote):
    """Group, instance template and workload policy NAME; groups NAME-0, NAME-1 ... of slices."""

    _found: dict[str, list[str]] | None = None  # names of hosts by group, at the last look

    @property
    def groups(self) -> list[str]:
        """The groups' names, one a slice."""
        name, count = self.job.name, self.job.num_slices
        return [f"{name}-{i}" for i in range(count)] if count > 1 else [name]

    def check(self) -> None:
        """Says what is missing before anything costs."""
        machine, image = self.job.slice.machine_type, mig_form.image_of(self.job)
        family = [*COMPUTE, "images", "describe-from-family", image]
        facts = {
            f"{machine} in {self.job.zone}": [
                *(*COMPUTE, "machine-types", "describe", machine, *self.google)
            ],
            f"image {image}": [*family, f"--project={mig_form.IMAGES}"],
        }
        checks.run(self.shell, self.job, service="compute.googleapis.com", facts=facts)
        flag = "--target-size-policy-mode"
        told = self.shell.capture([*GROUPS, "create", "--help"], pretend=flag)
        if flag not in told.out:
            raise LaunchError(f"gcloud does not know {flag} yet: gcloud components update", 2)

    def create(self) -> None:
        """Makes policy, template and groups, each unless it is there."""
        commands = [mig_form.template(self.job)]  # refuses before anything is made
        if self.job.slice.hosts > 1:
            commands.insert(0, mig_form.policy(self.job))
        commands += [mig_form.group(self.job, group) for group in self.groups]
        for thing, argv in zip(reversed(self._things()), commands, strict=True):
            self._make(thing, argv)
        self.shell.say(f"{self.job.name} {prices.warn(self.job)}")

    def _things(self, groups: Sequence[str] = ()) -> list[Thing]:
        """All that `create` makes (or with these groups), in the order of deletion."""
        name, project = self.job.name, f"--project={self.job.project}"
        region = [project, f"--region={self.job.region}"]

        def thing(kind: str, name: str, family: list[str], where: list[str]) -> Thing:
            delete = [*family, "delete", name, *where, "--quiet"]
            return Thing(kind, name, [*family, "describe", name, *where], delete)

        every = [thing("group", g, GROUPS, self.google) for g in reversed(groups or self.groups)]
        template = thing("template", name, [*COMPUTE, "instance-templates"], region)
        policy = thing("policy", name, [*COMPUTE, "resource-policies"], region)
        return [*every, template, *([policy] if self.job.slice.hosts > 1 else [])]

    def _make(self, thing: Thing, argv: list[str]) -> None:
        result = self.shell.attempt(argv)
        is_there = result.code != 0 and "already exists" in result.err
        if result.code and not is_there:
            raise LaunchError(
                f"could not make {thing}: {result.err.strip()}\nwhat was made so far stays:"
                " `create` again goes on, `delete` removes it"
            )
        if is_there:
            things.require_ours(self.shell, thing, self.job.name)
        self.shell.report(f"{thing}: {'exists already' if is_there else 'made'}")

    def machines(self) -> Status:
        """Reads the states of all groups' hosts."""
        found = {group: self._instances(group) for group in self.groups}
        self._found = {
            group: mig_state.names(instances or []) for group, instances in found.items()
        }
        missing = [group for group, instances in found.items() if instances is None]
        if len(missing) == len(found):
            return Status(
                State.ABSENT, None, "no group (`delete` also removes template and policy)"
            )
        if missing:
            return Status(State.FAILED, None, f"only half made: no group {', '.join(missing)}")
        fewer = [g for g, instances in found.items() if len(instances or []) < self.job.slice.hosts]
        return mig_state.judge(
            [i for group in found.values() for i in group or []],
            self.job.hosts,
            is_over=any(self._is_stable(group) for group in fewer),
        )

    def _is_stable(self, group: str) -> bool:
        """Whether the group neither makes nor deletes a host, nor is going to."""
        argv = [*GROUPS, "describe", group, *self.google, "--format=json"]
        found = things.read_json(self.shell.capture(argv), group)
        return found.get("status", {}).get("isStable", False)

    def _instances(self, group: str) -> list[dict[str, Any]] | None:
        argv = [*GROUPS, "list-instances", group, *self.google, "--format=json"]
        count = self.job.slice.hosts if self.shell.dry_run else 0
        running = [
            {"instance": f"{group}-{i:04d}", "instanceStatus": "RUNNING"} for i in range(count)
        ]
        result = self.shell.capture(argv, pretend=json.dumps(running))
        if self.shell.dry_run:
            self.shell.say(f"hosts get made-up names; here {running[0]['instance']} ...")
        if things.is_absent(result, group):
            return None
        return things.read_json(result, group)

    def created(self) -> str:
        """Returns when the youngest group was made."""
        groups = [t for t in self._things(self._all_groups()) if t.kind == "group"]
        return things.youngest(self.shell, groups, "creationTimestamp")

    def _all_groups(self) -> list[str]:
        """The job's groups, and those with its mark that came of another number of slices."""
        ours = f'--filter=description="{things.mark(self.job.name)}"'
        argv = [*GROUPS, "list", f"--project={self.job.project}", f"--zones={self.job.zone}", ours]
        found = self.shell.read([*argv, "--format=value(name)"]).split()
        return sorted({*self.groups, *found})

    @property
    def _hosts(self) -> dict[str, list[str]]:
        """The names of each group's hosts, which the cloud has made up."""
        if self._found is None:
            self.machines()
        return self._found or {}

    def copies(self, source: str, target: str) -> Commands:
        """Copies to each host with a command of its own."""
        to = [*self.google, *self._tunnel]
        names = [name for names in self._hosts.values() for name in names]
        return [[*COMPUTE, "scp", source, f"{name}:{target}", *to] for name in names]

    def on_hosts(self, line: str, *, everywhere: bool = True) -> Commands:
        """Gives each host a line with a command of its own."""
        names = [name for names in self._hosts.values() for name in names]
        return [self._ssh(name, line) for name in (names if everywhere else names[:1])]

    def starts(self, line: str) -> Commands:
        """Tells the hosts of several slices which slice is theirs and where all meet."""
        slices = list(self._hosts.values())
        if len(slices) == 1:
            return [self._ssh(name, line) for name in slices[0]]
        meet = self._meeting_place(slices[0])
        return [
            self._ssh(name, f"{line} {len(slices)} {number} {meet}")
            for number, names in enumerate(slices)
            for name in names
        ]

    def _meeting_place(self, names: list[str]) -> str:
        """The address of host 0 of slice 0, where JAX's coordinator is."""
        commands = [self._ssh(name, self.bundle.unpack("address")) for name in names]
        found = hosts.answers(self._give(commands, STARTING))
        if self.shell.dry_run:
            self.shell.say("ADDRESS: what the host said that is number 0")
            return "ADDRESS"
        first = [a.text.split()[1] for a in found if a.word == "address" and a.text[:2] == "0 "]
        if len(first) != 1:
            raise LaunchError(f"slice 0: got {len(first)} hosts that are number 0, expected one")
        return first[0]

    def _ssh(self, name: str, line: str) -> list[str]:
        return [*COMPUTE, "ssh", name, *self.google, *self._tunnel, f"--command={line}"]

    @property
    def _tunnel(self) -> list[str]:
        return ["--tunnel-through-iap"] if self.job.internal_ips else []

    def ssh(self) -> None:
        """Opens a shell on the first host."""
        names = self._hosts[self.groups[0]]
        if not names:
            raise LaunchError(f"{self.groups[0]}: no host yet", 75)
        self.shell.follow([*COMPUTE, "ssh", names[0], *self.google, *self._tunnel])

    def delete(self, *, unmarked: bool = False) -> None:
        """Deletes groups with their hosts and disks, then template and policy."""
        try:
            groups = self._all_groups()
        except LaunchError as error:  # those whose names are known are deleted all the same
            self.remove(self._things(), unmarked=unmarked, trouble=[error])
        else:
            self.remove(self._things(groups), unmarked=unmarked)
