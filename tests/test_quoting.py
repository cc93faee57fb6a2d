"""Quoting: what is written reads back as it was, in bash and in YAML."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compiler.document import Json
from compiler.emit.quoting import (
    comment,
    html_comment,
    markdown,
    shell_word,
    yaml_lines,
    yaml_scalar,
)

TRICKY = "\x85\u2028\u2029\ufeff\ufffe\x7f\x9f\t\n\r\x1b 'ab\"\\$`#:{}[],&*!%-,|>@🦜"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text(TRICKY, max_size=8)
keys = texts | st.sampled_from(["on", "No", "null", "TRUE", "y", "<<", "=", "a.b-c", "1", "", "~"])
numbers = st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
quiet = settings(deadline=None, max_examples=250, derandomize=True, database=None)


@quiet
@given(st.dictionaries(keys, values, max_size=5))
@example({"on": 1, "y": {"no": [{"null": []}]}})
@example({"a": 1e16, "b": 1e-7, "c": -0.0, "d": 5e-324})
@example({"a": [[], {}, [[]], [{}], [{"b": {}}]]})
def test_yaml_lines_read_back_equal(value: dict[str, Json]) -> None:
    text = "\n".join(yaml_lines(value)) + "\n"
    read = yaml.safe_load(text)
    assert (read or {}) == value
    assert repr(read or {}) == repr(value)


@quiet
@given(texts | numbers | st.booleans() | st.none())
def test_yaml_scalar_reads_back_equal(value: Json) -> None:
    read = yaml.safe_load(yaml_scalar(value))
    assert (read, type(read)) == (value, type(value))


def bash_words(line: str) -> list[str]:
    script = f"printf '%s\\0' {line}"
    out = subprocess.run(["bash", "-c", script], check=True, capture_output=True).stdout
    return out.decode().split("\0")[:-1]


@settings(quiet, max_examples=60)
@given(st.lists(texts.map(lambda text: text.replace("\0", "")), min_size=1, max_size=20))
def test_shell_word_by_bash(words: list[str]) -> None:
    assert bash_words(" ".join(map(shell_word, words))) == words


@pytest.mark.parametrize("word", ["0,1", "a b", "", "$(id)", "`id`", "it's", "-n", "!x", "~", "*"])
def test_shell_word(word: str) -> None:
    assert bash_words(shell_word(word)) == [word]


@quiet
@given(texts)
def test_comment_is_one_line(text: str) -> None:
    assert len(comment(text).splitlines()) <= 1
    if text.isprintable():
        assert comment(text) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("<img src=x onerror=y>", r"\<img src=x onerror=y\>"),
        ("a|b `c` [d](e)", r"a\|b \`c\` \[d\](e)"),
        ("*a* _b_ kv_events", r"\*a\* \_b\_ kv_events"),
        ("a\n# b", r"a\\n# b"),
    ],
)
def test_markdown_is_read_as_it_was_written(text: str, written: str) -> None:
    assert markdown(text) == written


def test_a_comment_of_html_does_not_end_early() -> None:
    assert "-->" not in html_comment("dync build a-->b.yaml --set x=1")
