"""Read profiles for a command, and print what there is to say about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import click

from compiler.diagnostic import Diagnostic, Severity
from compiler.emit.quoting import comment
from compiler.library import file_content, library
from compiler.load.compose import Unreadable
from compiler.pipeline import Compiled, compile_profile
from compiler.plan import Plan
from compiler.report.diagnostics import FORMATS, in_order, written

FAILED, USAGE = 1, 2

profiles_argument = click.argument("profiles", nargs=-1, required=True, metavar="PROFILE...")
overrides_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one value of the profile; may be repeated.",
)
strict_option = click.option("--strict", is_flag=True, help="Treat warnings as errors.")
format_option = click.option(
    "--format",
    "style",
    type=click.Choice(list(FORMATS)),
    default="text",
    help="How to print diagnostics: text to stderr, the others to stdout.",
)


def compile_named(name: str, overrides: Sequence[str]) -> Compiled:
    """Compile one profile from its file.

    Errors: UsageError where the file cannot be read; else Diagnostics.
    """
    try:
        return compile_profile(name, _read, overrides, library(hub_caches(os.environ)))
    except Unreadable as error:
        raise click.UsageError(f"cannot read {comment(name)}: {error}") from error


def planned(name: str, overrides: Sequence[str]) -> Plan:
    """Compile one profile to its plan and print what there is to say; errors end the command."""
    compiled = compile_named(name, overrides)
    if print_findings([compiled], (), strict=False, style="text") or compiled.resolved is None:
        sys.exit(FAILED)
    return compiled.resolved.plan


def hub_caches(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders in which Hugging Face's library keeps the models of whoever asks.

    Source: huggingface_hub 2.4.0 constants.py, HF_HUB_CACHE.
    """
    caches = environment.get("XDG_CACHE_HOME") or "~/.cache"
    home = environment.get("HF_HOME") or os.path.join(caches, "huggingface")
    named = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    return (os.path.expandvars(os.path.expanduser(named or os.path.join(home, "hub"))),)


def _read(name: str) -> str:
    """Read one profile as text.

    Errors: Unreadable where it is missing, no regular file or larger than a profile can be.
    """
    try:
        content = file_content(name)
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
    # An invalid byte becomes a lone surrogate, which `load` refuses with its line and column.
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def print_findings(
    compiled: Sequence[Compiled], together: Sequence[Diagnostic], *, strict: bool, style: str
) -> bool:
    """Print every diagnostic; True if the profiles must not be built."""
    diagnostics = in_order([*(d for item in compiled for d in item.diagnostics), *together])
    sources = {name: text for item in compiled for name, text in item.sources.items()}
    text = written(diagnostics, sources, style)
    if text:
        stream = sys.stderr if style == "text" else sys.stdout
        encoding = stream.encoding if style == "text" else "utf-8"
        stream.buffer.write(text.encode(encoding, "backslashreplace"))
        stream.buffer.flush()
    stops = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    return any(d.severity in stops for d in diagnostics)
