"""Ask vLLM, LMCache and NIXL what they make of workers, without starting one.

Run by the stack's Python, in a folder with the engine files: reads a JSON list of questions from
the file named first, writes the answers to the second: for each the error, or what came out.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
import uuid
from typing import Any


def config_of(worker: dict[str, Any]) -> Any:
    """Build the engine's configuration as its server does: parse, check, create."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    words = worker["argv"]
    parser = make_arg_parser(FlexibleArgumentParser())
    parser.error = refuse  # the text, rather than an exit status
    parsed = parser.parse_args(words[words.index("--model") :])
    validate_parsed_serve_args(parsed)
    arguments = AsyncEngineArgs.from_cli_args(parsed)
    return arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)


def refuse(message: str) -> None:
    """Raise what a parser says."""
    raise ValueError(message)


def config(*workers: dict[str, Any]) -> str:
    """Return the lengths and sizes that the engine would start with."""
    found = [config_of(worker) for worker in workers]
    return ", ".join(str(one.model_config.max_model_len) for one in found)


def handshake(*workers: dict[str, Any]) -> str:
    """Compare the hashes that two engines would send each other."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.metadata import (
        compute_nixl_compatibility_hash,
    )

    hashes = set()
    for worker in workers:
        config = config_of(worker)
        backend = config.attention_config.backend
        name = "CPU_ATTN" if backend is None else backend.name
        hashes.add(compute_nixl_compatibility_hash(config, name))
    return "one hash" if len(hashes) == 1 else "NIXL compatibility hash mismatch"


def layout(_: dict[str, Any]) -> str:
    """Have LMCache translate the layout that the worker's variable asks for."""
    import vllm.envs
    from lmcache.integration.vllm.utils import translate_vllm_kv_cache_layout

    return str(translate_vllm_kv_cache_layout(vllm.envs.VLLM_KV_CACHE_LAYOUT or "LBHNC"))


def variable(_: dict[str, Any], name: str) -> str:
    """Read one variable as vLLM does."""
    import vllm.envs

    return str(getattr(vllm.envs, name))


def lmcache(_: dict[str, Any], *keys: str) -> str:
    """Load LMCache's configuration from the worker's environment, and give some of its keys."""
    from lmcache.v1.config import LMCacheEngineConfig

    found = LMCacheEngineConfig.from_env()
    found.validate()
    return ", ".join(f"{key}={getattr(found, key, 'no such key')}" for key in keys)


def socket_path(_: dict[str, Any]) -> str:
    """Bind the socket that LMCache's connector makes below the worker's base path."""
    from lmcache.v1.rpc_utils import get_zmq_rpc_path_lmcache

    path = get_zmq_rpc_path_lmcache(str(uuid.uuid4()), "lookup_scheduler", 0, 0)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.removeprefix("ipc://"))
    os.unlink(path.removeprefix("ipc://"))
    return "bound"


def in_process(_: dict[str, Any]) -> str:
    """Make the connector that copies KV between the engine and LMCache in process."""
    import torch
    from lmcache.utils import EngineType
    from lmcache.v1.config import LMCacheEngineConfig
    from lmcache.v1.gpu_connector import CreateGPUConnector
    from lmcache.v1.metadata import LMCacheMetadata

    metadata = LMCacheMetadata(
        model_name="model",
        world_size=1,
        local_world_size=1,
        worker_id=0,
        local_worker_id=0,
        kv_dtype=torch.bfloat16,
        kv_shape=(2, 2, 256, 2, 32),
    )
    return type(
        CreateGPUConnector(LMCacheEngineConfig.from_env(), metadata, EngineType.VLLM)
    ).__name__


def one_port(*servers: list[Any]) -> str:
    """Bind every server's address as vLLM's API server does."""
    from vllm.entrypoints.launchers.launcher import create_server_socket

    held = [create_server_socket((host, port), reuse_port=True) for host, port in servers]
    for one in held:
        one.listen()
        one.close()
    return f"{len(held)} servers listen"


def connector(worker: dict[str, Any]) -> str:
    """Make the scheduler's side of a worker's connector; its cache server runs."""
    import zmq
    from lmcache.integration.vllm.lmcache_mp_connector import (
        build_parallel_strategy_from_vllm_config,
    )
    from lmcache.integration.vllm.vllm_multi_process_adapter import LMCacheMPSchedulerAdapter

    found = config_of(worker)
    extra = found.kv_transfer_config.kv_connector_extra_config
    adapter = LMCacheMPSchedulerAdapter(
        [f"{extra['lmcache.mp.host']}:{extra['lmcache.mp.port']}"],
        zmq.Context.instance(),
        found.model_config.model,
        found.cache_config.block_size,
        build_parallel_strategy_from_vllm_config(found, 1),
        mq_timeout=60.0,
    )
    return f"{adapter.num_blocks_per_chunk()} blocks a chunk"


def room(worker: dict[str, Any]) -> str:
    """Have vLLM check a request of full length against the room for KV, as it does once loaded."""
    from vllm.config import set_current_vllm_config
    from vllm.v1.core.kv_cache_utils import check_enough_kv_cache_memory
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    found = config_of(worker)
    model, parallel = found.model_config, found.parallel_config
    spec = FullAttentionSpec(
        block_size=found.cache_config.block_size,
        num_kv_heads=model.get_num_kv_heads(parallel),
        head_size=model.get_head_size(),
        dtype=model.dtype,
    )
    layers = {str(layer): spec for layer in range(model.get_num_layers(parallel))}
    found.cache_config.kv_cache_layout = "LBHNC"  # the engine's core resolves it before
    with set_current_vllm_config(found):
        check_enough_kv_cache_memory(found, layers, found.cache_config.kv_cache_memory_bytes)
    return "a request of full length has room"


QUESTIONS = {
    one.__name__: one
    for one in (
        config,
        handshake,
        layout,
        variable,
        lmcache,
        socket_path,
        in_process,
        one_port,
        connector,
        room,
    )
}


def answer(question: dict[str, Any]) -> str:
    """Answer one question in the environment of its first worker."""
    kept = dict(os.environ)
    first = question["of"][0]
    os.environ.update(first["env"] if isinstance(first, dict) else {})
    try:
        return f"ok: {QUESTIONS[question['ask']](*question['of'])}"
    except SystemExit as end:
        return f"ends with {end.code}"
    except BaseException as error:  # what an engine raises is the answer
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    finally:
        os.environ.clear()
        os.environ.update(kept)


def main() -> None:
    """Answer every question of a file."""
    with open(sys.argv[1], encoding="utf-8") as file:
        questions = json.load(file)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump([answer(question) for question in questions], file, indent=1)


if __name__ == "__main__":
    main()
