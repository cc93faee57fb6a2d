"""Draw the screens of docs/screens again: what the commands show of a real deployment, and graphs.

    python tools/screens.py            # everything; starts profiles/disagg-cpu.yaml, minutes
    python tools/screens.py --graphs   # only what needs no deployment

Each command runs before a terminal of its own, and what it shows becomes an SVG picture. One that
fails is said so and leaves its old picture.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.emit.picture.svg import picture  # noqa: E402 - the checkout is not installed
from compiler.emit.render import Renderer  # noqa: E402
from compiler.library import library, templates  # noqa: E402
from compiler.pipeline import compile_profile  # noqa: E402
from demo.cpu_stack import cache_folder, dync, model, stack_prefix  # noqa: E402

SCREENS = ROOT / "docs" / "screens"
GRAPHS = ("agg", "disagg", "disagg-2p2d", "dynamo-disagg", "reference-disagg", "tiers-disk")
PROFILE = "disagg-cpu"
COLUMNS, ROWS = 128, 40
SERVES_WITHIN_S = 600
# What rich's Live writes before it draws the next frame over the last one.
_FRAME = re.compile(r"\r(?:\x1b\[2K\x1b\[1A)+\x1b\[2K|\r\x1b\[2K")
_CURSOR = re.compile(r"\x1b\[\?25[hl]")
# rich cuts the last line where its letters stand.
_CLIP = re.compile(r'(-clip-terminal">\s*<rect [^>]*height=")([\d.]+)')
DESCENT = 6
_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def graphs() -> dict[str, str]:
    """Return the pictures of ready profiles by their file names."""
    renderer = Renderer(templates())
    found = {}
    for name in GRAPHS:
        compiled = compile_profile(f"{name}.yaml", _profile, (), library())
        assert compiled.resolved is not None, compiled.diagnostics
        found[f"graph-{name}.svg"] = picture(compiled.resolved.plan, renderer)
    return found


def _profile(name: str) -> str:
    return (ROOT / "profiles" / name).read_text("utf-8")


def main() -> int:
    """Write the screens; 1 where a command failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", action="store_true", help="only what needs no deployment")
    arguments = parser.parse_args()
    SCREENS.mkdir(exist_ok=True)
    for name, text in graphs().items():
        (SCREENS / name).write_text(text, encoding="utf-8")
    return 0 if arguments.graphs or deployment() else 1


def deployment() -> bool:
    """Launch a deployment before a terminal, and let the other commands look at it."""
    prefix = stack_prefix()
    weights = model(prefix)
    given = [f"model.id={weights}", f"deploy.prefix={prefix}"]
    given += ["workers[1].engine_args.enable_prefix_caching=false"]
    given += [f"workers[{index}].engine_args.dtype=float32" for index in (0, 1)]
    with tempfile.TemporaryDirectory(prefix="dync-screens-") as folder:
        bundle = Path(folder) / "build" / PROFILE
        options = [word for override in given for word in ("--set", override)]
        dync("build", str(ROOT / "profiles" / f"{PROFILE}.yaml"), "-o", str(bundle), *options)
        with Terminal(folder, "up", f"build/{PROFILE}") as up:
            up.until(" serves at ")
            draw("up", up.words, starting(up.frames()))
            done = [screen(folder, name, f"build/{PROFILE}") for name in ("verify", "status")]
            up.press_ctrl_c()
            draw("up-stopped", up.words, up.rest())
    return all(done)


def screen(folder: str, *words: str) -> bool:
    """Draw what a command shows; False where it fails."""
    with Terminal(folder, *words) as terminal:
        shown = terminal.rest()
        if status := terminal.process.returncode:
            print(f"dync {' '.join(words)} ended with {status}:\n{shown}", file=sys.stderr)
            return False
    draw(words[0], words, shown)
    return True


def starting(frames: Sequence[str]) -> str:
    """Return the last frame in which a process still starts, and the last of all."""
    before = [frame for frame in frames if "starting" in frame and "ready" in frame]
    return "\n\n".join(frame.strip("\r\n") for frame in (*before[-1:], frames[-1]))


def draw(name: str, words: Sequence[str], shown: str) -> None:
    """Write one terminal's text as docs/screens/NAME.svg, without paths of this machine."""
    shown = shown.replace(str(cache_folder()), "~/.cache/dync").replace("\r\n", "\n")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), f"dync {' '.join(words)}"))
    console.print(Text.from_ansi(shown.strip("\n")))
    svg = console.export_svg(title=f"dync {words[0]}", theme=MONOKAI, unique_id=f"dync-{name}")
    svg = _CLIP.sub(lambda found: f"{found[1]}{float(found[2]) + DESCENT:.1f}", _FONT.sub("", svg))
    svg = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
    (SCREENS / f"{name}.svg").write_text(svg, encoding="utf-8")


class Terminal:
    """A dync command before a terminal; always stopped at the end."""

    def __init__(self, folder: str, *words: str) -> None:
        self.words = words
        self._end, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "compiler", *words],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": paths},
        )
        os.close(theirs)
        self._raw = ""
        # Read all the time: a full terminal would hold the command up.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.rest()
        os.close(self._end)

    def until(self, text: str) -> None:
        """Wait until a text is shown; RuntimeError where it never is."""
        give_up = time.monotonic() + SERVES_WITHIN_S
        while text not in self._raw:
            if self.process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"no {text!r} in:\n{self._raw}")
            time.sleep(0.1)

    def press_ctrl_c(self) -> None:
        """Interrupt it as a person does."""
        os.write(self._end, b"\x03")

    def rest(self) -> str:
        """Wait for its end; return the last frame, or all that a plain command printed."""
        self.process.wait()
        self._reader.join()
        return self.frames()[-1]

    def frames(self) -> list[str]:
        """Return what was drawn, frame by frame."""
        return [frame for frame in _FRAME.split(_CURSOR.sub("", self._raw)) if frame.strip()]

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while read := os.read(self._end, 65536):
                self._raw += read.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())
