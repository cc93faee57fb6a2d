"""Packages for pip and uv, made here: wheels, and a source whose build leaves a trace."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str], needs: str = "") -> str:
    """Make a wheel; return its hash."""
    info = f"{name}-{version}.dist-info"
    texts = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*texts, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with ZipFile(path, "w") as file:
        for place, text in {**texts, f"{info}/RECORD": record}.items():
            file.writestr(place, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


_BACKEND = """
import pathlib, zipfile
import tool

def build_wheel(folder, config_settings=None, metadata_directory=None):
    pathlib.Path({trap!r}).touch()
    name, info = "engine-1.4-py3-none-any.whl", "engine-1.4.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as file:
        file.writestr("engine.py", "")
        file.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: engine\\nVersion: 1.4\\n")
        file.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        file.writestr(info + "/RECORD", "engine.py,,\\n" + info + "/RECORD,,\\n")
    return name
"""


def source(folder: Path, trap: Path) -> str:
    """Make a source distribution of `engine`, whose build takes `tool` and leaves a trace."""
    path = folder / "engine-1.4.tar.gz"
    texts = {
        "pyproject.toml": '[build-system]\nrequires = ["tool"]\nbuild-backend = "backend"\n'
        'backend-path = ["."]\n',
        "backend.py": _BACKEND.format(trap=str(trap)),
        "PKG-INFO": "Metadata-Version: 2.1\nName: engine\nVersion: 1.4\n",
    }
    with tarfile.open(path, "w:gz") as file:
        for place, text in texts.items():
            entry = tarfile.TarInfo(f"engine-1.4/{place}")
            entry.size = len(text)
            file.addfile(entry, BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()
