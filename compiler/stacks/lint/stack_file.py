"""Check what a stack names: placeholders, catalogues, options, facts, connectors, keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from compiler.diagnostic import Diagnostic
from compiler.document import Document, Path
from compiler.stacks.lint.references import (
    CATALOGUES,
    LMCACHE,
    VARIABLES,
    VLLM,
    Shipped,
    below,
    check_placeholders,
    unknown,
)
from compiler.stacks.lint.shape import STACK
from compiler.stacks.placeholders import CACHE_SERVER, EACH_WORKER, FRONTEND, PROCESS, WORKER

_ENDS = "an option that the stack's vLLM does not have ends its workers at the start"
_OWNED = "a profile is refused an option here because dync writes it itself"
_DROPPED = "LMCache drops a key that it does not know"


def check_stack_file(document: Document, shipped: Shipped) -> Iterator[Diagnostic]:
    """Report each name of a stack that leads nowhere."""
    data: Any = document.root.plain()
    name = PurePosixPath(document.root.span.file).stem
    yield from _file(document, data["name"], name)
    yield from _catalogues(document, name, shipped)
    yield from _tiers(document, data, shipped)
    for pattern, known in _placeholders(data).items():
        yield from check_placeholders(document, data, pattern, known)
    yield from _options(document, data, name, shipped)
    yield from _conditions(document, data, name, shipped)
    yield from _connectors(document, data)
    yield from _metrics_ports(document, data)
    yield from _profile_keys(document, data, shipped)


def _file(document: Document, name: str, stem: str) -> Iterator[Diagnostic]:
    if stem != name:
        yield unknown(
            document.span(("name",)),
            f"stack {name} stands in {stem}.yaml",
            "a profile's stack is looked for by the name of its file",
            name=name,
            known=(stem,),
            otherwise=f"write name: {stem}",
        )


def _catalogues(document: Document, name: str, shipped: Shipped) -> Iterator[Diagnostic]:
    for catalogue in CATALOGUES:
        if catalogue not in shipped.catalogue_names(name):
            yield unknown(
                document.span(("name",)),
                f"schemas/stacks/{name} has no {catalogue}.json",
                "profiles are checked against the options that the released packages have",
                name="",
                known=(),
                otherwise=f"run: python tools/catalogue.py {name} --python PYTHON "
                f"-o schemas/stacks/{name}",
            )


def _tiers(document: Document, data: Any, shipped: Shipped) -> Iterator[Diagnostic]:
    if "tiers" in data and data["tiers"] not in shipped.tier_names:
        yield unknown(
            document.span(("tiers",)),
            f"there is no schemas/tiers/{data['tiers']}.yaml",
            "a release's tiers stand in a file of their own",
            name=data["tiers"],
            known=shipped.tier_names,
            otherwise="write the file, or remove this key",
        )


def _placeholders(data: Any) -> Mapping[Path, Collection[str]]:
    """Return where braces are filled in, and with what; where nothing is, no word is known."""
    asked = [word for item in data["settings"] for word in item.get("ports", ())]
    started = data["starts"]["frontend"].get("ports", ())
    worker = {*PROCESS, *WORKER, *asked}
    cache_server = {*PROCESS, *CACHE_SERVER}
    frontend = {*PROCESS, *FRONTEND, *started}
    return {
        ("env",): PROCESS,
        ("discovery",): PROCESS,
        ("platforms", "*", "env"): PROCESS,
        ("platforms", "*", "transfer_env"): (),
        ("platforms", "*", "worker_argv"): worker,
        ("platforms", "*", "cache_server_argv"): cache_server,
        ("starts", "worker", "argv"): worker,
        ("starts", "worker", "env"): worker,
        ("starts", "worker", "ready_body"): PROCESS,
        ("starts", "cache_server"): cache_server,
        ("starts", "frontend"): frontend,
        ("frontend", "argv", "*", "*", "argv"): EACH_WORKER,
        **{
            ("frontend", "argv", kind, index): frontend
            for kind, argv in data["frontend"]["argv"].items()
            for index, item in enumerate(argv)
            if isinstance(item, str)
        },
        ("settings", "*", "argv"): worker,
        ("settings", "*", "env"): worker,
        ("settings", "*", "engine_args"): worker,
        ("settings", "*", "ready"): PROCESS,
        ("engine_args",): worker,
        ("connectors", "cache"): worker,
        ("connectors", "transfer"): (),
        ("connectors", "several"): (),
        ("lmcache_config",): worker,
        ("cases", "*", "message"): ("max_num_batched_tokens",),
        ("cases", "*", "env"): (),
    }


def _options(document: Document, data: Any, name: str, shipped: Shipped) -> Iterator[Diagnostic]:
    own = shipped.names(name, VLLM)
    every = own.union(*(shipped.names(stack, VLLM) for stack in shipped.stack_names))
    keys = shipped.names(name, LMCACHE)
    missing = f"the vLLM of {name} has no option"
    for pattern, known, what, why in (
        (("engine_args", "*"), own, missing, _ENDS),
        (("settings", "*", "engine_args", "*"), own, missing, _ENDS),
        # One that only another release has is refused in these words too.
        (("owned_engine_args", "*"), every, "no vLLM of a stack has an option", _OWNED),
        (("lmcache_config", "*"), keys, f"the LMCache of {name} has no key", _DROPPED),
    ):
        for path, _ in below(data, pattern):
            option = str(path[-1])
            if known and option not in known:
                yield unknown(
                    document.key_span(path),
                    f"{what} {option!r}",
                    why,
                    name=option,
                    known=known,
                    otherwise="remove it",
                )


def _conditions(document: Document, data: Any, name: str, shipped: Shipped) -> Iterator[Diagnostic]:
    facts = shipped.schema(STACK.schema)["$defs"]["when"]["properties"]
    options, variables = shipped.names(name, VLLM), shipped.names(name, VARIABLES)
    known = {*facts, *options, *variables}
    for pattern in (("settings", "*", "when", "*"), ("cases", "*", "when", "*")):
        for path, _ in below(data, pattern):
            asked = str(path[-1])
            is_foreign = asked.isupper() and not asked.startswith("VLLM_")
            if options and asked not in known and not is_foreign:
                yield unknown(
                    document.key_span(path),
                    f"a worker has no fact, engine option or variable {asked!r}",
                    "a condition on what no worker has never holds",
                    name=asked,
                    known=known,
                    otherwise=f"write one of {', '.join(facts)}, or an engine option",
                )


_LACKED = {
    "without_hybrid_manager": "lack the hybrid KV cache manager",
    "without_context_parallel": "lose KV that is spread over ranks",
}


def _connectors(document: Document, data: Any) -> Iterator[Diagnostic]:
    connectors = data["connectors"]
    named = {
        str(name)
        for kind in ("cache", "transfer")
        for _, name in below(connectors, (kind, "*", "kv_connector"))
    }
    for key, what in _LACKED.items():
        for index, connector in enumerate(connectors.get(key, ())):
            if connector not in named:
                yield unknown(
                    document.span(("connectors", key, index)),
                    f"no worker of this stack has the connector {connector}",
                    f"it says which of the stack's own connectors {what}",
                    name=connector,
                    known=named,
                    otherwise="remove it",
                )
    words = connectors.get("command", {}).get("words")
    for connector in sorted(named - set(words or named)):
        yield unknown(
            document.key_span(("connectors", "command", "words")),
            f"words has none for the connector {connector}",
            "the command names every connector of a worker by its own word",
            name="",
            known=(),
            otherwise=f"add {connector} with its word",
        )


def _metrics_ports(document: Document, data: Any) -> Iterator[Diagnostic]:
    ports = data["starts"]["frontend"].get("ports", {})
    for process, known in (
        ("worker", {"port"}),
        ("cache_server", set(CACHE_SERVER)),
        ("frontend", {"port", *ports}),
    ):
        start = data["starts"].get(process)
        if start is not None and start["metrics_port"] not in known:
            yield unknown(
                document.span(("starts", process, "metrics_port")),
                f"a {process} has no port {start['metrics_port']!r}",
                "metrics are read at one of the process' own ports",
                name=start["metrics_port"],
                known=known,
                otherwise=f"write metrics_port: {' or '.join(sorted(known))}",
            )


def _profile_keys(document: Document, data: Any, shipped: Shipped) -> Iterator[Diagnostic]:
    for index, case in enumerate(data["cases"]):
        schema: Any = shipped.schema("profile.schema.json")
        for number, step in enumerate(case["at"]):
            known = schema.get("properties", {})
            if step not in known:
                yield unknown(
                    document.span(("cases", index, "at", number)),
                    f"a profile has no key {'.'.join(case['at'][: number + 1])}",
                    "a case is reported at a key of the profile",
                    name=step,
                    known=known,
                    otherwise="write the key's steps, such as [lmcache, mode]",
                )
                break
            schema = known[step]
