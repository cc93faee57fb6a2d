"""What started processes read back is what the plan says, for whatever text a profile holds."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compiler.emit.bundle import emit
from compiler.emit.engine_files import option_lines
from compiler.emit.quoting import yaml_lines
from compiler.library import library, templates
from compiler.pipeline import compile_profile
from compiler.plan import Plan
from compiler.process import Kind, Launch, Process, WithoutLmcache
from compiler.write.bundle import write

HOSTILE = {
    "space": " two  words ",
    "single-quote": "it's",
    "double-quote": 'say "hi"',
    "both-quotes": "'\"'\"'",
    "substitution": "$(touch pwned) ${HOME} $HOME",
    "backtick": "`touch pwned`",
    "backslash": "back\\slash \\n \\",
    "percent": "%s %n 100%",
    "newline": "two\nlines\n",
    "carriage-return": "a\r\nb\rc",
    "tab": "a\tb",
    "control": "\x01\x1b[31m\x7f",
    "non-ascii": "é ü ß 漢字 \u202e \xa0",
    "line-separators": "\x85 \u2028 \u2029 \ufeff",
    "emoji": "🦜👩‍👩‍👧",
    "equals": "a=b==c",
    "glob": "* ? [a-z] ~ {a,b}",
    "operators": "; & | < > ! # ( )",
    "braces": "{model} {{ 7 * 7 }} {% raw %} {python}",
    "yaml": ": - # & * ! | > [ ] { } , ? @ `",
    "number": "1e9",
    "truth": "no",
    "empty-looking": "~",
    "comment-end": "\n: > pwned; #",
    "here-document": "<<EOF\nEOF\n",
}
PROGRAM = f"""#!{sys.executable} -IS
import json
words = open("/proc/self/cmdline", "rb").read().split(b"\\0")[:-1]
pairs = open("/proc/self/environ", "rb").read().split(b"\\0")[:-1]
text = [[item.decode("utf-8", "surrogateescape") for item in items] for items in (words, pairs)]
print(json.dumps(text))
"""
DIRTY = {
    "LMCACHE_CONFIG_FILE": "/etc/other.yaml",
    "LMCACHE_BLENDER": "1",
    "VLLM_LOGGING_LEVEL": "DEBUG",
    "VLLM_PORT": "1",
    "PYTHONPATH": "/elsewhere",
    "PYTHONSTARTUP": "/elsewhere.py",
    "LD_LIBRARY_PATH": "/elsewhere",
    "CUDA_VISIBLE_DEVICES": "7",
    "LC_ALL": "C",
    "IFS": "x",
    "A_B": "two\nlines=1",
}
KEPT = {"HOME": "/home/a b", "HF_HOME": "/srv/hf'$(id)", "HF_TOKEN": 'hf_"x'}


def as_yaml(value: Any) -> str:
    """Write a value as flow YAML in which every character but plain ASCII is escaped."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{as_yaml(k)}: {as_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, str):
        escaped = (c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return '"' + "".join(escaped) + '"'
    return json.dumps(value)


@dataclass
class Started:
    """One process as it saw itself."""

    argv: list[str]
    env: dict[str, str]


@dataclass
class Built:
    """A bundle on disk, and programs that tell how they were started."""

    plan: Plan
    place: Path

    def process(self, name: str) -> Process:
        return next(process for process in self.plan.processes if process.name == name)

    def start(self, name: str, caller: Mapping[str, str]) -> Started:
        result = subprocess.run(
            ["bash", str(self.place / "bin" / f"{name}.sh")],
            env={"PATH": os.environ["PATH"], **caller},
            cwd="/",
            capture_output=True,
            check=True,
            timeout=20,
        )
        words, pairs = json.loads(result.stdout)
        env = dict(pair.split("=", 1) for pair in pairs)
        assert len(env) == len(pairs), "a variable is there twice"
        return Started(words[2:], env)


def built(folder: Path, profile: Mapping[str, Any]) -> Built:
    outcome = compile_profile("p.yaml", lambda _: as_yaml(profile), (), library())
    assert outcome.resolved is not None, outcome.diagnostics
    plan = outcome.resolved.plan
    for process in plan.processes:
        program = Path(process.argv[0])
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(PROGRAM)
        program.chmod(0o755)
    place = folder / "the bundle"
    write(emit(plan, templates()), place)
    return Built(plan, place)


def profile_with(text: str, prefix: str, **changes: Any) -> dict[str, Any]:
    """Return a profile that holds the text wherever a profile may hold text."""
    worker = {
        "engine_args": {
            "enforce_eager": True,
            "otlp_traces_endpoint": f"x{text}",
            "middleware": [f"x{text}"],
            "allowed_origins": [text, "*"],
            "ignore_patterns": [f"x{text}", "b"],
            "additional_config": {f"x{text}": {"deep": [text, 1, 0.5, None, True]}, "k": text},
        },
        "env": {"A": text, "B_2": f"={text}", "VLLM_CPU_KVCACHE_SPACE": 1},
    }
    return {
        "name": "hostile",
        "stack": "vllm-0.32",
        "topology": "disagg",
        "accelerator": "cpu",
        "model": {"id": f"/srv/{text}", "served_name": f"m{text}"},
        "lmcache": {"chunk_size": 128, "cpu_cache_gb": 1},
        "workers": [{"role": "decode", **worker}, {"role": "prefill", **worker}],
        "deploy": {"prefix": prefix},
        **changes,
    }


def assert_round_trip(made: Built) -> None:
    for process in made.plan.processes:
        bare = made.start(process.name, {})
        assert bare.argv == list(process.argv)
        assert bare.env == dict(process.env)
        dirty = made.start(process.name, {**DIRTY, **KEPT})
        assert dirty.argv == list(process.argv)
        assert dirty.env == {**KEPT, **process.env}
        if process.kind is Kind.WORKER:
            text = (made.place / "engine" / f"{process.name}.yaml").read_text("utf-8")
            assert yaml.safe_load(text) == option_lines(process.launch)
    files = {str(path.relative_to(made.place)) for path in made.place.rglob("*")}
    assert not any("pwned" in name for name in files)
    assert not Path("/pwned").exists()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dync-hostile-") as name:
        yield Path(name)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_arrives_as_it_is_written(folder: Path, text: str) -> None:
    made = built(folder, profile_with(text, f"{folder}/pre{text.replace('/', '')}fix"))
    assert_round_trip(made)
    worker = made.process("prefill-0")
    assert worker.env["A"] == text
    assert worker.launch.engine_args["served_model_name"] == [f"m{text}"]
    assert any(f"/srv/{text}" in word for word in worker.argv)


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
@example(text="\\\n'\"$(`")
@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=12,
    suppress_health_check=list(HealthCheck),
)
def test_any_text_arrives_as_it_is_written(text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="dync-hostile-") as name:
        worker = {"role": "aggregated", "env": {"A": text}, "lmcache": True}
        profile = profile_with(text, f"{name}/prefix", topology="agg", workers=[worker])
        assert_round_trip(built(Path(name), profile))


