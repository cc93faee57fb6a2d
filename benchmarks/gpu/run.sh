#!/usr/bin/env bash
# On the GPU machine, from the prepared kit.  usage: run.sh OUT SUITE...
set -euo pipefail
mkdir -p "$1"
out=$(readlink -f "$1")
cd "$(dirname "$(readlink -f "$0")")"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
exec python3 -m benchmarks.gpu.rig "$out" "${@:2}"
