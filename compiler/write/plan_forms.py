"""What each text and number of a plan may be, as data: what dync writes, and nothing beyond."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from compiler.plan import Plan, Service, Source, SourceFile
from compiler.process import Launch, Listen, Process, Ready, Tier, TierServer


@dataclass(frozen=True, slots=True)
class Form:
    """How a text must look, and the words for it."""

    pattern: str
    words: str

    def fits(self, text: str) -> bool:
        """Return whether a text is of this form, to its last character."""
        return _compiled(self.pattern).match(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


TEXT = Form(r".*\Z", "text")
SOME = Form(r".+\Z", "text that is not empty")
NAME = Form(
    r"^[a-z][a-z0-9-]{0,31}$(?!\n)",
    "lower-case letters, digits and hyphens, at most 32, starting with a letter",
)
ACCOUNT = Form(r"^(?!root$)[a-z_][a-z0-9_-]{0,31}$(?!\n)", "the name of an account other than root")
VARIABLE = Form(r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)", "letters, digits and underscores")
STACK = Form(r"[a-z0-9][a-z0-9._-]{0,63}\Z", "the name of a stack")
PROCESS = Form(r"[a-z][a-z0-9_-]{0,79}\Z", "the name of a process")
WORD = Form(r"[A-Za-z0-9_.-]{1,64}\Z", "one word")
GPU = Form(r"(?:[0-9]{1,4}|(?:GPU|MIG)-[0-9A-Za-z/-]{1,100})\Z", "a GPU id or UUID")
HOST = Form(r"[A-Za-z0-9_.:-]{1,253}\Z", "an address or a host name")
URL = Form(r"[a-z0-9+-]+://[^\x00-\x20\x7f]+\Z", "SCHEME://…")
URL_OR_NONE = Form(rf"(?:{URL.pattern[:-2]})?\Z", "SCHEME://…, or nothing")
HTTP_PATH = Form(r"(?:/[A-Za-z0-9_./-]*)?\Z", "the path of a URL, or nothing")
FILE = Form(
    r"^/(?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f\\])?$(?!\n)",
    "an absolute path without control characters, nor a space or backslash at its end",
)
FILE_OR_NONE = Form(rf"(?:{FILE.pattern}|\Z)", f"{FILE.words}, or nothing")
FOLDER = Form(
    r'^/[^\x00-\x1f\x7f,"\\]*$(?!\n)',
    "an absolute path without commas, double quotes, backslashes or control characters",
)
FOLDER_OR_NONE = Form(rf"(?:{FOLDER.pattern}|\Z)", f"{FOLDER.words}, or nothing")
BELOW = Form(
    r"(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.-]+(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.-]+)*)?\Z",
    "a path below the bundle, or nothing",
)
DIGEST = Form(r"[0-9a-f]{64}\Z", "a SHA-256 digest")
NO_SPACES = Form(r"[^\x00-\x20\x7f]*\Z", "text without spaces or control characters")
SECRET_OR_NONE = Form(r"(?:[A-Za-z_][A-Za-z0-9_]*)?\Z", "a variable, or nothing")

FORMS: Mapping[tuple[type[Any], str], Form] = {
    (Plan, "name"): NAME,
    (Plan, "stack"): STACK,
    (Plan, "model"): SOME,
    (Plan, "served_name"): SOME,
    (Plan, "url"): URL,
    (Plan, "user"): ACCOUNT,
    (Plan, "registrations"): BELOW,
    (Service, "purpose"): WORD,
    (Service, "url"): URL,
    (SourceFile, "path"): SOME,
    (SourceFile, "sha256"): DIGEST,
    (Process, "name"): PROCESS,
    (Process, "gpus"): GPU,
    (Process, "secrets"): FILE,
    (Process, "switch_env"): VARIABLE,
    (Process, "after"): PROCESS,
    (Process, "metrics"): URL_OR_NONE,
    (Listen, "purpose"): WORD,
    (Listen, "host"): HOST,
    (Ready, "url"): URL,
    (Ready, "host"): HOST,
    (Ready, "path"): HTTP_PATH,
    (Ready, "key_file"): FILE_OR_NONE,
    (Tier, "kind"): WORD,
    (Tier, "folder"): FOLDER_OR_NONE,
    (TierServer, "host"): HOST,
    (TierServer, "username"): NO_SPACES,
    (TierServer, "secret"): SECRET_OR_NONE,
}
"""Of a list or a mapping, what each of its texts is; whatever is not named here is any text."""

KEYS: Mapping[tuple[type[Any], str], Form] = {
    (Process, "secrets"): VARIABLE,
    (Process, "switch_argv"): VARIABLE,
    (Launch, "env"): VARIABLE,
}
"""What the names of a mapping are."""

NOT_EMPTY = {
    (Plan, "processes"),
    (Source, "files"),
    (Process, "listens"),
    (Launch, "argv"),
}
PORTS = {(Listen, "port"), (Ready, "port"), (TierServer, "port")}
