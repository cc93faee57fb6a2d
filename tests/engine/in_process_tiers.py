"""Use the storage backends of LMCache in process, without a worker: run by a stack's own python.

usage: python in_process_tiers.py put|get|hold CONFIG...
The host memory is left out: what `get` finds was read from a tier. hold: put, then wait for the end
of stdin, for a store that lives in the memory of its clients. The last line is JSON: by backend,
how many of the chunks are there.
"""

import asyncio
import json
import os
import sys
import threading
import time

import torch
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import load_engine_config_with_overrides
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.storage_backend import CreateStorageBackends

CHUNKS, LAYERS, HEADS, SIZE = 4, 2, 2, 16
config = load_engine_config_with_overrides(config_file_path=sys.argv[2])
metadata = LMCacheMetadata(
    model_name="m",
    world_size=1,
    local_world_size=1,
    worker_id=0,
    local_worker_id=0,
    kv_dtype=torch.float16,
    kv_shape=(LAYERS, 2, config.chunk_size, HEADS, SIZE),
    chunk_size=config.chunk_size,
)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
backends = CreateStorageBackends(config, metadata, loop, dst_device="cpu")
memory = backends.pop("LocalCPUBackend")


def key(number):
    return CacheEngineKey(
        model_name="m", world_size=1, worker_id=0, chunk_hash=1000 + number, dtype=torch.float16
    )


def chunk(number):
    shape = (2, LAYERS, config.chunk_size, HEADS * SIZE)
    return torch.full(shape, float(number), dtype=torch.float16)


def put(backend, number):
    wanted = chunk(number)
    taken = memory.allocate(wanted.shape, wanted.dtype)
    taken.tensor.copy_(wanted)
    backend.batched_submit_put_task([key(number)], [taken])
    give_up = time.monotonic() + 20
    while not backend.contains(key(number)) or backend.exists_in_put_tasks(key(number)):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def get(backend, number):
    if not backend.contains(key(number)):
        return False
    (found,) = backend.batched_get_blocking([key(number)])
    return found is not None and torch.equal(
        found.tensor.reshape(chunk(number).shape), chunk(number)
    )


act = get if sys.argv[1] == "get" else put
found = {name: sum(act(one, number) for number in range(CHUNKS)) for name, one in backends.items()}
print(json.dumps(found), flush=True)
if sys.argv[1] == "hold":
    sys.stdin.read()
os._exit(0)
