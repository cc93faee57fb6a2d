"""What looks like a secret in text that is shown: one list of names, one way to hide."""

from __future__ import annotations

import re

# The last words of a name that holds a secret itself, such as HF_TOKEN, secretKey and api-key;
# max_tokens, tokenizer and password_file hold none.
_SECRET_NAME = re.compile(
    r"(?:\A|_)(?:pass(?:word|wd|phrase|code)?|[a-z0-9]+_pwd|secrets?|token|nkey|credential"
    r"|(?:api|access|secret|private|account|encryption|signing|auth|license)_?key"
    r"|connection_string)(?:_(?:value|base|text|json|base64))?_?[0-9]*\Z"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[-. ]+")
# A file below one of these folders is the place of a secret; keys in base64 may begin with a slash.
_NO_VALUE = re.compile(
    r"(?:~|null|true|false|[|>][-+0-9]*|[*&!].*"
    r"|[\"']?/(?:etc|run|home|root|srv|opt)/[\w./ -]*[\"']?|)\Z",
    re.IGNORECASE,
)
_RUN = re.compile(r"[^\s\"'<>{}]+")
_NAME = re.compile(r"(?<![\w.-])([A-Za-z_][\w.-]{0,99})[\"']?(?:[ \t]{0,9}:[ \t]+|=)")
_ENTRY_VALUE = re.compile(
    r'"(?:[^"\\\n]|\\.)*"?'
    r"|'(?:[^'\n]|'')*'?"
    r"|(?:[^\s,}\]]|[,}\]](?![\s,}\]]|\Z)|[ \t](?!#))+"
)
_PAIR_VALUE = re.compile(r"""[^&;\s"',}\]]+""")


def is_secret(name: str) -> bool:
    """Return whether a key or variable of this name holds a secret, not the place of one."""
    words = _SEPARATORS.sub("_", _HUMP.sub("_", name[-200:])).lower()
    return _SECRET_NAME.search(words) is not None


def is_hidden(value: str) -> bool:
    """Return whether a value under a secret's name can be one: no truth value, no file of one."""
    return _NO_VALUE.match(value) is None


def stars(text: str) -> str:
    """Return what stands for a secret: its length alone."""
    return "*" * len(text)


def masked(text: str) -> str:
    """Hide passwords in addresses, and what follows the name of a secret, in text of any kind."""
    if "@" in text:
        text = _RUN.sub(lambda found: without_account(found[0]), text)
    parts, done = [], 0
    for found in _NAME.finditer(text):
        if found.end() <= done or not is_secret(found[1]):
            continue
        is_pair = found[0].endswith("=")
        value = (_PAIR_VALUE if is_pair else _ENTRY_VALUE).match(text, found.end())
        if value is not None and is_hidden(value[0]):
            parts += [text[done : value.start()], _within_quotes(value[0])]
            done = value.end()
    return "".join((*parts, text[done:]))


def without_account(text: str) -> str:
    """Hide the password of one address, USER:PASSWORD@HOST, or a single word before the @.

    A password may hold an @ of its own: it ends at the last one.
    """
    head, scheme, rest = text.rpartition("://")
    if "@" in head:  # a password that holds ://
        head, scheme, rest = text.partition("://")
    before, at, host = rest.rpartition("@")
    user, colon, password = before.partition(":")
    if not at or "/" in user:
        return text
    if colon:
        return f"{head}{scheme}{user}:{stars(password)}@{host}"
    return f"{head}{scheme}{stars(user)}@{host}" if scheme else text


def _within_quotes(text: str) -> str:
    quote = text[0] if text[0] in "\"'" else ""
    end = quote if quote and len(text) > 1 and text.endswith(quote) else ""
    return f"{quote}{'*' * (len(text) - len(quote) - len(end))}{end}"
