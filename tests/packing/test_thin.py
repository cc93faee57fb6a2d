"""What a cut library keeps, and that nothing in it moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu.packing.fatbin import (
    Entry,
    Section,
    containers,
    entries,
    is_library,
    picked,
    sections,
)
from benchmarks.gpu.packing.thin import Cut, Cutter, Tally, find_filler
from tests.packing.elf import (
    ALLOCATED,
    CUBIN,
    PROGRAM_BITS,
    PTX,
    container,
    entry,
    library,
    with_device_code,
    write,
)

FILLER = entry(CUBIN, 75, b"old")
CUTTER = Cutter(sm=90, filler=FILLER)


def thinned(tmp_path: Path, data: bytes, cut: Cut, cutter: Cutter = CUTTER) -> tuple[bytes, Tally]:
    target = tmp_path / "cut/lib.so"
    tally = cutter.thin(write(tmp_path / "lib.so", data), target, cut)
    return target.read_bytes(), tally


def fatbin(data: bytes | bytearray) -> Section:
    return next(section for section in sections(data) if section.has_containers)


def held(data: bytes) -> list[list[tuple[int, int, bytes]]]:
    """Return kind, architecture and code of what each container holds."""
    section = fatbin(data)
    return [
        [
            (one.kind, one.arch, data[one.at + one.header : one.end])
            for one in entries(data, container)
        ]
        for container in containers(data, section.offset, section.size)
    ]


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        ([(CUBIN, 80), (CUBIN, 90), (CUBIN, 100), (PTX, 90)], [(CUBIN, 90)]),
        ([(CUBIN, 90), (CUBIN, 90), (CUBIN, 75)], [(CUBIN, 90), (CUBIN, 90)]),  # sm_90 and sm_90a
        ([(CUBIN, 80), (PTX, 75), (PTX, 80)], [(PTX, 80)]),
        ([(PTX, 70), (PTX, 100)], [(PTX, 70)]),
        ([(CUBIN, 80), (CUBIN, 100), (PTX, 120)], []),
        ([], []),
    ],
)
def test_an_h100_picks_its_own_code_or_else_the_newest_ptx(
    there: list[tuple[int, int]], kept: list[tuple[int, int]]
) -> None:
    found = [Entry(0, kind, 64, 8, arch) for kind, arch in there]
    assert [(one.kind, one.arch) for one in picked(found, 90)] == kept


@pytest.mark.parametrize(("sm", "arch"), [(86, 86), (89, 86), (80, 80)])
def test_code_runs_on_later_minor_numbers_of_its_architecture(sm: int, arch: int) -> None:
    found = [Entry(0, CUBIN, 64, 8, arch) for arch in (75, 80, 86, 90)]
    assert [one.arch for one in picked(found, sm)] == [arch]


def test_the_picked_entries_stay_and_nothing_moves(tmp_path: Path) -> None:
    data = with_device_code(
        container(entry(CUBIN, 80, b"a" * 200), entry(CUBIN, 90, b"b" * 100)),
        container(entry(CUBIN, 90, b"c" * 40), entry(PTX, 90, b"d" * 300)),
    )
    cut, tally = thinned(tmp_path, data, Cut())
    assert len(cut) == len(data)
    assert sections(cut) == sections(data)
    starts = [[one.at for one in containers(file, *fatbin(file)[3:])] for file in (data, cut)]
    assert starts[0] == starts[1]
    assert held(cut) == [[(CUBIN, 90, b"b" * 100)], [(CUBIN, 90, b"c" * 40)]]
    text = next(section for section in sections(data) if section.name == ".text")
    assert cut[text.offset :][: text.size] == b"\x90host code"
    assert tally == Tally(tables=63, kept=164 + 104, cut=264 + 364)
    for byte in (b"a", b"d", b"symbols"):
        assert byte * 9 in data
        assert byte * 9 not in cut


def test_a_container_that_loses_everything_gets_the_filler(tmp_path: Path) -> None:
    data = with_device_code(
        container(entry(CUBIN, 100, b"a" * 100)), container(entry(CUBIN, 100, b""))
    )
    cut, tally = thinned(tmp_path, data, Cut())
    assert held(cut) == [[(CUBIN, 75, b"old")], [(CUBIN, 100, b"")]]  # too small for it
    assert (tally.fillers, tally.too_small) == (1, 1)


def test_ptx_and_sections_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    data = with_device_code(container(entry(PTX, 80, b"p" * 100)))
    assert held(thinned(tmp_path, data, Cut())[0]) == [[(PTX, 80, b"p" * 100)]]
    for cut in (Cut(ptx=True), Cut(empty=frozenset({".nv_fatbin"}))):
        assert held(thinned(tmp_path, data, cut)[0]) == [[(CUBIN, 75, b"old")]]


def test_kernels_are_left_out_where_all_of_an_entry_match(tmp_path: Path) -> None:
    named = [b"\0.text.flash_one\0.text.flash_two\0", b"\0.text.flash_one\0.text.sort\0", b"\0none"]
    data = with_device_code(*(container(entry(CUBIN, 90, code.ljust(80))) for code in named))
    cut, _ = thinned(tmp_path, data, Cut(kernels="flash"))
    assert [found[0][1] for found in held(cut)] == [75, 90, 90]


def test_the_magic_in_other_bytes_is_no_container() -> None:
    data = with_device_code(container(FILLER), container(FILLER), between=b"\x50\xed\x55\xba" * 3)
    section = fatbin(data)
    assert len(list(containers(data, section.offset, section.size))) == 2


def test_an_entry_beyond_its_container_is_refused() -> None:
    data = bytearray(with_device_code(container(entry(CUBIN, 90, b"x" * 64))))
    [found] = containers(data, *fatbin(data)[3:])
    data[found.body + 8] += 1
    with pytest.raises(ValueError, match="leaves its container"):
        list(entries(data, found))


def test_the_filler_is_the_smallest_of_the_oldest_that_is_never_picked(tmp_path: Path) -> None:
    data = with_device_code(
        container(entry(CUBIN, 80, b"8"), entry(CUBIN, 75, b"77777"), entry(CUBIN, 75, b"77")),
        container(entry(CUBIN, 90, b""), entry(PTX, 50, b"")),
    )
    assert find_filler(write(tmp_path / "lib.so", data), 90) == entry(CUBIN, 75, b"77")
    with pytest.raises(ValueError, match="no filler"):
        find_filler(write(tmp_path / "new.so", with_device_code(container())), 90)


@pytest.mark.parametrize("data", [b"text", b"\x7fELF", library([], kind=1)])
def test_what_the_loader_does_not_map_is_copied_as_it_is(tmp_path: Path, data: bytes) -> None:
    assert not is_library(data)
    assert thinned(tmp_path, data, Cut()) == (data, Tally())


def test_a_library_without_device_code_loses_its_tables_only(tmp_path: Path) -> None:
    given = [(".data", PROGRAM_BITS, ALLOCATED, b"kept"), (".debug_info", 1, 0, b"debug")]
    cut, tally = thinned(tmp_path, library(given), Cut())
    assert cut == library([given[0], (".debug_info", 1, 0, b"\0" * 5)])
    assert tally == Tally(tables=5)
