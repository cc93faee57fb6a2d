"""The words that a tier's form is filled with: its options, and what follows from them.

compiler/stacks/placeholders.py says what each is; `folder` is set by resolve/tiers.py.
"""

from __future__ import annotations

from compiler.addresses import LOOPBACK
from compiler.byte_units import GIB, MIB
from compiler.document import Json
from compiler.process import ProcessName
from compiler.stacks.placeholders import text_of
from compiler.stacks.tier_specs import TierSpec
from compiler.topology import TierChoice

Values = dict[str, Json]


def options_of(choice: TierChoice) -> Values:
    """Return a tier's options with what is said in two ways said in one."""
    options = dict(choice.options)
    if str(options.get("url") or "").startswith("rediss://"):
        options["tls"] = True
    return options


def tier_values(
    choice: TierChoice, spec: TierSpec, number: int, process: ProcessName, store_port: int
) -> Values:
    """Return the words of one tier of one process."""
    options = options_of(choice)
    values: Values = {
        **options,
        "number": number,
        "process": process,
        "folder": "",
        "tls": options.get("tls", False),
        "is_managed": bool(options.get("managed")),
        **_server(options, store_port, speaks_redis=bool(spec.server)),
        **_sizes(options),
    }
    direct_io = bool(options.get("direct_io"))
    values["direct_io_text"] = "true" if direct_io else "false"
    values["chunk_meta"] = False if direct_io else None  # a header of 28 bytes is not aligned
    values["valkey_mode"] = "cluster" if options.get("cluster") else "standalone"
    values["has_ttl"] = True if options.get("ttl_s") else None
    values["without_tls"] = not values["tls"]
    values["endpoint"] = options.get("endpoint") or f"s3.{options.get('region')}.amazonaws.com"
    adapter = options.get("l2_adapter")
    values["own_adapter"] = adapter
    values["custom_place"] = str(adapter.get("type", "")) if isinstance(adapter, dict) else ""
    return values


def _server(options: Values, store_port: int, *, speaks_redis: bool) -> Values:
    """Say where a tier's server is, in every form that some connector wants."""
    hosts = [str(host) for host in _list(options.get("hosts"))]
    if options.get("managed"):
        host, port = LOOPBACK, int_of(options.get("port")) or store_port
    elif hosts or (options.get("url") and speaks_redis):
        first = hosts[0] if hosts else str(options["url"]).rpartition("/")[2]
        host, _, port_text = first.rpartition(":")
        port = int(port_text)
    else:
        host, port = str(options.get("host") or ""), int_of(options.get("port"))
    text = ",".join(hosts)
    scheme = "rediss" if options.get("tls") else "redis"
    return {
        "host": host,
        "port": port,
        "hosts_text": text,
        "url": f"{scheme}://{text or f'{host}:{port}'}" if speaks_redis else options.get("url"),
        "resp_url": f"resp://{host}:{port}",
        "sentinel_url": f"redis-sentinel://{text}",
        "cluster_url": f"redis-cluster://{text}",
    }


def _sizes(options: Values) -> Values:
    size, given = options.get("size_gb"), options.get("keep_gb")
    values: Values = {"keep_gb": None, "run_gb": None, "run_gb_text": None, "size_bytes": None}
    if isinstance(size, (int, float)):
        keep = given if isinstance(given, (int, float)) else size / 2
        values = {
            "keep_gb": keep,
            "run_gb": size - keep,
            "run_gb_text": text_of(float(size - keep)),
            "size_bytes": int(size * GIB),
        }
    for word, option, unit in (
        ("slot_bytes", "slot_mb", MIB),
        ("segment_bytes", "segment_gb", GIB),
        ("buffer_bytes", "buffer_gb", GIB),
    ):
        value = options.get(option)
        values[word] = int(value * unit) if isinstance(value, (int, float)) else None
    return values


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def int_of(value: Json) -> int:
    """Return a whole number; 0 where there is none."""
    return int(value) if isinstance(value, (int, float)) else 0