@given(
    values=st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(10**17), 10**17)
            | st.floats(-1e17, 1e17)
            | st.text(max_size=12),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=6), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
@settings(derandomize=True, deadline=None, database=None, max_examples=200)
def test_any_tree_is_read_back_from_yaml_as_it_was(values: dict[str, Any]) -> None:
    text = "# a comment\n" + "\n".join(yaml_lines({"top": values, **values})) + "\n"
    assert yaml.safe_load(text) == {"top": values, **values}


def agg(folder: Path, mode: str) -> Built:
    changes = {
        "topology": "agg",
        "accelerator": "cuda",
        "workers": [{"role": "aggregated", "gpus": [0], "env": {"A": "b c"}}],
        "lmcache": {"chunk_size": 256, "cpu_cache_gb": 1, "mode": mode},
        "stack": "vllm-0.32" if mode == "multiprocess" else "vllm-0.25",
    }
    return built(folder, profile_with("a b", f"{folder}/pre fix", **changes))


@pytest.mark.parametrize("mode", ["multiprocess", "in_process"])
def test_the_form_without_lmcache_starts_as_planned(folder: Path, mode: str) -> None:
    made = agg(folder, mode)
    for process in made.plan.processes:
        off = process.without_lmcache
        if off is WithoutLmcache.NOT_STARTED:
            with pytest.raises(subprocess.CalledProcessError) as refused:
                made.start(process.name, {"ENABLE_LMCACHE": "0"})
            assert refused.value.returncode == 2
            continue
        assert isinstance(off, Launch)
        started = made.start(process.name, {"ENABLE_LMCACHE": "0", **DIRTY, **KEPT})
        assert started.argv == list(off.argv)
        assert started.env == {**KEPT, **off.env}
        engine_file = next(word for word in started.argv if word.startswith("engine/"))
        options = yaml.safe_load((made.place / engine_file).read_text("utf-8"))
        assert options == option_lines(off)
        assert "kv-transfer-config" not in options
    assert any(isinstance(process.without_lmcache, Launch) for process in made.plan.processes)


def test_the_chunk_size_switch_arrives_in_the_cache_servers_argv(folder: Path) -> None:
    made = agg(folder, "multiprocess")
    planned = made.process("lmcache")
    started = made.start("lmcache", {"LMCACHE_CHUNK_SIZE": "512"})
    expected = list(planned.argv)
    expected[planned.switch_argv["LMCACHE_CHUNK_SIZE"]] = "512"
    assert started.argv == expected != list(planned.argv)
    assert started.env == dict(planned.env)


def test_the_chunk_size_switch_arrives_in_an_in_process_workers_environment(folder: Path) -> None:
    made = agg(folder, "in_process")
    planned = made.process("aggregated-0")
    started = made.start("aggregated-0", {"LMCACHE_CHUNK_SIZE": "512"})
    assert started.argv == list(planned.argv)
    assert started.env == {**planned.env, "LMCACHE_CHUNK_SIZE": "512"}


def test_the_in_process_caches_file_holds_the_plans_keys(folder: Path) -> None:
    made = agg(folder, "in_process")
    planned = made.process("aggregated-0")
    text = (made.place / planned.env["LMCACHE_CONFIG_FILE"]).read_text("utf-8")
    assert yaml.safe_load(text) == planned.launch.lmcache_config
    assert re.search("chunk_size: 256", text)
