"""Make the folders of a plan's storage tiers, and take them away again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from compiler.deploy.accounts import find_account
from compiler.deploy.doctor.tiers import tiers_with_folder
from compiler.deploy.installation import Host
from compiler.deploy.rooted import inside
from compiler.deploy.tier_place import make_folder, misplaced, trusted_on_the_way
from compiler.errors import HostError
from compiler.plan import Plan
from compiler.process import Tier

_MODE = 0o700


def make_tier_folders(host: Host, plan: Plan) -> None:
    """Make the folders that are not there, for the deployment's account alone.

    Errors: HostError where one cannot be made; what lies above it is made open to all.
    """
    for tier in tiers_with_folder(plan):
        if tier.shared:
            continue
        try:
            folder = _placed(host, plan, tier)
            if not folder.is_dir():
                _make(host, plan, folder)
        except OSError as error:
            raise HostError(
                f"cannot make the folder {tier.folder} of the tier {tier.kind}: {error}"
            ) from error


def _placed(host: Host, plan: Plan, tier: Tier) -> Path:
    """Return where a folder really lies: what was looked at before may lead elsewhere by now.

    Errors: HostError where that is none for a tier; OSError.
    """
    owners = trusted_on_the_way(host, plan.user) if host.is_system else ()
    wrong = misplaced(host, tier.folder, Path(plan.stack_program).parents[2], owners)
    if wrong:
        raise HostError(f"{wrong.why}: {wrong.fix}")
    return inside(host.root, Path(tier.folder))


def _make(host: Host, plan: Plan, folder: Path) -> None:
    if host.is_system:
        make_folder(host, folder, _owner(host, plan.user), _MODE)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=_MODE)


def tier_data(host: Host, plan: Plan) -> tuple[Path, ...]:
    """Return the folders that only this deployment writes: what `--purge` takes away."""
    account = find_account(host, plan.user) if host.is_system else (os.geteuid(), os.getegid())
    found = []
    for tier in tiers_with_folder(plan):
        with suppress(HostError, OSError):
            if account and not tier.shared:
                folder = _placed(host, plan, tier)
                found += [folder] if _is_of(folder, account[0]) else []
    return tuple(found)


def _is_of(folder: Path, owner: int) -> bool:
    """Return whether a folder is an account's own: what is root's was there for something else."""
    try:
        return folder.stat(follow_symlinks=False).st_uid == owner
    except OSError:
        return False


def _owner(host: Host, name: str) -> tuple[int, int]:
    found = find_account(host, name)
    assert found is not None, "a host without the account is refused before"
    return found
