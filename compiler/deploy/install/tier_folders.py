"""Make the folders of a plan's storage tiers, and take them away again."""

from __future__ import annotations

import os
from pathlib import Path

from compiler.deploy.accounts import find_account
from compiler.deploy.doctor.tiers import tiers_with_folder
from compiler.deploy.installation import Host
from compiler.errors import HostError
from compiler.plan import Plan

_MODE = 0o700


def make_tier_folders(host: Host, plan: Plan) -> None:
    """Make the folders that are not there, for the deployment's account alone.

    Errors: HostError where one cannot be made; what lies above it is made open to all.
    """
    for tier in tiers_with_folder(plan):
        folder = host.at(Path(tier.folder))
        if tier.shared or folder.is_dir():
            continue
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=_MODE)
            if host.is_system:
                # Not through a link that was put in its place meanwhile.
                os.chown(folder, *_owner(host, plan.user), follow_symlinks=False)
        except OSError as error:
            raise HostError(
                f"cannot make the folder {folder} of the tier {tier.kind}: {error}"
            ) from error


def tier_data(host: Host, plan: Plan) -> tuple[Path, ...]:
    """Return the folders that only this deployment writes: what `--purge` takes away."""
    account = find_account(host, plan.user) if host.is_system else (os.geteuid(), os.getegid())
    folders = (host.at(Path(tier.folder)) for tier in tiers_with_folder(plan) if not tier.shared)
    return tuple(path for path in folders if account and _is_of(path, account[0]))


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
