"""Prove a deployment once it answers: the first time here, or after anything of it changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from compiler.deploy.deployment import Deployment
from compiler.deploy.finding import Verdict
from compiler.deploy.verify.record import Record, keep, record_of, recorded
from compiler.deploy.verify.verify import verify
from compiler.errors import HostError
from compiler.stacks.tier_specs import TierSpecs

LIMIT_S = 400
"""After so long a proof is given up: longer than three prompts that nobody answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstProof:
    """How the proof of a start ended; is_new: whether it was asked now, and not remembered.

    place: what `keep` writes it down of, where that is to be.
    """

    record: Record
    is_new: bool
    deployment: Deployment | None = None

    @property
    def is_refuted(self) -> bool:
        """Whether something was seen to be wrong: such a deployment is not called serving."""
        return self.record.verdict is Verdict.FAIL

    def keep(self) -> None:
        """Write it down beside what it is of; of a launch that is being stopped nobody does."""
        if self.deployment is not None:
            keep(self.deployment, self.record)


def prove(deployment: Deployment, specs: TierSpecs, *, again: bool = False) -> FirstProof:
    """Prove a deployment that answers, unless that was done and nothing changed since.

    specs: what its stack says of each kind of tier. again: also if it was, as what runs was
    switched at launch. What the host refuses to tell is no proof, and refutes nothing.
    """
    try:
        before = None if again else recorded(deployment)
        if before is not None and before.is_proved:
            return FirstProof(record=before, is_new=False)
        proof = verify(deployment, specs)
        # A launch-time switch makes another deployment of the bundle: nothing is kept of that.
        kept = None if proof.is_switched else deployment
        return FirstProof(record=record_of(deployment, proof), is_new=True, deployment=kept)
    except HostError as error:
        return _without(Verdict.SKIP, str(error))


def prove_in_time(deployment: Deployment, specs: TierSpecs) -> FirstProof:
    """Prove a deployment, and wait for it; what takes too long is refuted."""
    proving = Beside(lambda: prove(deployment, specs))
    while (proof := proving.made) is None:
        time.sleep(0.1)
    return proof


def _without(verdict: Verdict, why: str) -> FirstProof:
    record = Record(of="", at="", verdict=verdict, took_s=0, failures=(why,))
    return FirstProof(record=record, is_new=True)


def in_words(proof: FirstProof) -> str:
    """Return what a proof that refutes nothing says, in a few words."""
    record = proof.record
    if not record.is_proved:
        return f"not proved: {'; '.join(record.failures) or 'nothing could be looked at'}"
    when = f"{record.took_s:.1f} s" if proof.is_new else f"unchanged since {record.at[:10]}"
    warnings = ", with warnings: dync verify shows them" if record.verdict is Verdict.WARN else ""
    return f"proved ({when}{warnings})"


def refutation(name: str, proof: FirstProof) -> Iterator[str]:
    """Return the lines that say why a deployment that answers is not called serving."""
    yield f"{name} answers, but is not proved to do what it was built for"
    yield from proof.record.failures


class Beside:
    """A proof that is made beside what goes on; `made` is None until it is there.

    Errors: whatever the proof itself ended with.
    """

    def __init__(self, make: Callable[[], FirstProof]) -> None:
        self._make = make
        self._made: FirstProof | None = None
        self._error: BaseException | None = None
        self._begun = time.monotonic()
        # A daemon: a launch that ends meanwhile does not wait for an answer.
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._made = self._make()
        except BaseException as error:
            self._error = error

    @property
    def made(self) -> FirstProof | None:
        """Return the proof once it is made, or was given up."""
        if self._error is not None:
            raise self._error
        if self._made is None and time.monotonic() - self._begun > LIMIT_S:
            return _without(Verdict.FAIL, f"it could not be proved within {LIMIT_S} s")
        return self._made
