"""A word of nginx.conf means to nginx what was written: here the name of a file that it makes."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from compiler.emit.quoting import nginx_word
from tests.proxy.conftest import needs_nginx

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))


@needs_nginx
@settings(max_examples=60, deadline=None)
@example(name="a b")
@example(name='"')
@example(name="'")
@example(name="a;{}#$http_host")
@example(name="\\n\\t\\")
@example(name="\n\t\r")
@given(name=NAMES)
def test_nginx_reads_a_word_as_it_was_meant(name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        pid = f"{place}/{name}"
        conf = Path(place) / ("other" if name == "conf" else "conf")
        conf.write_text(
            f"daemon off;\npid {nginx_word(pid)};\nerror_log stderr;\nevents {{}}\n", "utf-8"
        )
        done = subprocess.run(
            ["nginx", "-t", "-q", "-p", place, "-c", str(conf), "-e", "stderr"],
            capture_output=True,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        assert {path.name for path in Path(place).iterdir()} == {conf.name, name}
