"""Prompts of exact lengths that share no prefix, the same on every run."""

from __future__ import annotations

import random
import string

VOCABULARY = range(3, 250)


def unique(length: int, seed: str) -> list[int]:
    """Return `length` token ids that no other seed shares a prefix with."""
    return random.Random(seed).choices(VOCABULARY, k=length)


def shared(prefix: list[int], length: int, seed: str) -> list[int]:
    """Return a prompt of `length` tokens that starts with `prefix`."""
    return prefix + unique(length - len(prefix), seed)


def text(length: int, seed: str) -> str:
    """Return a text of `length` tokens: the made models' tokenizer has one for each letter."""
    return "".join(random.Random(seed).choices(string.ascii_letters, k=length))
