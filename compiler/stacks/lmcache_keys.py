"""Which LMCACHE_* variables a stack's LMCache reads, from its catalogue."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.document import Json
from compiler.stacks.stack import Option, Stack, option_of

PREFIX = "LMCACHE_"


@dataclass(frozen=True, slots=True, kw_only=True)
class LMCacheKeys:
    """The closed list of names: keys of the configuration, and what is read besides.

    options, defaults: by variable. renamed: old key to new; kept: those of them that still work.
    """

    options: Mapping[str, Option]
    defaults: Mapping[str, Json]
    others: frozenset[str]
    prefixes: tuple[str, ...]
    renamed: Mapping[str, str]
    kept: frozenset[str]


def lmcache_keys(stack: Stack) -> LMCacheKeys:
    """Read a stack's catalogue of LMCache.

    Source: tools/dump_lmcache.py; lmcache 0.5.6 v1/config.py, _CONFIG_DEFINITIONS and
            _CONFIG_ALIASES: an alias is followed only where _DEPRECATED_CONFIGS has it too.
    """
    data = json.loads(stack.catalogue_text("lmcache-config"))
    entries = data["options"].values()
    renamed = {variable(old): variable(new) for old, new in data["renamed"].items()}
    return LMCacheKeys(
        options={entry["env"]: option_of({"flag": "", **entry}) for entry in entries},
        defaults={entry["env"]: entry.get("default") for entry in entries},
        others=frozenset(data["other_env"]),
        prefixes=tuple(data["env_prefixes"]),
        renamed=renamed,
        kept=frozenset(variable(key) for key in data["deprecated"]) & frozenset(renamed),
    )


def variable(key: str) -> str:
    """Return the variable that sets a key of LMCache's configuration."""
    return PREFIX + key.upper()


def unquoted(value: str) -> str:
    """Return a variable's text as LMCache sees it: stripped, and without quotes of its own.

    Source: lmcache 0.5.6 v1/config_base.py, _parse_quoted_string.
    """
    text = value.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return text[1:-1]
    return text
