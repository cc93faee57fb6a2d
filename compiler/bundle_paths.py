"""Where things lie in a bundle, relative to its folder."""

from __future__ import annotations

PLAN = "plan.json"
LAUNCH_SCRIPT = "launch.sh"
LIBRARY = "lib/dync.sh"
OWNERS_LIBRARY = "lib/owners.sh"
BUILT = "lib/built.sh"
SERVICE_SCRIPT = "lib/service.sh"
REDIS_SCRIPT = "lib/redis.sh"
PROXY_SCRIPT = "lib/proxy.sh"
UNITS_FOLDER = "systemd"
USER_UNITS_FOLDER = "systemd/user"
LOGS_FOLDER = "logs"
RUN_FOLDER = "run"
LAUNCH_LOG = f"{LOGS_FOLDER}/launch.log"
LOCK = f"{RUN_FOLDER}/lock"
STARTED = f"{RUN_FOLDER}/started"
PROOF = f"{RUN_FOLDER}/proof.json"
STATE_FOLDERS = (LOGS_FOLDER, RUN_FOLDER)
"""What a running bundle writes itself."""


def engine_file(process: str, *, with_lmcache: bool = True) -> str:
    """Return vLLM's --config file of a worker, in its built form or the one without LMCache."""
    return f"engine/{process}{'' if with_lmcache else '.no-lmcache'}.yaml"


def lmcache_file(process: str) -> str:
    """Return LMCache's configuration file of a worker that caches in its own process."""
    return f"lmcache/{process}.yaml"


def nginx_file(process: str) -> str:
    """Return nginx's configuration file of a proxy."""
    return f"{process}/nginx.conf"


def process_script(process: str) -> str:
    """Return the script that starts a process."""
    return f"bin/{process}.sh"


def log_file(process: str) -> str:
    """Return the log that launch.sh writes of a process."""
    return f"{LOGS_FOLDER}/{process}.log"
