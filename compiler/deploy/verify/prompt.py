"""Make a prompt that no one has sent before and that only LMCache can answer to its last block.

The engine's own prefix cache never serves the last token of a prompt, so that of a prompt of whole
blocks it lacks the last block, however often it has seen it. LMCache looks the whole prompt up and
brings that block. So a repeated prompt of whole chunks always loads from LMCache, with the engine's
own cache on or off, and vllm:external_prefix_cache_hits_total counts what it loaded.
Source: vllm 0.32.0 vllm/v1/core/kv_cache_manager.py, get_computed_blocks (max_cache_hit_length);
lmcache 0.5.6 lmcache/integration/vllm/lmcache_mp_connector.py and vllm_v1_adapter.py,
get_num_new_matched_tokens (a full hit leaves one token to compute).
"""

from __future__ import annotations

import random

LEAST_CHUNKS = 2
FIRST_TOKEN, LAST_TOKEN = 16, 250
"""Token ids that every vocabulary has: special tokens of small ones stand before, bytes within."""


def prompt_tokens(chunk_size: int, longest: int, wished: int) -> int | None:
    """Choose a prompt's length: whole chunks, at least two, near what is wished for.

    longest is the most tokens a prompt may have. None where two chunks do not fit.
    """
    chunks = max(LEAST_CHUNKS, wished // chunk_size)
    fitting = min(chunks, longest // chunk_size)
    return fitting * chunk_size if fitting >= LEAST_CHUNKS else None


def unique_prompt(tokens: int) -> list[int]:
    """Make a prompt of token ids; two of them share no first block."""
    numbers = random.SystemRandom()
    return [numbers.randint(FIRST_TOKEN, LAST_TOKEN) for _ in range(tokens)]
