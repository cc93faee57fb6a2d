"""Put a generation's units where the manager finds them, and take them away again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from compiler.deploy.install.generations import refuse_changed_generation, switch
from compiler.deploy.installation import Installation
from compiler.emit.systemd.unit_names import PREFIX, target_unit
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.write.atomic import UNFINISHED, put_file, put_link, sync_folder
from compiler.write.safe_read import read_file

SAVED = ".replaced-by-dync"


def link_units(installation: Installation, number: int, old: int | None) -> None:
    """Make a generation's units those of the host; enable the target on a first installation.

    Services are links through `current`, so that one rename switches all of them. Links of new
    units come before it and those of old ones go after it: at every moment the current generation
    has all its units. The target is a file, since `systemctl enable` would pin a link's end.
    """
    host = installation.host
    plan = installation.plan(number)
    folder = host.at(host.units)
    folder.mkdir(parents=True, exist_ok=True)
    for unit in _units_of(installation, number, plan):
        _link(folder / unit, str(installation.unit_target(unit)))
    target = target_unit(installation.name)
    _put(folder / target, read_file(installation.folder(number) / host.units_folder / target))
    sync_folder(folder)
    if old is None:  # before it is current: killed in between, the next one is no first any more
        enable(installation)
    switch(installation, number)
    remove_units(installation, set(stray_units(installation)))


def _units_of(installation: Installation, number: int, plan: Plan) -> Iterator[str]:
    """List the services of a plan that a generation has; one of an older dync lacks the newest."""
    folder = installation.folder(number) / installation.host.units_folder
    yield from (unit for unit in installation.services(plan) if (folder / unit).is_file())


def enable(installation: Installation) -> None:
    """Let the target start with the host: what `systemctl enable` does, also in an image."""
    target = target_unit(installation.name)
    wants = _wants(installation)
    wants.parent.mkdir(parents=True, exist_ok=True)
    _link(wants, str(installation.host.units / target))
    sync_folder(wants.parent)


def unlink_units(installation: Installation, plan: Plan) -> None:
    """Take away every unit that dync placed, and the link that enabled the target."""
    with suppress(FileNotFoundError):
        _wants(installation).unlink()
    own = {*installation.services(plan), target_unit(installation.name)}
    remove_units(installation, {*own, *stray_units(installation)})


def remove_units(installation: Installation, units: set[str]) -> None:
    """Remove units of dync's own."""
    folder = installation.host.at(installation.host.units)
    for unit in units:
        with suppress(FileNotFoundError):
            (folder / unit).unlink()
    if folder.is_dir():
        sync_folder(folder)


def stray_units(installation: Installation) -> Iterator[str]:
    """List links to units that the current generation does not have, and those left half-made."""
    host = installation.host
    number = installation.current
    there: set[str] = set()
    if number is not None:
        there |= {*_units_of(installation, number, installation.plan(number))}
    for path in host.at(host.units).glob(f"{PREFIX}*.service"):
        if path.name not in there and _links_to(path, str(installation.unit_target(path.name))):
            yield path.name
    for path in host.at(host.units).glob(f".{PREFIX}*.service{UNFINISHED}"):
        unit = path.name[1 : -len(UNFINISHED)]
        if _links_to(path, str(installation.unit_target(unit))):
            yield path.name
    half_target = f".{target_unit(installation.name)}{UNFINISHED}"
    if os.path.lexists(host.at(host.units) / half_target):
        yield half_target


def refuse_foreign(installation: Installation, plan: Plan, *, overwrite: bool) -> None:
    """Refuse to touch units that dync did not write, or that somebody changed since.

    With overwrite a foreign unit is kept beside its place, as UNIT.replaced-by-dync.
    Errors: HostError, naming each.
    """
    found = [*_foreign(installation, plan)]
    if found and not overwrite:
        raise HostError(
            f"not written by dync, or changed since: {', '.join(map(str, found))}: move it away, "
            "or give --overwrite to have it kept as UNIT" + SAVED
        )
    for path in found:
        os.replace(path, f"{path}{SAVED}")
    number = installation.current
    if number is not None and not overwrite:
        refuse_changed_generation(
            installation.folder(number),
            "take the change into the profile, or give --overwrite to leave it behind there",
        )


def _foreign(installation: Installation, plan: Plan) -> Iterator[Path]:
    host = installation.host
    units, overrides = host.at(host.units), host.at(host.overrides)
    for unit in installation.services(plan):
        path = units / unit
        if os.path.lexists(path) and not _links_to(path, str(installation.unit_target(unit))):
            yield path
    target = target_unit(installation.name)
    if os.path.lexists(units / target) and not _is_own_target(installation, units / target):
        yield units / target
    for unit in (*installation.services(plan), target):
        if os.path.lexists(overrides / unit):
            yield overrides / unit


def _is_own_target(installation: Installation, path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    text = path.read_bytes()
    return any(
        text
        == (installation.folder(number) / installation.host.units_folder / path.name).read_bytes()
        for number in installation.numbers
        if (installation.folder(number) / installation.host.units_folder / path.name).is_file()
    )


def drop_ins(installation: Installation, units: Iterable[str]) -> list[Path]:
    """List the operator's own fragments, which dync never touches."""
    host = installation.host
    return [
        path
        for folder in dict.fromkeys((host.at(host.overrides), host.at(host.units)))
        for unit in units
        for path in sorted((folder / f"{unit}.d").glob("*.conf"))
    ]


def _wants(installation: Installation) -> Path:
    host = installation.host
    folder = host.overrides / f"{host.wanted_by}.wants"
    return host.at(folder) / target_unit(installation.name)


def _link(path: Path, target: str) -> None:
    if not _links_to(path, target):
        put_link(path, target)


def _links_to(path: Path, target: str) -> bool:
    try:
        return os.readlink(path) == target
    except OSError:
        return False


def _put(path: Path, content: bytes) -> None:
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return
    put_file(path, content, 0o644)
