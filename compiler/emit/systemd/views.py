"""What each unit's template is given, and for which service manager a unit is."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.bundle_paths import UNITS_FOLDER, USER_UNITS_FOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitManager:
    """Which service manager a set of units is for: the system's, or a user's own."""

    folder: str
    is_system: bool
    wanted_by: str


MANAGERS = (
    UnitManager(folder=UNITS_FOLDER, is_system=True, wanted_by="multi-user.target"),
    UnitManager(folder=USER_UNITS_FOLDER, is_system=False, wanted_by="default.target"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """The fields of service.j2; every line and word is finished."""

    header: tuple[str, ...]
    description: str
    readme: str
    target: str
    part_of: tuple[str, ...]
    wants: tuple[str, ...]
    after: tuple[str, ...]
    start_limit_s: int
    start_limit_tries: int
    identifier: str
    account: tuple[str, ...]
    folder: str
    environment: tuple[str, ...]
    environment_file: str
    credentials: tuple[str, ...]
    before: tuple[str, ...]
    command: str
    ready: str
    afterwards: tuple[str, ...]
    start_timeout_s: int
    stop_timeout_s: int
    restart_s: int
    limits: tuple[str, ...]
    sandbox: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingView:
    """The fields of serving.service.j2."""

    header: tuple[str, ...]
    description: str
    readme: str
    target: str
    processes: tuple[str, ...]
    identifier: str
    account: tuple[str, ...]
    folder: str
    credentials: tuple[str, ...]
    command: str
    start_timeout_s: int
    sandbox: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationsView:
    """The fields of registrations.service.j2."""

    header: tuple[str, ...]
    description: str
    readme: str
    target: str
    identifier: str
    account: tuple[str, ...]
    folder: str
    command: str
    limits: tuple[str, ...]
    sandbox: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriversView:
    """The fields of gpus.service.j2."""

    header: tuple[str, ...]
    description: str
    readme: str
    target: str
    identifier: str
    path: str
    commands: tuple[str, ...]
    start_timeout_s: int
    sandbox: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView:
    """The fields of target.j2."""

    header: tuple[str, ...]
    description: str
    readme: str
    serving: str
    wanted_by: str
