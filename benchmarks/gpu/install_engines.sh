#!/usr/bin/env bash
# On a machine without a network: join the parts in PARTS and make STACK's environment under PREFIX, beside the
# torch that PYTHON has.  usage: install_engines.sh PARTS PREFIX STACK [PYTHON]
set -euo pipefail
parts=$1 home=$2/stacks/$3 python=${4:-python3}
began=$(date +%s)
mkdir -p "$home/engines"
unpack=(xz -dc -T0)
command -v xz >/dev/null || unpack=("$python" -c 'import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer, 1 << 20)')
cat "$parts"/engines.xz.* | "${unpack[@]}" | tar -x -C "$home/engines"
torch_site=$("$python" -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))')
"$python" -m venv --without-pip "$home"
site=$(echo "$home"/lib/python3*/site-packages)
# The engines come first, as they would with PYTHONPATH; torch's folder with its own .pth files.
printf '%s\nimport site; site.addsitedir(%s)\n' "$home/engines" "'$torch_site'" >"$site/engines.pth"
"$home/bin/python" -c 'import vllm, lmcache, nixl, torch; print(vllm.__version__, torch.__version__)'
echo "engines are in $home after $(($(date +%s) - began)) s"
