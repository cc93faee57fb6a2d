"""No secret of a profile is printed, in whatever form it stands there, by any format."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from compiler.cli.main import dync
from compiler.load.secrets import is_secret, masked
from compiler.report.diagnostics import FORMATS
from tests.support import AGG

SECRET = "hunter2-Wq"
ENV = "    env: {A: 1, VLLM_NO_SUCH: 1}\n"
WORKERS = "workers:\n  - role: aggregated\n    gpus: [0]\n"
BASE = AGG.replace("workers: [{role: aggregated, gpus: [0]}]\n", "")
PROFILES = {
    "unknown-key": f"{AGG}api_key: {SECRET}\n",
    "unknown-below": f"{AGG}frontend: {{password: {SECRET}, port: x}}\n",
    "quoted": f"{AGG}secret_key: '{SECRET} x' # more\n",
    "quoted-key": f"{AGG}'password': \"{SECRET}\"\n",
    "humps": f"{AGG}apiKey: {SECRET}\n",
    "list": f"{AGG}passwords: 1\nsecrets: [a, {SECRET}]\n",
    "mapping": f"{AGG}secret: {{a: {SECRET}}}\n",
    "block": f"{AGG}token: |\n  {SECRET}\n  {SECRET}\n",
    "next-line": f"{AGG}token:\n  {SECRET}\n",
    "asked-key": f"{AGG}? token\n: {SECRET}\n",
    "anchor": f"{AGG}x: &a {SECRET}\ntoken: *a\n",
    "not-yaml": f"{AGG}password: {SECRET}\nb: [\n",
    "not-yaml-after": f"{AGG}b: ]\npassword: {SECRET}\n",
    "no-colon": f"{AGG}password {SECRET}\npassword: {SECRET}\n",
    "comment": f"{AGG}x: 1 # password: {SECRET}\n",
    "twice": f"{AGG}token: {SECRET}\ntoken: {SECRET}\n",
    "address": f"{AGG}x: redis://u:{SECRET}@h:1\n",
    "address-alone": f"{AGG}x: redis://{SECRET}@h:1\n",
    "address-query": f"{AGG}x: redis://h/?password={SECRET}&b=1\n",
    "address-spaces": f'{AGG}x: "redis://u:a b {SECRET}@h"\n',
    "address-quote": f"{AGG}x: 'redis://u:a\"{SECRET}@h'\n",
    "hosts": f"{AGG}lmcache: {{tiers: [{{redis: {{hosts: ['u:{SECRET}@h']}}}}]}}\n",
    "cut": f"{AGG}frontend: {{host: 'redis://user:{SECRET * 20}@h'}}\n",
    "cut-before-at": f"{AGG}frontend: {{host: '{'a' * 20}://user:{'b' * 22}{SECRET * 20}@h'}}\n",
    "number-wanted": f"{AGG}lmcache: {{tiers: [{{redis: {{url: 1, password: {SECRET}}}}}]}}\n",
    "engine-option": f"{BASE}{WORKERS}    engine_args: {{api_key: {SECRET}}}\n",
    "engine-type": f"{BASE}{WORKERS}    engine_args: {{hf_token: [{SECRET}], seed: x}}\n",
    "variable": f"{BASE}{WORKERS}    env: {{A_TOKEN: {SECRET}, VLLM_NO_SUCH: 1}}\n",
    "long-line": f"{AGG}frontend: {{port: x, token: {SECRET}, {'a' * 200}: b}}\n",
}
OPTIONS = ["api_key=X", "frontend.token=[X]", "a=redis://u:X@h", "b={token: X}"]
SECRETS = [
    "password",
    "PASSWORD",
    "db_passwd",
    "HF_TOKEN",
    "token",
    "apiKey",
    "api-key",
    "AWS_SECRET_ACCESS_KEY",
    "secret_key",
    "MYSQL_PWD",
    "AWS_SESSION_TOKEN",
    "TOKEN_2",
    "secrets",
    "CLIENT_SECRET_VALUE",
    "private_key",
]
OTHERS = [
    "password_file",
    "HF_TOKEN_FILE",
    "HF_TOKEN_PATH",
    "api_key_file",
    "max_num_batched_tokens",
    "tokenizer",
    "PWD",
    "skip_tokenizer_init",
    "long_prefill_token_threshold",
    "allow_credentials",
    "key",
    "valkey",
    "key_prefix",
    "TOKENIZERS_PARALLELISM",
    "AWS_ACCESS_KEY_ID",
    "spec_tokens",
    "LMCACHE_MIN_RETRIEVE_TOKENS",
]


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("name", PROFILES)
def test_no_format_prints_a_secret(name: str, style: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(PROFILES[name], "utf-8")
    result = CliRunner().invoke(dync, ["check", str(path), "--format", style])
    assert result.exit_code == 1
    assert SECRET[:7] not in result.output


@pytest.mark.parametrize("option", OPTIONS)
def test_no_option_prints_a_secret(option: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(AGG, "utf-8")
    option = option.replace("X", SECRET)
    result = CliRunner().invoke(dync, ["check", str(path), "--set", option])
    assert result.exit_code == 1
    assert SECRET not in result.output


def test_a_value_that_yaml_reads_in_two_ways_is_not_named(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"{AGG}password: 0123457\n", "utf-8")
    result = CliRunner().invoke(dync, ["check", str(path)])
    assert "23457" not in result.output
    assert "unquoted ******* is an octal number" in result.output


def test_the_marks_still_stand_below_what_they_mark(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"{AGG}token: abc\nport: 1\nfrontend: {{token: abcd, port: x}}\n", "utf-8")
    text = CliRunner().invoke(dync, ["check", str(path)]).output
    assert "frontend: {token: ****, port: x}" in text
    assert "\n   |                               ^" in text


@pytest.mark.parametrize(
    "name",
    SECRETS,
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    OTHERS,
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret(name)


def test_what_is_no_secret_stays() -> None:
    for text in ("http://h:1/a", "a:1:2: x", "me@h", "write api_key_file: /a/b", "token: null"):
        assert masked(text) == text
