"""Where an installed deployment lives on a host, for the system's manager or a user's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compiler.bundle_paths import PLAN, UNITS_FOLDER, USER_UNITS_FOLDER
from compiler.deploy.rooted import inside
from compiler.emit.systemd.unit_names import service_units
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.write.plan_reader import NotAPlan, plan_from_json
from compiler.write.safe_read import read_file
from compiler.write.strict_json import MOST_BYTES

_GENERATION = re.compile(r"generations/([1-9][0-9]*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The folders of one manager; each is given as the manager sees it, below root."""

    root: Path
    is_system: bool
    config: Path
    units: Path
    overrides: Path
    state: Path
    cache: Path

    def at(self, path: Path) -> Path:
        """Return where a path of the host lies on this machine; an image's links stay in it.

        Errors: HostError where they lead in a circle.
        """
        if self.is_here:
            return path
        try:
            return inside(self.root, path)
        except OSError as error:
            raise HostError(f"{self.root} has no {path}: {error.strerror}") from error

    def entry(self, path: Path) -> Path:
        """Return where a path's own entry lies: of a link, the link itself."""
        return self.at(path.parent) / path.name

    @property
    def is_here(self) -> bool:
        """Whether it is this machine, and no image that is being built."""
        return self.root == Path("/")

    @property
    def units_folder(self) -> str:
        """Return the folder of a bundle that has this manager's units."""
        return UNITS_FOLDER if self.is_system else USER_UNITS_FOLDER

    @property
    def wanted_by(self) -> str:
        """Return the target of a boot, or of a user's first login."""
        return "multi-user.target" if self.is_system else "default.target"


def system_host(root: Path) -> Host:
    """Return the system's manager, of this machine or of an image below root."""
    return Host(
        root=root,
        is_system=True,
        config=Path("/etc/dync"),
        units=Path("/usr/local/lib/systemd/system"),
        overrides=Path("/etc/systemd/system"),
        state=Path("/var/lib/dync"),
        cache=Path("/var/cache/dync"),
    )


def user_host(environment: Mapping[str, str]) -> Host:
    """Return the manager of the user whose environment this is.

    Source: systemd 252, systemd.unit(5), UNIT FILE LOAD PATH, user units.
    """
    home = Path(environment.get("HOME") or os.path.expanduser("~"))
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return Host(
        root=Path("/"),
        is_system=False,
        config=config / "dync",
        units=data / "systemd" / "user",
        overrides=config / "systemd" / "user",
        state=cache / "dync",
        cache=cache / "dync",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One installed name on a host: numbered generations, and a link to the one that counts."""

    host: Host
    name: str

    @property
    def home(self) -> Path:
        """Return the deployment's folder on this machine."""
        return self._below()

    @property
    def link(self) -> Path:
        """Return the link that names the current generation."""
        return self.home / "current"

    @property
    def numbers(self) -> list[int]:
        """List the generations that are there."""
        try:
            names = os.listdir(self._below("generations"))
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]*", name))

    @property
    def current(self) -> int | None:
        """Return the current generation's number, or None where nothing is installed."""
        return _number(self.link)

    @property
    def previous(self) -> int | None:
        """Return the generation that was current before, or else the newest older one."""
        number, current = _number(self.home / "previous"), self.current or 0
        if number in self.numbers and number != current:
            return number
        return max((older for older in self.numbers if older < current), default=None)

    def folder(self, number: int) -> Path:
        """Return a generation's folder on this machine."""
        return self._below("generations", str(number))

    def proof(self, number: int) -> Path:
        """Return where the result of a generation's proof is kept."""
        return self._below("proofs") / f"{number}.json"

    @property
    def folders(self) -> tuple[Path, Path]:
        """Return the folders of the generations, and of their proofs."""
        return self._below("generations"), self._below("proofs")

    def plan(self, number: int) -> Plan:
        """Read a generation's plan.

        Errors: HostError where it cannot be read.
        """
        return read_plan(self.folder(number))

    def _below(self, *steps: str) -> Path:
        return self.host.at(self.host.config.joinpath(self.name, *steps))

    def services(self, plan: Plan) -> tuple[str, ...]:
        """Return the services that this host's manager has of a plan, in a start order."""
        return service_units(plan, is_system=self.host.is_system)

    def unit_target(self, unit: str) -> Path:
        """Return what the link of a unit names, as the manager sees it."""
        return self.host.config / self.name / "current" / self.host.units_folder / unit


def _number(link: Path) -> int | None:
    try:
        found = _GENERATION.match(os.readlink(link))
    except OSError:  # not there, or no link
        return None
    return int(found[1]) if found else None


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle, and not the name of something installed."""
    try:
        return (folder / PLAN).is_file()
    except OSError:  # not to be looked into: whoever reads it says why
        return True


def read_plan(bundle: Path) -> Plan:
    """Read the plan of a bundle.

    Errors: HostError where the folder is no bundle of this version's.
    """
    try:
        return plan_from_json(read_file(bundle / PLAN, MOST_BYTES))
    except OSError as error:
        reason = error.strerror or str(error)
        raise HostError(
            f"{bundle} is no bundle: plan.json: {reason}; dync build makes one"
        ) from None
    except NotAPlan as error:
        raise HostError(
            f"{bundle}/plan.json is no plan that dync wrote: {error}; make it again with dync build"
        ) from None


def installed_names(host: Host) -> Iterable[str]:
    """List what is installed on a host."""
    folder = host.at(host.config)
    return sorted(
        path.name for path in folder.glob("*") if Installation(host=host, name=path.name).current
    )
