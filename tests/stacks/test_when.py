"""The dialect of `when`: one value, several, any, none."""

from __future__ import annotations

from compiler.document import Json
from compiler.resolve.conditions import worker_facts
from compiler.stacks.when import When, parse_when
from tests.stacks.support import topology_of


def matches(when: dict[str, Json], **facts: Json) -> bool:
    return parse_when(when).matches(facts.get)


def test_one_value_or_one_of_several() -> None:
    assert matches({"mode": "in_process"}, mode="in_process")
    assert not matches({"mode": "in_process"}, mode="multiprocess")
    assert matches({"role": ["prefill", "decode"]}, role="decode")
    assert not matches({"role": ["prefill", "decode"]}, role="aggregated")


def test_any_and_none() -> None:
    assert matches({"sentinel": "*"}, sentinel="x")
    assert matches({"sentinel": ["*"]}, sentinel=False)  # given, if only to say no
    assert not matches({"sentinel": "*"})
    assert matches({"size_gb": None})
    assert not matches({"size_gb": [None]}, size_gb=0)
    assert matches({"eager": [False, None]})
    assert matches({"eager": ["*", None]}, eager=True)


def test_all_of_it_must_hold() -> None:
    when: dict[str, Json] = {"tls": True, "password_file": "*"}
    assert matches(when, tls=True, password_file="/p")
    assert not matches(when, tls=True)
    assert matches({})
    assert list(parse_when(when).unmet({"tls": False}.get)) == ["tls", "password_file"]


def test_a_value_or_a_list_of_it_is_the_same() -> None:
    assert parse_when({"a": 1}) == parse_when({"a": [1]}) == When({"a": (1,)})


def test_a_worker_is_asked_for_its_form_its_variables_and_its_options() -> None:
    options = ", engine_args: {enforce_eager: true}, env: {HF_HUB_OFFLINE: '1'}"
    topology = topology_of("", options)
    facts = worker_facts(topology, topology.workers[0], lmcache=False)
    assert facts("mode") == "multiprocess"
    assert facts("routing") == "round_robin"
    assert facts("lmcache") is False
    assert facts("enforce_eager") is True
    assert facts("HF_HUB_OFFLINE") == "1"
    assert facts("hf_hub_offline") is None
