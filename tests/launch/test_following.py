"""What `dync up` makes of a launch and its proof, step by step; nothing is started."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compiler.cli import up as cli_up
from compiler.deploy.finding import Verdict
from compiler.deploy.launch.progress import Progress
from compiler.deploy.verify import first_start
from compiler.deploy.verify.first_start import Beside, FirstProof, in_words
from compiler.deploy.verify.record import Record
from tests.support import AGG, plan_of

SERVES = "dync: one serves at http://127.0.0.1:8000/v1 after 1.0 s"
STOPPING, STOPPED = "dync: SIGINT: stopping (once more to kill at once)", "dync: stopped"
DIED = "dync: error: aggregated-0 ended with status 1"


class Launch:
    """A launch that says these lines, a list at each look, and ends with a status after them."""

    bundle = Path("/nowhere")

    def __init__(self, *looks: list[str], status: int = 0) -> None:
        self.looks, self.status = list(looks), status
        self.signals: list[int] = []

    def ended(self, _within_s: float) -> int | None:
        time.sleep(0.02)
        return None if self.looks else self.status

    def lines(self) -> Iterator[str]:
        yield from self.looks.pop(0) if self.looks else ()

    def signal(self, signum: int) -> None:
        self.signals.append(signum)
        self.looks += [[STOPPING], [STOPPED]]


class Shown:
    """What was said, in order."""

    def __init__(self) -> None:
        self.progress, self.said = Progress.of(plan_of(AGG)), list[str]()

    def line(self, line: str) -> None:
        self.progress.read(line, 0.0)

    def look(self) -> None: ...

    def answers(self) -> None:
        self.said.append("answers")

    def serves(self) -> None:
        self.said.append(f"serves, {self.progress.proof}")

    def refuted(self, why: tuple[str, ...]) -> None:
        self.said.append(f"refuted: {why[1:]}")


class Proof(FirstProof):
    """A proof that notes whether it was written down."""

    kept: list[Record] = []  # noqa: RUF012 -- emptied by each test

    def keep(self) -> None:
        self.kept.append(self.record)


def proof(verdict: Verdict, *failures: str) -> Proof:
    record = Record(of="x", at="2026-11-26T05:00:00Z", verdict=verdict, took_s=1, failures=failures)
    return Proof(record=record, is_new=True)


Follow = Callable[..., tuple[int | None, list[str]]]


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Follow a launch whose proof ends so; return the status, and what was said."""
    Proof.kept.clear()

    def run(launch: Launch, made: FirstProof, *, until_it_serves: bool = False) -> Any:
        shown = Shown()
        monkeypatch.setattr(cli_up, "_prover", lambda _bundle, again: lambda: made)  # noqa: ARG005
        status = cli_up._follow(
            launch,  # type: ignore[arg-type]
            shown,
            proves=True,
            until_it_serves=until_it_serves,
        )
        return status, shown.said

    return run


def test_what_is_proved_serves_and_is_written_down(follow: Follow) -> None:
    launch = Launch([SERVES], [], [], [])
    status, said = follow(launch, proof(Verdict.PASS), until_it_serves=True)
    assert (status, said) == (None, ["answers", "serves, proved (1.0 s)"])
    assert len(Proof.kept) == 1
    assert not launch.signals


def test_what_is_refuted_is_stopped_once(follow: Follow) -> None:
    launch = Launch([SERVES], [], [], [], [])
    status, said = follow(launch, proof(Verdict.FAIL, "it lies"))
    assert status == cli_up.NOT_PROVED
    assert said == ["answers", "refuted: ('it lies',)"]
    assert launch.signals == [signal.SIGTERM]
    assert len(Proof.kept) == 1


@pytest.mark.parametrize("until_it_serves", [True, False])
@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_what_is_stopped_while_it_is_proved_is_judged_by_nobody(
    follow: Follow, verdict: Verdict, until_it_serves: bool
) -> None:
    launch = Launch([SERVES], [STOPPING], [], [], [STOPPED])
    status, said = follow(launch, proof(verdict), until_it_serves=until_it_serves)
    assert (status, said) == (0, ["answers"])
    assert not launch.signals
    assert not Proof.kept


def test_a_death_while_it_is_proved_keeps_its_status(follow: Follow) -> None:
    launch = Launch([SERVES], [], [DIED], [], [STOPPED], status=6)
    status, said = follow(launch, proof(Verdict.FAIL, "Connection refused"))
    assert (status, said) == (6, ["answers"])
    assert not Proof.kept


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (proof(Verdict.WARN), "proved (1.0 s, with warnings: dync verify shows them)"),
        (proof(Verdict.SKIP), "not proved: nothing could be looked at"),
        (proof(Verdict.SKIP, "no systemd"), "not proved: no systemd"),
    ],
)
def test_a_proof_in_words(made: FirstProof, words: str) -> None:
    assert in_words(made) == words


def test_a_proof_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_start, "LIMIT_S", 0)

    def make() -> FirstProof:
        time.sleep(0.5)
        return proof(Verdict.PASS)

    proving = Beside(make)
    time.sleep(0.05)
    assert proving.made is not None
    assert proving.made.is_refuted


def test_an_error_of_a_proof_is_handed_on() -> None:
    def make() -> FirstProof:
        raise RuntimeError("a bug")

    proving = Beside(make)
    time.sleep(0.1)
    with pytest.raises(RuntimeError, match="a bug"):
        _ = proving.made
