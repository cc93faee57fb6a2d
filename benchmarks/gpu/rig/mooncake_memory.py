"""Give memory to a Mooncake Store until stdin ends, as a worker of another host would.

Run with the engines' Python: mooncake_memory.py MASTER BYTES. Prints "gives" once it does.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Join the store as LMCache does, and wait."""
    import torch  # noqa: F401 -- brings CUDA's runtime, which Mooncake's wheel links
    from mooncake.store import MooncakeDistributedStore

    master, size = sys.argv[1:]
    setup = {
        "local_hostname": "127.0.0.1",
        "metadata_server": "P2PHANDSHAKE",
        "master_server_addr": master,
        "protocol": "tcp",
        "rdma_devices": "",
        "global_segment_size": size,
        "local_buffer_size": str(64 << 20),
    }
    store = MooncakeDistributedStore()
    failed = store.setup(setup)
    if failed:
        sys.exit(f"Mooncake's setup gives {failed}")
    print("gives", flush=True)
    sys.stdin.read()
    store.close()


if __name__ == "__main__":
    main()
