"""Put a generation's units where the manager finds them, and take them away again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from compiler.atomic import put_file
from compiler.deploy.install.generations import refuse_changed, switch, sync
from compiler.deploy.installation import Deployment, Refused
from compiler.emit.systemd.unit_names import PREFIX, service_units, target_unit
from compiler.plan import Plan

SAVED = ".replaced-by-dync"


def place(deployment: Deployment, number: int, old: int | None) -> None:
    """Make a generation's units those of the host; enable the target on a first installation.

    Services are links through `current`, so that one rename switches all of them. Links of new
    units come before it and those of old ones go after it: at every moment the current generation
    has all its units. The target is a file, since `systemctl enable` would pin a link's end.
    """
    host = deployment.host
    plan = deployment.plan(number)
    folder = host.at(host.units)
    folder.mkdir(parents=True, exist_ok=True)
    for unit in service_units(plan):
        _link(folder / unit, str(deployment.unit_target(unit)))
    target = target_unit(deployment.name)
    text = (deployment.folder(number) / host.units_folder / target).read_bytes()
    _put(folder / target, text)
    sync(folder)
    switch(deployment, number)
    remove_units(deployment, set(stray_units(deployment)))
    if old is None:
        enable(deployment)


def enable(deployment: Deployment) -> None:
    """Let the target start with the host: what `systemctl enable` does, also in an image."""
    target = target_unit(deployment.name)
    wants = _wants(deployment)
    wants.parent.mkdir(parents=True, exist_ok=True)
    _link(wants, str(deployment.host.units / target))
    sync(wants.parent)


def unplace(deployment: Deployment, plan: Plan) -> None:
    """Take away every unit that dync placed, and the link that enabled the target."""
    with suppress(FileNotFoundError):
        _wants(deployment).unlink()
    own = {*service_units(plan), target_unit(deployment.name)}
    remove_units(deployment, {*own, *stray_units(deployment)})


def remove_units(deployment: Deployment, units: set[str]) -> None:
    """Remove units of dync's own."""
    folder = deployment.host.at(deployment.host.units)
    for unit in units:
        with suppress(FileNotFoundError):
            (folder / unit).unlink()
    if folder.is_dir():
        sync(folder)


def stray_units(deployment: Deployment) -> Iterator[str]:
    """List links to units that the current generation does not have."""
    host = deployment.host
    number = deployment.current
    there = set(service_units(deployment.plan(number))) if number is not None else set()
    for path in host.at(host.units).glob(f"{PREFIX}*.service"):
        if path.name not in there and _links_to(path, str(deployment.unit_target(path.name))):
            yield path.name


def refuse_foreign(deployment: Deployment, plan: Plan, *, overwrite: bool) -> None:
    """Refuse to touch units that dync did not write, or that somebody changed since.

    With overwrite a foreign unit is kept beside its place, as UNIT.replaced-by-dync.
    Errors: Refused, naming each.
    """
    found = [*_foreign(deployment, plan)]
    if found and not overwrite:
        raise Refused(
            f"not written by dync, or changed since: {', '.join(map(str, found))}: move it away, "
            "or give --overwrite to have it kept as UNIT" + SAVED
        )
    for path in found:
        os.replace(path, f"{path}{SAVED}")
    number = deployment.current
    if number is not None and not overwrite:
        refuse_changed(
            deployment.folder(number),
            "take the change into the profile, or give --overwrite to leave it behind there",
        )


def _foreign(deployment: Deployment, plan: Plan) -> Iterator[Path]:
    host = deployment.host
    units, overrides = host.at(host.units), host.at(host.overrides)
    for unit in service_units(plan):
        path = units / unit
        if os.path.lexists(path) and not _links_to(path, str(deployment.unit_target(unit))):
            yield path
    target = target_unit(deployment.name)
    if os.path.lexists(units / target) and not _is_own_target(deployment, units / target):
        yield units / target
    for unit in (*service_units(plan), target):
        if os.path.lexists(overrides / unit):
            yield overrides / unit


def _is_own_target(deployment: Deployment, path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    text = path.read_bytes()
    return any(
        text == (deployment.folder(number) / deployment.host.units_folder / path.name).read_bytes()
        for number in deployment.numbers
        if (deployment.folder(number) / deployment.host.units_folder / path.name).is_file()
    )


def drop_ins(deployment: Deployment, units: Iterable[str]) -> list[Path]:
    """List the operator's own fragments, which dync never touches."""
    host = deployment.host
    return [
        path
        for folder in dict.fromkeys((host.at(host.overrides), host.at(host.units)))
        for unit in units
        for path in sorted((folder / f"{unit}.d").glob("*.conf"))
    ]


def _wants(deployment: Deployment) -> Path:
    host = deployment.host
    folder = host.overrides / f"{host.wanted_by}.wants"
    return host.at(folder) / target_unit(deployment.name)


def _link(path: Path, target: str) -> None:
    if _links_to(path, target):
        return
    fresh = path.with_name(f".{path.name}.dync-new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    os.symlink(target, fresh)
    os.replace(fresh, path)


def _links_to(path: Path, target: str) -> bool:
    try:
        return os.readlink(path) == target
    except OSError:
        return False


def _put(path: Path, content: bytes) -> None:
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return
    put_file(path, content, 0o644)
