"""Folders of the system, as data: no cache has its files there, and no account is given one.

Root's programs, settings and records lie there. A folder of them that is an ordinary account's lets
it change what root then reads or runs: a drop-in of a unit, a module of Python, a key of SSH.

Source: Filesystem Hierarchy Standard 3.0, 3 and 5; systemd 252, file-hierarchy(7),
systemd-sysext(8) of /var/lib/extensions, systemd-nspawn(1) of /var/lib/machines.
"""

from __future__ import annotations

import posixpath

SYSTEM = (
    *("/bin", "/boot", "/dev", "/efi", "/etc", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/lost+found", "/proc", "/root", "/run", "/sbin", "/snap", "/sys", "/usr"),
    *("/var/account", "/var/backups", "/var/crash", "/var/db", "/var/empty", "/var/lock"),
    *("/var/log", "/var/mail", "/var/run", "/var/spool", "/var/yp"),
    *("/var/cache/apt", "/var/cache/debconf", "/var/cache/dnf", "/var/cache/ldconfig"),
    *("/var/cache/man", "/var/cache/private", "/var/cache/yum"),
    *("/var/lib/AccountsService", "/var/lib/NetworkManager", "/var/lib/alternatives"),
    *("/var/lib/apt", "/var/lib/cloud", "/var/lib/confexts", "/var/lib/containerd"),
    *("/var/lib/containers", "/var/lib/dbus", "/var/lib/dkms", "/var/lib/docker"),
    *("/var/lib/dpkg", "/var/lib/extensions", "/var/lib/flatpak", "/var/lib/kubelet"),
    *("/var/lib/libvirt", "/var/lib/machines", "/var/lib/pacman", "/var/lib/pam"),
    *("/var/lib/polkit-1", "/var/lib/portables", "/var/lib/private", "/var/lib/rpm"),
    *("/var/lib/selinux", "/var/lib/snapd", "/var/lib/sudo", "/var/lib/systemd"),
    *("/var/lib/ucf",),
)
"""Neither one of these, nor what lies in it, nor what holds it."""
OPEN = ("/dev/shm", "/run/media", "/run/user")
"""What lies in these is no part of the system, though they lie in its folders."""
SHARED = (
    *OPEN,
    *("/home", "/opt", "/tmp", "/var/cache/dync", "/var/lib/dync", "/var/local", "/var/opt"),
    *("/var/tmp",),
)
"""These themselves are everybody's; what lies in them is not."""


def system_folder(path: str) -> str:
    """Return the folder of the system that a path names, lies in or holds; empty for none."""
    folder = plain(path)
    if folder in SHARED:
        return folder
    if any(is_within(folder, there) for there in OPEN):
        return ""
    found = (there for there in SYSTEM if is_within(folder, there) or is_within(there, folder))
    return next(found, "")


def plain(path: str) -> str:
    """Return an absolute path without empty steps, `.` and `..`."""
    return "/" + posixpath.normpath(path).strip("/")


def is_within(folder: str, other: str) -> bool:
    """Return whether a folder is another one, or lies in it."""
    return f"{folder}/".startswith(f"{other.rstrip('/')}/")
