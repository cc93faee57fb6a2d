"""Keep the result of a proof beside what was proved, and find it again while nothing changed."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from compiler.bundle_paths import PROOF
from compiler.deploy.deployment import Deployment
from compiler.deploy.finding import Verdict
from compiler.deploy.stack_record import RECORD
from compiler.deploy.verify.proof import Proof
from compiler.plan import Plan
from compiler.write.atomic import put_file
from compiler.write.manifest import NotWritten, written_files
from compiler.write.safe_read import MAX_BYTES, read_named

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How a proof ended: of what (a digest), when (UTC, ISO 8601), and what it found wrong."""

    of: str
    at: str
    verdict: Verdict
    took_s: float
    failures: tuple[str, ...]

    @property
    def is_proved(self) -> bool:
        """Whether the deployment was seen to do what it was built for."""
        return self.verdict in (Verdict.PASS, Verdict.WARN)


def record_of(deployment: Deployment, proof: Proof) -> Record:
    """Return what is kept of a proof."""
    return Record(
        of=_identity(deployment),
        at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        verdict=proof.verdict,
        took_s=round(proof.took_s, 1),
        failures=tuple(
            _CONTROL.sub(" ", f"{item.subject} {item.check}: {item.message}")
            for item in proof.findings
            if item.verdict is Verdict.FAIL
        ),
    )


def keep(deployment: Deployment, record: Record) -> None:
    """Write a proof's result beside what it is of, for its owner alone, where this account may."""
    file = _file(deployment)
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        put_file(file, f"{json.dumps(asdict(record), indent=1)}\n".encode(), 0o600)


def recorded(deployment: Deployment) -> Record | None:
    """Return the last proof's result, or None where files, stack or host are not those it is of."""
    try:
        data = json.loads(read_named(_file(deployment)).decode("utf-8"))
        verdict, failures = Verdict(data["verdict"]), tuple(data["failures"])
        record = Record(**{**data, "verdict": verdict, "failures": failures})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if record.of and record.of == _identity(deployment) else None


def _file(deployment: Deployment) -> Path:
    """Name the file: of an installed generation it is root's, beside the generations."""
    if deployment.installation is not None:
        return deployment.installation.proof(int(deployment.folder.name))
    return deployment.folder / PROOF


def _identity(deployment: Deployment) -> str:
    """Digest what a proof holds for: the bundle's files as they are, the stack, the machine.

    Empty where the bundle does not say which files it has.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(written_files(deployment.folder))
    except NotWritten:
        return ""
    for path in (
        *(deployment.folder / name for name in files),
        _stack_record(deployment.plan),
        _MACHINE_ID,
    ):
        digest.update(f"{path.name}\0{_digest(path)}\0".encode())
    digest.update(socket.gethostname().encode())
    return digest.hexdigest()


def _stack_record(plan: Plan) -> Path:
    return Path(plan.stack_program).parents[1] / RECORD


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_named(path, MAX_BYTES)).hexdigest()
    except OSError:
        return ""
