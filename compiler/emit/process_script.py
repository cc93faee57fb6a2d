"""Emit bin/<process>.sh: a process's environment, then exec of its argv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compiler.bundle_paths import process_script
from compiler.emit.artifact import Artifact, header
from compiler.emit.proxy import check_command
from compiler.emit.quoting import shell_word
from compiler.emit.render import Renderer
from compiler.emit.tiers import ServerCheck, folder_words, folders, server_checks
from compiler.plan import Plan
from compiler.process import Kind, Launch, Process, WithoutLmcache

PASSTHROUGH = ("HOME", "HF_HOME", "HF_TOKEN")
"""What a process may have from its caller; everything else of the caller's shell stays out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchView:
    """A launch-time switch that replaces one word of argv."""

    variable: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """A variable whose value is read from a file at launch."""

    variable: str
    file: str


@dataclass(frozen=True, slots=True)
class FolderView:
    """A tier's folder, what may lie there at a start, whether it is shared; all shell words."""

    path: str
    keep_bytes: str
    shared: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """A server that is asked first; every field is a shell word.

    command: what asks it, which for one that the launcher starts waits for the start.
    """

    command: str
    host: str
    port: str
    username: str
    file: str
    within_s: str
    required: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptView:
    """The fields of process.sh.j2; every word is quoted."""

    header: tuple[str, ...]
    name: str
    environment: tuple[str, ...]
    argv: tuple[str, ...]
    has_lmcache_off_form: bool
    environment_off: tuple[str, ...]
    argv_off: tuple[str, ...]
    only_with_lmcache: bool
    argv_switches: tuple[SwitchView, ...]
    env_switches: tuple[str, ...]
    secrets: tuple[SecretView, ...]
    folders: tuple[FolderView, ...]
    servers: tuple[ServerView, ...]
    checks: tuple[str, ...]
    passthrough: tuple[str, ...]


def emit_process_scripts(plan: Plan, renderer: Renderer) -> Iterator[Artifact]:
    """Emit one script for each process."""
    lines = header(plan)
    for process in plan.processes:
        text = script_text(plan, process, renderer, lines)
        yield Artifact(path=process_script(process.name), text=text, executable=True)


def script_text(plan: Plan, process: Process, renderer: Renderer, lines: tuple[str, ...]) -> str:
    """Return the script of one process; lines: those that open every file."""
    return renderer.render("process.sh.j2", script_view(plan, process, lines))


def script_view(plan: Plan, process: Process, lines: tuple[str, ...]) -> ScriptView:
    """Return the fields of one process's script."""
    off = process.without_lmcache
    has_off_form = isinstance(off, Launch)
    return ScriptView(
        header=lines,
        name=shell_word(process.name),
        environment=_assignments(process.env),
        argv=tuple(shell_word(word) for word in process.argv),
        has_lmcache_off_form=has_off_form,
        environment_off=_assignments(off.env) if isinstance(off, Launch) else (),
        argv_off=tuple(map(shell_word, off.argv)) if isinstance(off, Launch) else (),
        only_with_lmcache=off is WithoutLmcache.NOT_STARTED,
        argv_switches=tuple(
            SwitchView(variable=variable, index=index)
            for variable, index in process.switch_argv.items()
        ),
        env_switches=process.switch_env,
        secrets=tuple(
            SecretView(variable=variable, file=shell_word(file))
            for variable, file in process.secrets.items()
        ),
        folders=tuple(
            FolderView(*map(shell_word, folder_words(tier))) for tier in folders(process)
        ),
        servers=tuple(_server(check) for check in server_checks(plan, process)),
        checks=(_words(check_command(process)),) if process.kind is Kind.PROXY else (),
        passthrough=PASSTHROUGH,
    )


def _server(check: ServerCheck) -> ServerView:
    return ServerView(
        command="dync_server_of_ours" if check.store else "dync_server",
        host=shell_word(check.host),
        port=shell_word(str(check.port)),
        username=shell_word(check.username),
        file=shell_word(check.file),
        within_s=shell_word(str(check.within_s)),
        required=shell_word("required" if check.required else ""),
    )


def _words(words: tuple[str, ...]) -> str:
    return " ".join(map(shell_word, words))


def _assignments(env: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(shell_word(f"{name}={value}") for name, value in env.items())
