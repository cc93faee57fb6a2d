"""Choose what travels of an installed stack whose torch is not the machine's, and cut it.

What the machine has already stays there; engines/own-torch/ says what that is, and what is
left out. What an earlier stack of the same pack brings does not travel again (shared.py).
"""

from __future__ import annotations

import configparser
import fnmatch
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from benchmarks.gpu.packing.fatbin import ELF_MAGIC
from benchmarks.gpu.packing.requirements import unmet
from benchmarks.gpu.packing.shared import Assembled, owner_of_alike, owner_of_same
from benchmarks.gpu.packing.thin import Cut, Cutter, find_filler

RULES = Path(__file__).resolve().parents[1] / "engines/own-torch"
SM = 90  # H100 and H200
FILLER_FROM = "torch/lib/libtorch_cuda.so"
NO_CUT = Cut()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What travels: distributions and files by patterns, libraries' cuts by their paths.

    machine: what is there, and in which version where that is known.
    """

    machine: Mapping[str, str]
    own: frozenset[str]
    left_out: tuple[str, ...]
    left_out_files: tuple[str, ...]
    cuts: Mapping[str, Cut]

    @classmethod
    def read(cls, folder: Path = RULES) -> Rules:
        """Read the lists of a folder."""
        return cls(
            machine=dict(line.partition("==")[::2] for line in lines(folder / "machine.txt")),
            own=frozenset(lines(folder / "own.txt")),
            left_out=tuple(lines(folder / "left-out.txt")),
            left_out_files=tuple(lines(folder / "left-out-files.txt")),
            cuts=dict(_cut(line) for line in lines(folder / "cut.txt")),
        )

    def stays(self, distribution: str) -> bool:
        """Say whether a distribution is left where it is."""
        if distribution in self.own:
            return False
        return distribution in self.machine or _matches(distribution, self.left_out)


def lines(path: Path) -> list[str]:
    """Return the lines of a list, without comments."""
    found = (line.strip() for line in path.read_text().splitlines())
    return [line for line in found if line and not line.startswith("#")]


def normal(name: str) -> str:
    """Return a distribution's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def site_of(prefix: Path, stack: str) -> Path:
    """Return where `dync stack install` put a stack's packages."""
    site = prefix / "stacks" / stack / "lib/python3.12/site-packages"
    if not site.is_dir():
        raise FileNotFoundError(
            f"{site} is not there: dync stack install {stack} --prefix {prefix}, with Python 3.12"
        )
    return site


def assemble(
    stack: str, source: Path, site: Path, rules: Rules, earlier: list[Assembled]
) -> Assembled:
    """Fill site with what travels of source."""
    shutil.rmtree(site, ignore_errors=True)
    installed = list(distributions(path=[str(source)]))
    travelling = [one for one in installed if not rules.stays(_name(one))]
    for line in unmet(travelling, rules.machine, map(_name, installed)):
        print(f"{stack}: {line}", flush=True)
    wanted = sorted({name for one in travelling for name in _files(one, source, rules)})
    same = {name: owner_of_same(name, source / name, earlier) for name in wanted}
    own = [name for name in wanted if same[name] is None]
    _place(own, source, site, rules)
    alike = {name: owner_of_alike(name, site / name, earlier) for name in own}
    owners = {**same, **alike}
    return Assembled(
        stack=stack,
        source=source,
        site=site,
        files=tuple(name for name in wanted if owners[name] is None),
        shared={
            one.stack: names
            for one in earlier
            if (names := tuple(name for name in wanted if owners[name] == one.stack))
        },
        commands=dict(command for one in travelling for command in _commands(one)),
    )


def is_elf(path: Path) -> bool:
    """Say whether a file is one that the loader may map."""
    with path.open("rb") as file:
        return file.read(len(ELF_MAGIC)) == ELF_MAGIC


def _cut(line: str) -> tuple[str, Cut]:
    path, *words = line.split()
    given = dict(word.partition("=")[::2] for word in words)
    unknown = given.keys() - {"no-ptx", "empty", "kernels"}
    if unknown:
        raise ValueError(f"cut.txt: {path}: unknown {', '.join(sorted(unknown))}")
    empty = frozenset({given["empty"]} if "empty" in given else ())
    return path, Cut(ptx="no-ptx" in given, empty=empty, kernels=given.get("kernels", ""))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _name(distribution: Distribution) -> str:
    return normal(distribution.metadata["Name"])


def _files(distribution: Distribution, source: Path, rules: Rules) -> Iterator[str]:
    for file in distribution.files or ():
        name = str(file)
        if not _matches(name, rules.left_out_files) and (source / name).is_file():
            yield name


def _place(names: list[str], source: Path, site: Path, rules: Rules) -> None:
    """Link what travels as it is, and cut libraries, two at a time."""
    jobs = []
    for name in names:
        target = site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_elf(source / name):
            jobs.append((source / name, target, rules.cuts.get(name, NO_CUT)))
        else:
            target.hardlink_to(source / name)
    if not jobs:
        return
    filler_from = source / FILLER_FROM
    cutter = Cutter(sm=SM, filler=find_filler(filler_from, SM) if filler_from.exists() else b"")
    with ThreadPoolExecutor(2) as pool:
        tallies = list(pool.map(lambda job: cutter.thin(*job), jobs))
    for (path, _, _), tally in zip(jobs, tallies, strict=True):
        if tally.cut:
            print(f"{path.relative_to(source)}: {tally}", flush=True)


def _commands(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """Return the commands that an installer would write, and what each calls."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment]  # names keep their case
    parser.read_string(distribution.read_text("entry_points.txt") or "")
    if parser.has_section("console_scripts"):
        for name, target in parser["console_scripts"].items():
            yield name, target.split("[")[0].replace(" ", "")
