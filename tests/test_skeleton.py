"""Skeletons: braces name what is put there, and a gap is a bug."""

from __future__ import annotations

import pytest

from compiler.errors import CompilerBug
from compiler.stacks.placeholders import fill, fill_argv, text_of


def test_a_whole_word_keeps_its_type() -> None:
    words = {"port": 8100, "size": 4.5}
    assert fill("{port}", words) == 8100
    assert fill("tcp://h:{port}", words) == "tcp://h:8100"
    assert fill({"a": ["{size}", None, True, "x"]}, words) == {"a": [4.5, None, True, "x"]}


def test_argv_is_text() -> None:
    assert fill_argv(["--size", "{size}", 3], {"size": 20.0}) == ("--size", "20", "3")


def test_each_worker() -> None:
    item = {"each": "prefill", "argv": ["--prefill", "{url}"]}
    each = {"prefill": ({"url": "a"}, {"url": "b"}), "decode": ()}
    assert fill_argv([item], {}, each) == ("--prefill", "a", "--prefill", "b")
    assert fill_argv([{"each": "decode", "argv": ["{url}"]}], {}, each) == ()


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert fill_argv(["{model}"], {"model": "{port}", "port": 1}) == ("{port}",)
    assert fill("{Not} {a-word} {}", {}) == "{Not} {a-word} {}"


def test_unknown_word_is_a_bug() -> None:
    with pytest.raises(CompilerBug, match="nothing"):
        fill("{nothing}", {"port": 1})


@pytest.mark.parametrize(("value", "text"), [(20.0, "20"), (4.5, "4.5"), (7, "7"), ("a", "a")])
def test_text_of(value: float | str, text: str) -> None:
    assert text_of(value) == text
