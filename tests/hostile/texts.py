"""Texts that were written to keep dync busy, each kind in any size."""

from __future__ import annotations

from tests.support import AGG

HEAD = AGG.replace("workers: [{role: aggregated, gpus: [0]}]\n", "")
GROUP = f"{HEAD}workers:\n  - role: aggregated\n    gpus: [0]\n"


def texts(size: int) -> dict[str, str]:
    """Return a text of about so many characters of each kind, by its name."""

    def many(line: str) -> str:
        """Repeat a line, with its number for each N, up to the size."""
        return "".join(line.replace("N", str(at)) for at in range(size // len(line)))

    return {
        "equal-keys": HEAD + many("a: 1\n"),
        "unknown-keys": AGG + many("workersN: 1\n"),
        "unknown-options": f"{GROUP}    engine_args:\n" + many("      max_model_lenN: 1\n"),
        "unknown-variables": f"{GROUP}    env:\n" + many("      VLLM_LOG_LEVELN: 1\n"),
        "no-workers": f"{HEAD}workers:\n" + many("- 1\n"),
        "empty-workers": f"{HEAD}workers:\n" + many("- {}\n"),
        "ambiguous": f"{HEAD}workers:\n" + many("- no\n"),
        "comments": AGG + many("# dync: ignore[lmcache-disk] x\n"),
        "comments-on-values": GROUP[:-4] + "\n" + many("    - 0 # dync: ignore[gpu-count] x\n"),
        "comments-unknown": AGG + many("# dync: ignore[lmcache-diskN] x\n"),
        "one-comment": f"{AGG}# dync: ignore[{many('a,')}] x\n",
        "one-comment-unknown": f"{AGG}# dync: ignore[{many('lmcache-diskN,')}] x\n",
        "underscores": f"{AGG}deploy: {{user: 1{'_' * size}x}}\n",
        "colons": f"{AGG}frontend: {{host: '{':' * size}x'}}\n",
        "long-line": f"{AGG}discovery: {{etcd_endpoints: [{many('x, ')}]}}\n",
        "addresses": f"{AGG}deploy: {{user: '{many('://a:b')}'}}\n",
        "names": f"{AGG}deploy: {{user: '{many('password: ')}'}}\n",
        "pairs": f"{AGG}deploy: {{user: '{many('password=')}'}}\n",
        "secrets-on-one-line": f"{GROUP}    engine_args: {{x: {{{many('api_keyN: abcdef, ')}",
        "replicas": f"{GROUP}    replicas: 10000\n    env:\n" + many("      A_N: 1\n"),
        "tokens": f"{GROUP}    env:\n" + many("      A_N_TOKEN: xyz_N\n"),
        "unicode-keys": AGG + many("模N: 1\n"),
        "crlf": AGG.replace("\n", "\r\n") + many("aN: 1\r\n"),
        "merge-keys": AGG + "a: &x {b: 1}\n" + many("cN: {<<: *x}\n"),
        "aliases": AGG + "a: &x 1\n" + many("bN: *x\n"),
        "anchors": AGG + many("aN: &xN 1\n"),
        "tiers": f"{AGG}lmcache:\n  tiers:\n" + many("  - disk: {path: /a/N, size_gb: 1}\n"),
        "empty-tiers": f"{AGG}lmcache:\n  tiers:\n" + many("  - {}\n"),
        "gpus": f"{HEAD}workers:\n" + many("- {role: aggregated, gpus: [N]}\n"),
        "urls": f"{GROUP}    env:\n" + many("      A_N: http://u:p@h\n"),
        "secret-files": f"{AGG}secret_env:\n" + many("  A_N: x\n"),
        "variables": f"{GROUP}    env:\n" + many("      A_N: 1\n"),
        "options": f"{GROUP}    engine_args: {{compilation_config: {{{many('aN: 1, ')}}}}}\n",
        "secret-options": f"{GROUP}    engine_args: {{x: {{{many('api_keyN: abcdef, ')}}}}}\n",
        "deep-flow": f"{AGG}x: {'[' * (size // 2)}{']' * (size // 2)}\n",
        "deep-options": f"{GROUP}    engine_args: {{compilation_config: {_deep(size)}}}\n",
        "long-text": f"{AGG}x: {'a' * size}\n",
        "long-words": f"{AGG}x:\n{many('  aaa' + chr(10))}",
        "quotes": f"{AGG}x: '{size // 2 * chr(39) * 2}'\n",
    }


def _deep(size: int) -> str:
    """Return lists that are as deep as a profile may be, side by side."""
    one = "[" * 30 + "0" + "]" * 30
    return f"{{a: [{', '.join([one] * (size // 63))}]}}"
