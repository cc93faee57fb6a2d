"""Send a new prompt and repeat it, where each worker with LMCache must show what it does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from compiler.deploy.finding import Finding
from compiler.deploy.probe.cache_server import server_status
from compiler.deploy.probe.http_client import Access, get_json, process_url
from compiler.deploy.verify.ask import Answer, Endpoint, NotAnswered, ask
from compiler.deploy.verify.judge import judge_answers, judge_cache, judge_transfer
from compiler.deploy.verify.prompt import unique_prompt
from compiler.deploy.verify.proof import Timing, Transfer
from compiler.deploy.verify.samples import (
    COMPUTE_S,
    LOADED,
    MOVED_BYTES,
    Probe,
    cache_sample,
    transfer_sample,
)
from compiler.deploy.verify.snapshot import SETTLED_S, Snapshot, settled_snapshot, snapshot
from compiler.plan import Plan
from compiler.process import Kind, Process
from compiler.topology import Role

_EXTRA_ROUNDS = 2
_COUNT_NOTHING = (Kind.FRONTEND, Kind.PROXY)
_STILL_S = 0.5


@dataclass(slots=True, kw_only=True)
class Experiment:
    """One proof in progress: how to ask, and what came out. timeout_s: of one answer."""

    plan: Plan
    access: Access
    probe: Probe
    timeout_s: float
    findings: list[Finding] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)

    def run(self) -> None:
        """Prove every worker, by itself where it answers, and the way through the frontend.

        A single worker with LMCache is proved through the frontend alone.
        Errors: NotAnswered.
        """
        frontend, groups = frontend_endpoint(self.plan), tuple(self.plan.caches.values())
        ways = [[_direct(worker) for worker in group] for group in groups]
        each_by_itself = sum(map(len, groups)) > 1 and all(all(found) for found in ways)
        if each_by_itself:
            for group, found in zip(groups, ways, strict=True):
                self._prove_group(group, [way for way in found if way is not None])
        self._prove_way(frontend, () if each_by_itself else self.plan.cached_workers)

    def ask(self, way: Endpoint, prompt: Sequence[int] | str) -> Answer:
        """Ask once.

        Errors: NotAnswered, with the way.
        """
        try:
            return ask(way, self.plan.served_name, prompt, self.access, self.timeout_s)
        except NotAnswered as error:
            raise NotAnswered(f"{way.name} at {way.url}: {error}") from error

    def _prove_group(self, group: Sequence[Process], ways: Sequence[Endpoint]) -> None:
        """Prove workers of one cache: the first stores, the others load, then the first too."""
        prompt, server = unique_prompt(self.probe.tokens), self.plan.cache_server_of(group[0])
        watched = [*group, *([server] if server else [])]
        cold, stored = self._store(ways[0], prompt, server, group[0].ranks)
        self._overwrite(ways[0])  # the others never had it in their blocks
        pairs = list(zip(group, ways, strict=True))
        for worker, way in [*pairs[1:], pairs[0]]:
            before = snapshot(watched)
            warm = self.ask(way, prompt)
            after = settled_snapshot(watched, partial(_grew, before, worker, LOADED))
            self._judge_cache(worker, before, after, stored)
            self._compare(way, cold, warm)
            stored = None  # the others stored nothing that was new

    def _prove_way(self, way: Endpoint, caches: Sequence[Process]) -> None:
        """Prove the way through the frontend, what NIXL does on it, and these workers' caches."""
        prompt = unique_prompt(self.probe.tokens)
        watched = [item for item in self.plan.processes if item.kind not in _COUNT_NOTHING]
        receivers = [item for item in watched if item.role is Role.DECODE and item.has_nixl]
        start = snapshot(watched)
        cold, stored = self._store(
            way, prompt, self._only_server(caches), max((it.ranks for it in caches), default=1)
        )
        stored_at = settled_snapshot(
            watched, lambda now: all(_grew(start, it, MOVED_BYTES, now) for it in receivers), 1
        )
        turns = max(1, len(caches), len(receivers))
        self._overwrite(way, turns)
        before = snapshot(watched)

        def complete(now: Snapshot) -> bool:
            return all(_grew(before, item, LOADED, now) for item in caches) and all(
                _grew(start, item, MOVED_BYTES, now) for item in receivers
            )

        warm = self.ask(way, prompt)
        after = settled_snapshot(watched, complete)
        for _ in range(2 * turns + _EXTRA_ROUNDS if turns > 1 else 0):
            if complete(after):
                break
            self.ask(way, prompt)
            after = settled_snapshot(watched, complete, 0.5)
        for worker in caches:
            self._judge_cache(worker, before, after, stored)
            stored = None
        self._compare(way, cold, warm)
        for worker in receivers:
            self._judge_transfer(worker, start, stored_at, after)

    def _overwrite(self, way: Endpoint, times: int = 1) -> None:
        """Put other prompts where the last one lay, for a load that does nothing to be seen.

        An engine without a cache of its own gives the blocks freed last to the next request: those
        of a repeated prompt still hold its KV, and the answer is right whatever LMCache brings
        (vllm 0.32.0 vllm/v1/core/block_pool.py, free_blocks: "LIFO reuse of non-cached blocks").
        times: for a frontend that asks its workers in turn.
        """
        for _ in range(times):
            self.ask(way, unique_prompt(self.probe.tokens))

    def _only_server(self, caches: Sequence[Process]) -> Process | None:
        """Return the cache server that must store the prompt; None where it could be another."""
        servers = [self.plan.cache_server_of(worker) for worker in caches]
        return servers[0] if servers and all(item is servers[0] for item in servers) else None

    def _store(
        self, way: Endpoint, prompt: Sequence[int], server: Process | None, ranks: int
    ) -> tuple[Answer, int | None]:
        """Send the prompt for the first time; return how many objects the cache server gained.

        Ranks that have one object together are waited for no longer than they store nothing more.
        """
        before = server_status(server) if server else None
        cold = self.ask(way, prompt)
        if server is None or before is None:
            time.sleep(0.5)  # what stores inside the worker shows nothing to wait for
            return cold, None
        wanted, give_up = self.probe.tokens // self.probe.chunk, time.monotonic() + SETTLED_S
        gained, grew_at = 0, time.monotonic()
        while True:
            now, latest = time.monotonic(), server_status(server)
            found = latest.objects - before.objects if latest else 0
            gained, grew_at = (found, now) if found != gained else (gained, grew_at)
            is_still = gained >= wanted and now > grew_at + _STILL_S
            if gained >= wanted * ranks or is_still or now > give_up:
                return cold, max(gained, 0)
            time.sleep(0.1)

    def _judge_cache(
        self, worker: Process, before: Snapshot, after: Snapshot, stored: int | None
    ) -> None:
        server = self.plan.cache_server_of(worker)
        sample = cache_sample(worker, server, self.probe, (before, after), stored)
        receives = worker.role is Role.DECODE and worker.has_nixl
        self.findings.extend(judge_cache(replace(sample, receives=receives)))

    def _judge_transfer(
        self, worker: Process, start: Snapshot, stored_at: Snapshot, after: Snapshot
    ) -> None:
        compute_s = sum(
            stored_at.grown(start, item.name, COMPUTE_S) or 0.0
            for item in self.plan.processes
            if item.role is Role.PREFILL
        )
        sample = transfer_sample(worker, start, stored_at, after, compute_s or None)
        self.findings.append(judge_transfer(sample))
        self.transfers.append(
            Transfer(
                worker=worker.name,
                moved_bytes=sample.moved_bytes or 0.0,
                moves=sample.moves,
                moved_s=sample.moved_s,
            )
        )

    def _compare(self, way: Endpoint, cold: Answer, warm: Answer) -> None:
        self.findings.append(judge_answers(way.name, cold.logprobs, warm.logprobs))
        self.timings.append(
            Timing(
                through=way.name,
                tokens=self.probe.tokens,
                cold_s=cold.first_token_s,
                warm_s=warm.first_token_s,
            )
        )


def frontend_endpoint(plan: Plan) -> Endpoint:
    """Return what clients reach."""
    return Endpoint(name=plan.entry.name, url=plan.url, certificate=plan.certificate_file)


def _direct(worker: Process) -> Endpoint | None:
    """Return the way to a worker that answers completions itself; Dynamo's do not."""
    models = get_json(process_url(worker, "/v1/models"))
    if models is None or not models.get("data"):
        return None
    return Endpoint(name=worker.name, url=process_url(worker, "/v1"))


def _grew(before: Snapshot, process: Process, metric: str, now: Snapshot) -> bool:
    return bool(now.grown(before, process.name, metric))
