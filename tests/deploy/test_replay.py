"""A whole `dync verify` against what real engines answered once, played back by their ports."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from compiler.cli.main import dync
from compiler.deploy.deployment import Deployment, Manager
from compiler.deploy.finding import Verdict
from compiler.deploy.status.status import status
from compiler.deploy.verify.proof import Proof
from compiler.deploy.verify.verify import verify
from compiler.library import tier_specs
from compiler.plan import Plan
from compiler.process import Process
from tests.support import compile_file, plan_in, with_launch

RECORDED = Path(__file__).parent / "recorded"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Replay:
    """One recording, and the prompts of whole chunks it was sent.

    refuses: so many requests. lists: whether it lists the likeliest tokens, as Dynamo 1.3 does.
    loads: whether a repeated prompt's KV is restored; if not, its answer is right only where the
    prompt before it left the same KV in the engine's blocks.
    """

    folder: Path
    refuses: int = 0
    lists: bool = False
    longest: int = 4096
    loads: bool = True
    prompts: list[list[int]] = field(default_factory=list)

    @property
    def is_repeated(self) -> bool:
        return bool(self.prompts) and self.prompts[-1] in self.prompts[:-1]

    @property
    def is_right(self) -> bool:
        return self.loads or not self.is_repeated or self.prompts[-1] == self.prompts[-2]

    def text(self, process: str, suffix: str) -> bytes:
        tag = "warm" if self.is_repeated else "cold" if self.prompts else "before"
        path = self.folder / f"{process}.{tag}.{suffix}"
        return path.read_bytes() if path.is_file() else b""


class Handler(http.server.BaseHTTPRequestHandler):
    """One process of a recording."""

    replay: Replay
    process: str

    def do_GET(self) -> None:
        models = {"data": [{"id": "smollm2", "max_model_len": self.replay.longest}]}
        answers = {
            "/metrics": self.replay.text(self.process, "prom"),
            "/status": self.replay.text(self.process, "json"),
            "/v1/models": json.dumps(models).encode(),
            "/health": b"ok",
            "/healthcheck": b"ok",
        }
        found = answers.get(self.path, b"")
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(found)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.replay.refuses:
            self.replay.refuses -= 1
            self.send_response(500)
            self.end_headers()
            self.wfile.write(b'{"error": "handshake failed"}')
            return
        if isinstance(asked["prompt"], list):
            self.replay.prompts.append(asked["prompt"])
        likely = {"x": -0.5, "y": -1.5} if self.replay.is_right else {"x": -2.5, "z": -0.1}
        listed = [{"token": key, "logprob": of, "bytes": None} for key, of in likely.items()]
        top = listed if self.replay.lists else likely
        choice = {"text": "x", "logprobs": {"top_logprobs": [top]}}
        self.send_response(200)
        self.end_headers()
        for event in (f"data: {json.dumps({'choices': [choice]})}", "data: [DONE]"):
            self.wfile.write(f"{event}\n\n".encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def played(case: str, profile: str, folder: Path) -> Iterator[tuple[Deployment, Replay]]:
    """Play a recording back on free ports, and return the deployment that it is."""
    plan = plan_in(compile_file(ROOT / "profiles" / f"{profile}.yaml"))
    replay = Replay(RECORDED / case)
    with ExitStack() as stack:
        processes, url = [], ""
        for process in plan.processes:
            handler = type("Of", (Handler,), {"replay": replay, "process": process.name})
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            processes.append(moved(process, server.server_address[1]))
            url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        served = replace(plan, processes=tuple(processes), url=url)
        yield Deployment(named="it", plan=served, folder=folder, manager=Manager.NONE), replay


def moved(process: Process, port: int) -> Process:
    """Return a process with its HTTP on another port."""
    at = f"http://127.0.0.1:{port}"
    ready = replace(process.ready, url=f"{at}{process.ready.path}", port=port)
    listens = (replace(process.listens[0], port=port),)
    return replace(process, ready=ready, metrics=f"{at}/metrics", listens=listens)


def said(proof: Proof, verdict: Verdict) -> list[str]:
    return [f"{item.subject}: {item.message}" for item in proof.findings if item.verdict is verdict]


def test_a_disaggregated_deployment(tmp_path: Path) -> None:
    with played("disagg", "disagg-cpu", tmp_path) as (deployment, replay):
        proof = verify(deployment, tier_specs(deployment.plan))
    assert proof.is_proved
    first, between, repeated = replay.prompts
    assert [len(prompt) for prompt in replay.prompts] == [512, 512, 512]
    assert first == repeated
    assert first != between
    assert said(proof, Verdict.PASS) == [
        "lmcache-prefill-0: 4 of 4 chunks of the new prompt were stored",
        "prefill-0: LMCache served 127 of 512 tokens of the repeated prompt, "
        "the engine's own cache 384",
        "router: log-probabilities of the first token, cold and warm, differ by at most 0.000",
    ]
    assert any("decode-0: NIXL moved 14.7 MB" in line for line in said(proof, Verdict.WARN))
    [timing], [transfer] = proof.timings, proof.transfers
    assert (timing.through, timing.tokens) == ("router", 512)
    assert (transfer.worker, transfer.moves) == ("decode-0", 2)


def test_a_deployment_that_never_caches(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = RECORDED / "connector-v1" / "aggregated-0.log"
    (tmp_path / "logs" / "aggregated-0.log").write_bytes(log.read_bytes())
    with played("connector-v1", "agg-cpu", tmp_path) as (deployment, _):
        proof = verify(deployment, tier_specs(deployment.plan))
    assert not proof.is_proved
    failures = said(proof, Verdict.FAIL)
    assert "lmcache: 0 of 4 chunks of the new prompt were stored" in failures
    assert any("which is not LMCache" in line for line in failures)
    assert any("degraded mode" in line for line in failures)
    verdicts = {process.name: process.verdict for process in proof.processes}
    assert verdicts == {"lmcache": Verdict.FAIL, "aggregated-0": Verdict.FAIL}


def test_blocks_that_still_hold_the_prompt_do_not_pass_for_restored_ones(tmp_path: Path) -> None:
    with played("disagg", "disagg-cpu", tmp_path) as (deployment, replay):
        replay.loads = False
        proof = verify(deployment, tier_specs(deployment.plan))
    assert not proof.is_proved
    assert said(proof, Verdict.FAIL) == [
        "router: log-probabilities of the first token, cold and warm, differ by at most 2.000"
    ]


@pytest.mark.parametrize("loads", [True, False])
def test_likeliest_tokens_may_come_as_a_list(tmp_path: Path, loads: bool) -> None:
    with played("disagg", "disagg-cpu", tmp_path) as (deployment, replay):
        replay.lists, replay.loads = True, loads
        proof = verify(deployment, tier_specs(deployment.plan))
    assert proof.is_proved is loads
    apart = "0.000" if loads else "2.000"
    text = f"router: log-probabilities of the first token, cold and warm, differ by at most {apart}"
    assert text in said(proof, Verdict.PASS if loads else Verdict.FAIL)


def test_a_first_prompt_may_fail_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compiler.deploy.verify.verify.time.sleep", lambda _: None)
    with played("disagg", "disagg-cpu", tmp_path) as (deployment, replay):
        replay.refuses = 1
        assert verify(deployment, tier_specs(deployment.plan)).is_proved
        replay.refuses, replay.prompts = 9, []
        proof = verify(deployment, tier_specs(deployment.plan))
    assert not proof.is_proved
    assert any("handshake failed" in line for line in said(proof, Verdict.FAIL))
    assert proof.timings == ()


def test_chunks_that_do_not_fit(tmp_path: Path) -> None:
    with played("disagg", "disagg-cpu", tmp_path) as (deployment, replay):
        replay.longest = 200
        proof = verify(deployment, tier_specs(deployment.plan))
    assert replay.prompts == []
    assert any(
        "chunks of 128 tokens: 2 do not fit in the longest prompt of 199 tokens" in line
        for line in said(proof, Verdict.FAIL)
    )


def test_status_reads_the_same_counters(tmp_path: Path) -> None:
    with played("disagg", "disagg-cpu", tmp_path) as (deployment, replay):
        replay.prompts = [[1], [1]]
        plan: Plan = deployment.plan
        seen = {item.name: item for item in status(own(deployment), {}).processes}
    assert [process.name for process in plan.processes] == list(seen)
    server, prefill, decode = (seen[plan.processes[at].name].activity for at in (0, 2, 1))
    assert server.fills[0].used_bytes == 38338560
    assert server.lmcache is not None
    assert server.lmcache.found == 2560.0
    assert prefill.lmcache is not None
    assert prefill.engine_cache is not None
    assert decode.lmcache is None
    assert decode.nixl is not None
    assert decode.nixl.total_bytes == 44236800.0


def own(deployment: Deployment) -> Deployment:
    """Return the deployment as if this very process were each of its processes."""
    import psutil

    argv = tuple(psutil.Process().cmdline())
    processes = tuple(with_launch(process, argv=argv) for process in deployment.plan.processes)
    return replace(deployment, plan=replace(deployment.plan, processes=processes))


def test_the_command_says_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with played("disagg", "disagg-cpu", tmp_path) as (deployment, _):
        monkeypatch.setattr("compiler.deploy.deployment.find_deployment", lambda *_: deployment)
        done = CliRunner().invoke(dync, ["verify", "it"])
    assert done.exit_code == 0
    for text in ("NIXL to", "time to first token", "proved, with warnings"):
        assert text in done.stdout
