"""The proxy before real servers on the CPU: without the key no route of any of them answers."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compiler.deploy.deployment import find_deployment
from compiler.deploy.installation import system_host
from compiler.deploy.probe.http_client import Access, get_json, posted, process_url
from compiler.deploy.probe.owners import ownership
from compiler.plan import Plan
from demo.client import long_prompt
from demo.cpu_stack import launched
from tests.engine.conftest import Build, messages, proved
from tests.engine.listening import nothing_listens_beyond
from tests.proxy.conftest import make_certificate

pytestmark = pytest.mark.engine
KEY = "Engine-Key_1"
VLLM = """
    /invocations /tokenize /detokenize /metrics /ping /version /load /docs /redoc /openapi.json
    /health
    /v1/models /v1/completions /v1/chat/completions /v1/messages /v1/responses /v1/embeddings
    /inference/v1/generate /generative_scoring /pooling /classify /score /rerank /v1/rerank
    /v2/rerank
    /v1/load_lora_adapter /v1/unload_lora_adapter /is_sleeping /sleep /wake_up /collective_rpc
    /reset_prefix_cache /reset_mm_cache /server_info /start_profile /stop_profile /scale_elastic_ep
    /pause /resume /is_paused /abort_requests /v1/realtime /v1/audio/transcriptions /cohere/v2/chat
"""
ROUTER = """
    /health /health_generate /liveness /readiness /metrics /generate /rerank /v1/rerank /v1/models
    /v1/completions /v1/chat/completions /v1/embeddings /v1/responses /v1/responses/x
    /v1/responses/x/cancel /v1/responses/x/input /inference/v1/generate /get_model_info
    /get_server_info /get_load /get_loads /add_worker /remove_worker /list_workers /flush_cache
    /workers /workers/http%3A%2F%2F127.0.0.1 /pd_capabilities /start_profile /stop_profile
    /scheduling/diagnostics /finish_session /tokenize /detokenize /invocations
"""
DYNAMO = """
    /health /live /metrics /docs /openapi.json /v1/models /v1/models/x /v1/completions
    /v1/chat/completions /v1/embeddings /v1/responses /v1/images/generations /v1/videos
    /v1/audio/speech /v1/messages /clear_kv_blocks /busy_threshold /inference/v1/generate
    /engine/control/start_profile /invocations /tokenize
"""
"""Routes by what serves them: from vllm 0.32.0 vllm/entrypoints, and the texts in the libraries of
vllm-router 0.1.17 and ai-dynamo-runtime 1.6.1, beside what a server's own /openapi.json lists."""

CASES = {
    "agg-cpu": (VLLM, False),
    "disagg-cpu": (VLLM + ROUTER, True),
    "dynamo-agg-cpu": (DYNAMO, False),
}
Ask = Callable[[str, str], int]


def status(open_url: Callable[..., Any], base: str, method: str, path: str) -> int:
    """Ask without a key, and with a body that no route can use."""
    data = b"{}" if method in ("POST", "PUT", "PATCH") else None
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{base}{path}", data, headers, method=method)
    try:
        with open_url(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def listed(plan: Plan) -> Iterator[tuple[str, str]]:
    """Return method and path of what each HTTP server of a deployment says that it has."""
    for process in plan.processes:
        paths = (get_json(process_url(process, "/openapi.json")) or {}).get("paths", {})
        for path, methods in paths.items():
            for method in methods:
                yield method.upper(), re.sub(r"\{[^}]*\}", "x", path)


@pytest.mark.parametrize("profile", CASES)
def test_without_the_key_only_health_answers(
    profile: str, build: Build, real_model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    known, has_tls = CASES[profile]
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    given, certificate, opened = [f"frontend.api_key_file={key}"], "", urllib.request.urlopen
    if profile.startswith("dynamo"):
        request.getfixturevalue("dynamo_prefix")
        given.append("frontend.routing=kv")
    if has_tls:
        file, tls_key = make_certificate(tmp_path)
        given += [f"frontend.tls.certificate={file}", f"frontend.tls.key={tls_key}"]
        certificate, context = str(file), ssl.create_default_context(cafile=str(file))
        context.check_hostname = False
        opened = partial(urllib.request.urlopen, context=context)
    bundle, plan = build(profile, real_model, *given)
    base = plan.url.removesuffix("/v1")
    with launched(bundle):
        behind = process_url(plan.api)
        routes = {*listed(plan)}
        routes |= {(method, path) for path in known.split() for method in ("GET", "POST")}
        routes -= {("GET", "/health"), ("HEAD", "/health")}
        assert len(routes) > 30
        answered = {route: status(opened, base, *route) for route in sorted(routes)}
        assert {route: code for route, code in answered.items() if code != 401} == {}
        assert status(opened, base, "GET", "/health") == 200
        # What the proxy is for: the server behind it asks for no key there.
        open_paths = [("GET", "/metrics"), ("GET", "/openapi.json"), ("POST", "/tokenize")]
        unguarded = [status(urllib.request.urlopen, behind, *route) for route in open_paths]
        assert any(code not in (401, 404) for code in unguarded), unguarded
        texts = streamed(bundle, plan, certificate)
        assert len(texts) > 3
        is_proved, found = proved(bundle)
        assert is_proved, messages(found, "fail")
        nothing_listens_beyond(bundle, plan)
        if profile.startswith("dynamo"):
            for _ in range(2):
                streamed(bundle, plan, certificate, long_prompt("routed", 20))
            log = (bundle / "logs" / "frontend.log").read_text("utf-8")
            # What a worker would have to compute: less, once its events have come to the router.
            cold, warm = map(float, re.findall(r"Selected worker.* logit=([0-9.]+)", log)[-2:])
            assert warm < cold


def streamed(
    bundle: Path, plan: Plan, certificate: str, prompt: str = "Once upon a time"
) -> list[str]:
    """Return the text of each event of a streamed completion, asked with the key."""
    body = {"model": plan.served_name, "prompt": prompt, "max_tokens": 8}
    body |= {"stream": True, "temperature": 0}
    found = []
    access = Access(key=KEY, own=ownership(find_deployment(system_host(Path("/")), str(bundle))))
    with posted(f"{plan.url}/completions", body, access, 120, certificate) as lines:
        for line in lines:
            if line.startswith(b"data: {"):
                found += [choice.get("text") or "" for choice in json.loads(line[6:])["choices"]]
    return found
