"""Pack a stack's engines for a machine without a network: wheels, unpacked, in parts.

For a machine whose Python 3.12 has torch 2.11 (cu130) and what engines/ leaves out. The parts
are of one .tar.xz; `install_engines.sh` joins them. About 4 minutes and 420 MB of downloads.
"""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35, 39)
# Not needed on one Hopper GPU: FlashAttention 2 kernels (3 is used), the Rust frontend, headers for
# JIT, other Pythons' deep_gemm, a static library, nixl_ep (not built for this torch), translations.
NOT_NEEDED = (
    "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so",
    "vllm/vllm-rs",
    "vllm/third_party/deep_gemm/include",
    "vllm/third_party/deep_gemm/_C.cpython-31[0134]*",
    "vllm/third_party/fmha_sm100/cutlass",
    "xgrammar/lib/libxgrammar.a",
    "nixl_ep*",
    "pycountry/locales",
    "mooncake/libmooncake_*",
    "mooncake/_ep.*",
    "mooncake/transfer_engine_bench",
    "mooncake/mooncake_client",
)


def pack(stack: str, work: Path, parts: Path, part_mib: int) -> list[Path]:
    """Download, unpack, thin out and split; return the parts."""
    wheels, site = work / "wheels", work / "site"
    for folder in (wheels, parts):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(site, ignore_errors=True)
    _download(HERE / "engines" / f"{stack}.txt", wheels)
    for wheel in sorted(wheels.glob("*.whl")):
        zipfile.ZipFile(wheel).extractall(site)
    _place_data(site)
    _write_commands(site)
    for pattern in NOT_NEEDED:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return _split(site, parts, part_mib)


def _download(listing: Path, wheels: Path) -> None:
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC_MINORS]
    tags = [*platforms, "manylinux2014_x86_64", "manylinux1_x86_64"]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", "-d", str(wheels)]
    command += [word for tag in tags for word in ("--platform", tag)]
    subprocess.run([*command, "-r", str(listing)], check=True)


def _place_data(site: Path) -> None:
    """Do what an installer does with a wheel's .data folder."""
    for data in site.glob("*.data"):
        for kind, target in (("purelib", site), ("platlib", site), ("scripts", site / "bin")):
            if (data / kind).is_dir():
                shutil.copytree(data / kind, target, dirs_exist_ok=True)
        shutil.rmtree(data)


def _write_commands(site: Path) -> None:
    (site / "bin").mkdir(exist_ok=True)
    for listing in site.glob("*.dist-info/entry_points.txt"):
        parser = configparser.ConfigParser(delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment]  # names keep their case
        parser.read(listing)
        scripts = parser["console_scripts"] if parser.has_section("console_scripts") else {}
        for name, target in scripts.items():
            module, function = target.split("[")[0].strip().split(":")
            command = site / "bin" / name
            command.write_text(
                "#!/usr/bin/env python3\nimport sys\n"
                f"from {module.strip()} import {function.split('.')[0]}\n"
                f"sys.exit({function.strip()}())\n"
            )
            command.chmod(0o755)


def _split(site: Path, parts: Path, part_mib: int) -> list[Path]:
    for old in parts.glob("engines.xz.*"):
        old.unlink()
    pack = f"tar --sort=name -C '{site}' -cf - . | xz -T0 -6"
    split = f"split -b {part_mib}M -d - '{parts}/engines.xz.'"
    subprocess.run(["bash", "-o", "pipefail", "-c", f"{pack} | {split}"], check=True)
    return sorted(parts.glob("engines.xz.*"))
