"""Read how far a launch is from the lines that launch.sh prints."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from compiler.deploy.launch.lock import is_alive
from compiler.plan import Plan
from compiler.process import ProcessName, WithoutLmcache


class Stage(str, Enum):
    """What a process of a launch does."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"
    STOPPED = "stopped"
    LEFT_OUT = "left out"


@dataclass(slots=True, kw_only=True)
class ProcessProgress:
    """One process; began is of the caller's clock, took the launcher's own words."""

    name: ProcessName
    kind: str
    stage: Stage = Stage.WAITING
    pid: int | None = None
    began_s: float = 0.0
    took: str = ""


# What templates/lib/dync.sh says; a line that matches none of these is for the reader as it is.
_STARTED = re.compile(r"dync: (\S+) started \(pid (\d+), log \S+\)\Z")
_READY = re.compile(r"dync: (\S+) ready after ([\d.]+ s)\Z")
_SERVES = re.compile(r"dync: (\S+) serves at (\S+) after ([\d.]+ s)\Z")
PROVE_HINT = re.compile(r"dync: to prove that ")
_STOPPING = re.compile(r"dync: SIG\w+: stopping \(once more to kill at once\)\Z")
_STOPPED = re.compile(r"dync: stopped\Z")
_ENDED = re.compile(
    r"dync: error: (\S+) (?:ended with status|is not ready after|cannot become ready)"
)
_SWITCHED = re.compile(r"dync: (\w+)=\S+ replaces the built ")
_WITHOUT = "ENABLE_LMCACHE"


@dataclass(slots=True, kw_only=True)
class Progress:
    """A whole launch; serves_after is empty until it serves.

    proof: what is known of whether it does what it was built for; a switch that replaced what was
    built stands in `switched`.
    """

    name: str
    url: str
    processes: dict[ProcessName, ProcessProgress]
    left_out_without_lmcache: tuple[ProcessName, ...]
    serves_after: str = ""
    proof: str = ""
    is_proving: bool = False
    is_refuted: bool = False
    switched: set[str] = field(default_factory=set)
    is_stopping: bool = False
    is_over: bool = False

    @staticmethod
    def of(plan: Plan) -> Progress:
        """Return a launch that has not begun."""
        return Progress(
            name=plan.name,
            url=plan.url,
            processes={
                process.name: ProcessProgress(
                    name=process.name,
                    kind=(process.role or process.kind).value.replace("_", " "),
                )
                for process in plan.processes
            },
            left_out_without_lmcache=tuple(
                process.name
                for process in plan.processes
                if process.without_lmcache is WithoutLmcache.NOT_STARTED
            ),
        )

    @property
    def is_to_be_proved(self) -> bool:
        """Whether it answers, and nothing is known yet of what it does."""
        return bool(self.serves_after) and not (self.proof or self.is_refuted)

    @property
    def is_without_lmcache(self) -> bool:
        """Whether it was asked to run without LMCache: then there is nothing of it to prove."""
        return _WITHOUT in self.switched

    def read(self, line: str, now_s: float) -> bool:
        """Take one line in; False where it says something that only a person understands."""
        if found := _STARTED.match(line):
            process = self._process(found[1])
            process.stage, process.pid, process.began_s = Stage.STARTING, int(found[2]), now_s
        elif found := _READY.match(line):
            process = self._process(found[1])
            process.stage, process.took = Stage.READY, found[2]
        elif found := _SERVES.match(line):
            self.serves_after = found[3]
        elif PROVE_HINT.match(line):
            pass  # for whoever starts launch.sh alone
        elif _STOPPING.match(line):
            self.is_stopping = True
        elif _STOPPED.match(line):
            self.is_over = True
            for process in self.processes.values():
                if process.stage in (Stage.STARTING, Stage.READY):
                    process.stage = Stage.STOPPED
        else:
            return self._read_notice(line)
        return True

    def notice_gone(self) -> None:
        """Mark what has ended while the launch stops; the launcher does not name each one."""
        for process in self.processes.values():
            is_up = process.stage in (Stage.STARTING, Stage.READY) and process.pid is not None
            if self.is_stopping and is_up and not is_alive(process.pid or 0):
                process.stage = Stage.STOPPED

    def _read_notice(self, line: str) -> bool:
        if found := _ENDED.match(line):
            self._process(found[1]).stage = Stage.ENDED
            self.is_stopping = True
        elif found := _SWITCHED.match(line):
            self.switched.add(found[1])
            for name in self.left_out_without_lmcache if self.is_without_lmcache else ():
                self.processes[name].stage = Stage.LEFT_OUT
        return False

    def _process(self, name: str) -> ProcessProgress:
        key = ProcessName(name)
        return self.processes.setdefault(key, ProcessProgress(name=key, kind=""))
