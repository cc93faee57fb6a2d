"""The pages of the rules that reading a profile and its schema enforce."""

from __future__ import annotations

import textwrap

_PROFILE = """\
name: one
stack: vllm-0.32
topology: agg
model: {id: Qwen/Qwen3-0.6B}
workers: [{role: aggregated, gpus: [0]}]
"""
_SCHEMA = "schemas/profile.schema.json (dync schema)"


def _page(claim: str, why: str, rejected: str, source: str, accepted: str = _PROFILE) -> str:
    blocks = (
        claim,
        textwrap.fill(" ".join(why.split()), 100),
        "Accepted:\n" + textwrap.indent(accepted, "    ").rstrip(),
        "Rejected:\n" + textwrap.indent(rejected, "    ").rstrip(),
        f"Source: {source}",
    )
    return "\n\n".join(blocks) + "\n"


def _with(old: str, new: str) -> str:
    """Return the accepted profile with one text replaced."""
    return _PROFILE.replace(old, new)


READING_PAGES: dict[str, str] = {
    "yaml-syntax": _page(
        "A profile is one YAML document of mappings, lists and plain values.",
        """Everything else that YAML has, such as tags and a second document, is refused too: no
        value of a profile needs it. Control characters are not allowed anywhere in YAML.""",
        _with("[0]}]", "[0}]"),
        "YAML 1.2.2, yaml.org/spec/1.2.2; PyYAML 6.0.",
    ),
    "yaml-key": _page(
        "Every key is text.",
        """Unquoted 1, true, null or nothing at all is another kind of value, which names no key of
        the profile.""",
        _with("{id: Qwen/Qwen3-0.6B}", "{id: Qwen/Qwen3-0.6B, 1: x}"),
        "YAML 1.2.2 section 10.3.2, the core schema.",
    ),
    "duplicate-key": _page(
        "A key stands once in its mapping.",
        "YAML readers keep the last of two equal keys and say nothing about the first.",
        _PROFILE + "topology: disagg\n",
        "YAML 1.2.2 section 3.2.1.3; PyYAML 6.0 constructor.py, construct_mapping.",
    ),
    "yaml-ambiguous-scalar": _page(
        "An unquoted value means the same in YAML 1.1 and 1.2.",
        """YAML 1.1, which most Python programs read, takes no for false, 22:22 for 1342 and 010 for
        8; YAML 1.2 does not. So dync asks for true or false, a plain decimal number, or quotes.""",
        _PROFILE + "lmcache: {enabled: no}\n",
        "yaml.org/type (YAML 1.1); YAML 1.2.2 section 10.3.2; PyYAML 6.0 resolver.py.",
        _PROFILE + "lmcache: {enabled: false}\n",
    ),
    "extends": _page(
        "A profile that another one extends exists, and does not lead back to it.",
        """The path is relative to the file that names it. Mappings merge key by key; lists and
        plain values are replaced. The examples stand beside profiles/agg.yaml.""",
        "extends: no-such-profile.yaml\nname: two\n",
        "this compiler's own choice, schemas/profile.schema.json.",
        "extends: agg.yaml\nname: two\n",
    ),
    "set-option": _page(
        "--set takes a dotted key of the profile and a value: KEY=VALUE.",
        """An entry of a list is named by its number, from 0: workers[0].gpus=[2]. The value is read
        as YAML, exactly as in a profile. What a profile extends is chosen in the file alone.""",
        "--set workers[3].port=8200\n" + _PROFILE,
        "this compiler's own choice, in the form of Helm's --set.",
        "--set lmcache.chunk_size=512\n" + _PROFILE,
    ),
    "unknown-key": _page(
        "Every key of a profile is one that dync reads.",
        "A misspelt key would otherwise be ignored in silence, and its default would hold.",
        _PROFILE + "lmcache: {chunksize: 512}\n",
        _SCHEMA,
        _PROFILE + "lmcache: {chunk_size: 512}\n",
    ),
    "missing-key": _page(
        "A profile has name, stack, topology, model.id and workers, and each worker a role.",
        "Nothing sensible can be assumed for them.",
        _with("stack: vllm-0.32\n", ""),
        _SCHEMA,
    ),
    "wrong-type": _page(
        "A value is of its key's kind: text, a number, a truth value, a list or a mapping.",
        """Quantities are plain numbers in the unit that the key names, so 20GB is refused; text
        that looks like a number needs quotes.""",
        _PROFILE + "lmcache: {cpu_cache_gb: 20GB}\n",
        _SCHEMA,
        _PROFILE + "lmcache: {cpu_cache_gb: 20}\n",
    ),
    "wrong-value": _page(
        "A value of a closed set is one of the set.",
        "For example, topology is agg or disagg, and accelerator is cuda or cpu.",
        _with("topology: agg", "topology: aggregated"),
        _SCHEMA,
    ),
    "wrong-form": _page(
        "Text has the form that its key asks for.",
        """A name becomes part of unit and file names, a host has no scheme or port, and paths are
        absolute, since a bundle may be launched from anywhere.""",
        _with("name: one", "name: My Deployment"),
        _SCHEMA,
    ),
    "out-of-range": _page(
        "A number, or a list's length, lies within the key's bounds.",
        "For example, a port is 1 to 65535, and a profile has at least one group of workers.",
        _PROFILE + "frontend: {port: 80000}\n",
        _SCHEMA,
        _PROFILE + "frontend: {port: 9000}\n",
    ),
    "unknown-stack": _page(
        "The stack is one that ships with dync.",
        """A stack is a released set of engine versions with its flags, defaults and known faults;
        dync compiles for no other.""",
        _with("vllm-0.32", "vllm-0.33"),
        "schemas/stacks/.",
    ),
    "ignore-comment": _page(
        "A comment that leaves out a finding names its rule, says why, and is needed.",
        """`# dync: ignore[rule] reason` holds for the warnings and infos of its own line. Errors
        stay: what breaks is mended, not left out.""",
        _with("topology: agg", "topology: agg # dync: ignore[lmcache-disk]"),
        "this compiler's own choice, in the form of ruff's noqa.",
        _with("vllm-0.32", "vllm-0.25")
        + """lmcache: {mode: in_process} # dync: ignore[in-process-full-graphs] we know
""",
    ),
}
