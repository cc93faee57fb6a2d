"""Prompts of token ids: exact lengths, no shared prefix, the same on every run."""

from __future__ import annotations

import random

VOCABULARY = range(3, 250)


def unique(length: int, seed: str) -> list[int]:
    """Give `length` token ids that no other seed shares a prefix with."""
    return random.Random(seed).choices(VOCABULARY, k=length)


def shared(prefix: list[int], length: int, seed: str) -> list[int]:
    """Give a prompt of `length` tokens that starts with `prefix`."""
    return prefix + unique(length - len(prefix), seed)
