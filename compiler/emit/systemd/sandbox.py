"""What a unit may not do, as data; docs/design/sandbox.md gives the reason of each line."""

from __future__ import annotations

LIMITS = ("LimitMEMLOCK=infinity", "LimitNOFILE=1048576", "TasksMax=infinity")

# Seccomp and flags: a user's own manager can set these too.
EVERYWHERE = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "SystemCallFilter=~@clock @cpu-emulation @module @mount @obsolete @raw-io @reboot @swap",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
    "LimitCORE=0",
)

# Mounts and capabilities: only the system's manager can.
SYSTEM = (
    "CapabilityBoundingSet=",
    "ProtectSystem=full",
    "ProtectHome=read-only",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "RemoveIPC=yes",
)

# ProtectClock= also denies every device that no DeviceAllow= names, so GPUs go with it.
WITHOUT_GPU = ("PrivateDevices=yes", "ProtectClock=yes")

# Of the unit that loads the driver: root, without what loading modules and making devices needs.
DRIVERS = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=CAP_SYS_MODULE CAP_SYS_ADMIN CAP_MKNOD CAP_CHOWN CAP_FOWNER"
    " CAP_DAC_OVERRIDE",
    "LockPersonality=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX",
    "SystemCallArchitectures=native",
    "SystemCallFilter=~@clock @cpu-emulation @mount @obsolete @raw-io @reboot @swap",
    "SystemCallErrorNumber=EPERM",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "PrivateNetwork=yes",
    "PrivateTmp=yes",
    "LimitCORE=0",
)


FIRST_FREE_PORT = 1024  # net.ipv4.ip_unprivileged_port_start as Linux has it
NET_BIND = (
    "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
    "AmbientCapabilities=CAP_NET_BIND_SERVICE",
)


def sandbox(*, uses_gpu: bool, is_system: bool) -> tuple[str, ...]:
    """Return the sandbox lines of one unit."""
    if not is_system:
        return EVERYWHERE
    return (*EVERYWHERE, *SYSTEM, *(() if uses_gpu else WITHOUT_GPU))
