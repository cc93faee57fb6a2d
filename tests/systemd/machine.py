"""A machine that really runs systemd: namespaces over a copy-on-write view of this one.

It has its own processes, mounts, cgroups, accounts and journal, and this one's network.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOOT = Path(__file__).with_name("boot.sh")
UNIT_PATH = (
    "/etc/systemd/system:/run/systemd/system:/usr/local/lib/systemd/system:/usr/lib/dync-test-units"
)
UNSHARE = (
    *("unshare", "--fork", "--kill-child"),
    *("--pid", "--mount", "--cgroup", "--uts", "--ipc"),
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """One machine; `places` are folders of this one and where they appear there."""

    def __init__(self, places: dict[Path, str] | None = None) -> None:
        # A tmpfs can be the upper layer of an overlay also where a container's root cannot.
        self.state = Path(tempfile.mkdtemp(prefix="dync-machine-", dir="/dev/shm"))
        # The machine's /tmp is its own: a checkout below this one's must be shown there.
        self.places = {ROOT: str(ROOT), **(places or {})}
        self._boot: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start systemd and wait until it answers."""
        words = [word for source, place in self.places.items() for word in (str(source), place)]
        with open(self.state / "console", "ab") as console:
            self._boot = subprocess.Popen(
                [*UNSHARE, "bash", str(BOOT), str(self.state), *words],
                env={"PATH": PATH, "UNIT_PATH": UNIT_PATH},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        give_up = time.monotonic() + 30
        while self.try_run("systemctl", "show", "-p", "Version").returncode:
            said = (self.state / "console").read_text()
            assert self._boot.poll() is None, said
            assert time.monotonic() < give_up, said
            time.sleep(0.05)

    def cut_power(self) -> None:
        """End every process of the machine at once."""
        if self._boot is not None:
            self._boot.send_signal(signal.SIGKILL)
            self._boot.wait()
            self._boot = None

    def discard(self) -> None:
        """End the machine and what it wrote."""
        self.cut_power()
        shutil.rmtree(self.state, ignore_errors=True)

    @property
    def init(self) -> int:
        """Return the pid that the machine's systemd has here."""
        assert self._boot is not None
        pid = self._boot.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])

    def try_run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command there as root, with only the environment given."""
        try:
            enter = ["nsenter", "-t", str(self.init), "-m", "-p", "-C", "-u", "-i", "-r", "-w"]
        except (IndexError, OSError):
            return subprocess.CompletedProcess(command, 1, "", "it is not up")
        return subprocess.run(
            [*enter, *command],
            env={"PATH": PATH, "SYSTEMD_UNIT_PATH": UNIT_PATH, "LANG": "C.UTF-8", **environment},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def run(self, *command: str, **environment: str) -> str:
        """Run a command that must succeed there; return what it printed."""
        done = self.try_run(*command, **environment)
        if done.returncode:
            said = self.try_run("journalctl", "--no-pager", "-n", "60", "-o", "cat").stdout
            raise AssertionError(
                f"{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{said}"
            )
        return done.stdout

    def at(self, path: str) -> Path:
        """Return where a path of the machine can be read and written from here."""
        return Path(f"/proc/{self.init}/root{path}")


def can_boot() -> bool:
    """Return whether this account may make namespaces, and systemd is there."""
    return os.geteuid() == 0 and Path("/lib/systemd/systemd").exists()
