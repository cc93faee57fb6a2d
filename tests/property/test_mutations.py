"""Bad input ends in diagnostics: never a traceback, half a bundle or another exit status.

The counts below add up to 5,000 mutated profiles; they are the same ones on every run.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import compiler.emit.bundle
from compiler.cli.main import dync
from compiler.diagnostic import Diagnostic, Severity, Span
from compiler.emit.bundle import emit
from compiler.emit.render import Renderer
from compiler.library import library, templates
from compiler.load.compose import Unreadable
from compiler.pipeline import Compiled, compile_profile
from compiler.report.diagnostics import FORMATS
from compiler.write.plan_reader import plan_from_json

PROFILES = Path(__file__).resolve().parents[2] / "profiles"
TEXTS = {path.name: path.read_text("utf-8") for path in sorted(PROFILES.glob("*.yaml"))}
PIPELINE, SPLICED, COMMAND = 4300, 400, 300

TRAPS = (
    *("no", "on", "Y", "22:22", "1e9", "1.5e3", "1e400", ".nan", "-.inf", "null", "~", ""),
    *("[]", "{}", "[[]]", "{a: }", "[1, a, {}]", "true", '"true"', "0", "-1", "-0", "0.5", "0x10"),
    *("0o17", "010", "1_000", "2024-01-01", "1000000000000000000", "-1000000000000000000"),
    *("9" * 30, "9" * 5000, "1." + "3" * 400, "8192.0", "65536", "16GB", "'", '"', "`id`"),
    *("$(id)", "%s", "{{ 1 }}", "{% for %}", "ünïcodé", "🦜", "\u202e", "\x00", "\x1b[31m", "\x85"),
    *("\u2028", "\ufeff", "\t", "\r", "&a", "*a", "&a x", "!!python/object:os.system x", "!!int x"),
    *("!x", "!!str", "| ", ">-", "? ", "- ", ": ", "# ", "---", "...", "%YAML 1.1", "@", "a: b"),
    *("[" * 60, "{a: " * 60, "- " * 60, "[" * 3000, "a" * 3000, "/", "//", "../..", "a/b/c", "-x"),
    *('"\\ud800"', '"\\0"', '"\\x1b"', '"a\\nb"', "prefill", "decode", "cpu", "in_process", "agg"),
    *("GPU-1", "[0, 0]", "[0, 1]", "extends: agg.yaml", "<<: *a", "disagg.yaml", "999999999999"),
)
OPERATIONS = (
    *("value", "value", "value", "value", "delete", "duplicate", "swap", "key", "indent", "dedent"),
    *("line", "insert", "truncate", "anchor", "merge", "tab"),
)
_VALUE = re.compile(r"(:\s+|-\s+|[\[{,]\s*)([^\s:\[\]{},#][^\[\]{},#\n]*)")
_KEY = re.compile(r"[a-z_]+(?=:)")
_BREAK = re.compile("\r\n|[\n\r]")

# One whole number a change, taken apart in `mutated`: drawing is most of what such a test costs.
steps = st.lists(st.integers(0, len(OPERATIONS) * len(TRAPS) * 1000 - 1), min_size=1, max_size=4)
names = st.sampled_from(sorted(TEXTS))
quiet = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def replaced(text: str, pattern: re.Pattern[str], at: int, group: int, new: str) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text + new
    match = found[at % len(found)]
    return text[: match.start(group)] + new + text[match.end(group) :]


def mutated(text: str, changes: Sequence[int]) -> str:
    for change in changes:
        rest, at = divmod(change, 1000)
        operation, trap = OPERATIONS[rest % len(OPERATIONS)], TRAPS[rest // len(OPERATIONS)]
        if operation == "value":
            text = replaced(text, _VALUE, at, 2, trap)
        elif operation == "key":
            text = replaced(text, _KEY, at, 0, trap)
        elif operation == "truncate":
            text = text[: at % (len(text) + 1)]
        elif operation == "insert":
            place = at % (len(text) + 1)
            text = text[:place] + trap + text[place:]
        else:
            lines = text.split("\n")
            change_lines(lines, operation, at, trap)
            text = "\n".join(lines)
    return text


def change_lines(lines: list[str], operation: str, at: int, trap: str) -> None:
    here, other, pad = at % len(lines), (at // 7) % len(lines), " " * (at % 5)
    line = lines[here]
    anchored = [re.sub(r":(\s|$)", r": &a\1", line, count=1), f"{pad}{trap.strip() or 'x'}: *a"]
    lines[here : here + 1] = {
        "delete": [],
        "duplicate": [line, line],
        "swap": [lines[other]],
        "indent": [" " * (1 + at % 3) + line],
        "dedent": [line[1 + at % 2 :]],
        "tab": ["\t" + line],
        "line": [pad + trap, line],
        "anchor": anchored,
        "merge": [pad + "<<: {stack: vllm-0.32}", line],
    }[operation]
    if operation == "swap":
        lines[other] = line


def well_placed(span: Span, sources: Mapping[str, str]) -> bool:
    lines = _BREAK.split(sources[span.file])
    return (
        1 <= span.line <= len(lines)
        and 1 <= span.column <= len(lines[span.line - 1]) + 1
        and (span.line, span.column) <= (span.end_line, span.end_column)
    )


def hold(diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]) -> None:
    for found in diagnostics:
        assert found.rule
        assert found.message
        assert found.why
        assert found.fix, found
        for label in (found.primary, *found.related):
            assert well_placed(label.span, sources), (label, sources[label.span.file])
    for style in FORMATS.values():
        style(diagnostics, sources)


def compiled(text: str, overrides: Sequence[str] = ()) -> Compiled:
    def read(name: str) -> str:
        if name == "profile.yaml":
            return text
        if name in TEXTS:
            return TEXTS[name]
        raise Unreadable("No such file or directory")

    outcome = compile_profile("profile.yaml", read, overrides, library())
    hold(outcome.diagnostics, outcome.sources)
    if outcome.resolved is None:
        assert any(found.severity is Severity.ERROR for found in outcome.diagnostics)
    else:
        plan = outcome.resolved.plan
        assert plan_from_json(plan.to_json()) == plan
        artifacts = emit(plan, {})
        assert {"launch.sh", "plan.json", "README.md"} <= {artifact.path for artifact in artifacts}
    return outcome


@pytest.fixture(scope="module", autouse=True)
def _templates_compiled_once() -> Iterator[None]:
    renderer = Renderer(templates())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler.emit.bundle, "Renderer", lambda _: renderer)
        yield


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_profile_is_valid_before_its_mutation(name: str) -> None:
    assert compiled(TEXTS[name]).resolved is not None


@pytest.mark.parametrize("half", [0, 1])  # two tests, so that two cores can share the work
@given(pick=st.integers(0, 99), changes=steps)
@settings(quiet, max_examples=PIPELINE // 2)
def test_a_mutated_profile_ends_in_a_plan_or_in_diagnostics(
    half: int, pick: int, changes: list[int]
) -> None:
    profiles = sorted(TEXTS)[half::2]
    compiled(mutated(TEXTS[profiles[pick % len(profiles)]], changes))


@given(first=names, second=names, cut=st.integers(0, 30), join=st.integers(0, 30), changes=steps)
@settings(quiet, max_examples=SPLICED)
def test_two_spliced_profiles_end_in_a_plan_or_in_diagnostics(
    first: str, second: str, cut: int, join: int, changes: list[int]
) -> None:
    lines = [*TEXTS[first].split("\n")[:cut], *TEXTS[second].split("\n")[join:]]
    compiled(mutated("\n".join(lines), changes[:1]))


@given(text=st.text(max_size=60))
@settings(quiet, max_examples=300)
def test_any_text_ends_in_diagnostics(text: str) -> None:
    assert compiled(text).resolved is None


@given(
    key=st.sampled_from(
        ("lmcache.chunk_size", "workers[0].gpus", "workers[0].env.A", "name", "model", "workers[9]")
    )
    | st.text(max_size=20),
    value=st.sampled_from(TRAPS) | st.text(max_size=20),
    equals=st.sampled_from(("=", "=", "=", "", "==")),
)
@settings(quiet, max_examples=400)
def test_any_override_ends_in_a_plan_or_in_diagnostics(key: str, value: str, equals: str) -> None:
    compiled(TEXTS["agg.yaml"], [key + equals + value])


def build(folder: Path, content: bytes) -> None:
    """Build through the command line; check its streams and what it wrote against its status."""
    for name, text in TEXTS.items():
        (folder / name).write_text(text, "utf-8")
    profile, out = folder / "mutated.yaml", folder / "out"
    profile.write_bytes(content)
    command = ["build", str(profile), "-o", str(out), "--format", "json", "--overwrite"]
    result = CliRunner().invoke(dync, command)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.exit_code in (0, 1, 2)
    left = sorted(path.name for path in folder.iterdir() if path.name.startswith((".", "out")))
    if result.exit_code == 0:
        assert left == ["out"]
        written = json.loads((out / ".dync.json").read_text())["files"]
        assert all((out / path).is_file() for path in written)
        (out / "logs").mkdir(exist_ok=True)
        return
    assert left in ([], ["out"])
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert any(item["severity"] == "error" for item in found)
    for item in found:
        assert item["rule"]
        assert item["fix"]
        assert item["line"] >= 1
        assert item["column"] >= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@given(name=names, changes=steps)
@settings(quiet, max_examples=COMMAND)
def test_build_of_a_mutated_profile_ends_with_status_0_or_1(
    folder: Path, name: str, changes: list[int]
) -> None:
    build(folder, mutated(TEXTS[name], changes).encode("utf-8", "surrogatepass"))


@given(content=st.binary(max_size=200))
@settings(quiet, max_examples=100)
def test_build_of_any_bytes_ends_with_status_1(folder: Path, content: bytes) -> None:
    build(folder, content)


@given(name=names, at=st.integers(0, 999), byte=st.integers(0, 255))
@settings(quiet, max_examples=100)
def test_build_of_a_profile_with_one_other_byte_ends_with_status_0_or_1(
    folder: Path, name: str, at: int, byte: int
) -> None:
    content = bytearray(TEXTS[name].encode())
    assume(at < len(content))
    content[at] = byte
    build(folder, bytes(content))


def test_nothing_is_written_for_a_profile_with_errors(tmp_path: Path) -> None:
    profile = tmp_path / "bad.yaml"
    profile.write_text(TEXTS["agg.yaml"].replace("256", "250"), "utf-8")
    result = CliRunner().invoke(dync, ["build", str(profile), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml"]


def test_the_counts_add_up() -> None:
    assert PIPELINE + SPLICED + COMMAND == 5000
