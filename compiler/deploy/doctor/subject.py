"""What `dync doctor` and `dync install` look at: a plan, and the host that is to run it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compiler.deploy.accounts import find_account, said_by
from compiler.deploy.deployment import Manager
from compiler.deploy.installation import Host, system_host
from compiler.plan import Plan
from compiler.process import Process
from compiler.stacks.stack import Stack
from compiler.stacks.tier_specs import TierSpecs, specs_in
from compiler.write.manifest import ReadFile

HERE = system_host(Path("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A plan on a host.

    stack: None where the plan's is not of this release. folder: the bundle's, or where it would be
    built. manager: who starts the processes, and so as which account. running: those of the
    deployment that run already; what they hold is no fault. files: the bundle's as they were read
    to be installed. passed: variables that are to be kept for the processes. makes_account: whether
    an account that is not there will be made.
    """

    plan: Plan
    stack: Stack | None
    folder: Path
    host: Host = HERE
    manager: Manager = Manager.LAUNCHER
    running: tuple[Process, ...] = ()
    files: Mapping[str, ReadFile] | None = None
    passed: Mapping[str, str] = field(default_factory=dict)
    makes_account: bool = False

    @property
    def program(self) -> Path:
        """Return the stack's own program, which starts every process but a store."""
        return Path(self.plan.stack_program)

    @property
    def stack_folder(self) -> Path:
        """Return the stack's environment, PREFIX/stacks/STACK."""
        return self.program.parents[1]

    @property
    def stacks(self) -> Path:
        """Return the folder of all stacks."""
        return self.program.parents[2]

    @property
    def prefix(self) -> Path:
        """Return where stacks live (deploy.prefix)."""
        return self.program.parents[3]

    @property
    def specs(self) -> TierSpecs:
        """Return what the stack says of each kind of tier; nothing where it is not known."""
        kinds = self.stack.tier_kinds if self.stack else {}
        return specs_in(kinds, self.plan.lmcache.mode.value)

    @property
    def is_under_systemd(self) -> bool:
        """Whether units start the processes, and not the bundle's launch.sh."""
        return self.manager is Manager.SYSTEMD

    @property
    def account(self) -> str:
        """Return whose processes they are; empty for whoever runs this."""
        return self.plan.user if self.is_under_systemd and self.host.is_system else ""

    def found_program(self, process: Process, name: str) -> Path | None:
        """Return where a process's PATH has a program of the distribution; None where nowhere."""
        folders = process.env.get("PATH", "").split(":")
        places = [Path(folder) / name for folder in folders if folder.startswith("/")]
        there = (place for place in places if os.path.lexists(self.host.entry(place)))
        return next(there, None)

    @property
    def who(self) -> str:
        """Return the account as messages name it."""
        return f"the account {self.account}" if self.account else "you"

    @property
    def is_by_root(self) -> bool:
        """Whether what lies there is started by root: by the system's units, or by launch.sh."""
        return self.host.is_system and (self.is_under_systemd or os.geteuid() == 0)

    @property
    def can_ask(self) -> bool:
        """Whether this can be looked at with the account's eyes: here, and as root if need be."""
        if not self.host.is_here or not self.account:
            return self.host.is_here
        found = find_account(self.host, self.account)
        return found is not None and os.geteuid() in (0, found[0])

    def may(self, *command: str) -> bool:
        """Return whether a command succeeds as the account; true where nobody can be asked."""
        return self.said(*command) is not None

    def said(self, *command: str) -> str | None:
        """Run a command as the account; None where it fails, empty where nobody can be asked."""
        return said_by(self.account, *command) if self.can_ask else ""
