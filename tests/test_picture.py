"""topology.svg and its Mermaid twin: all of the plan is there, legible, and nothing overlaps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.cli.main import dync
from compiler.emit.picture.mermaid import mermaid
from compiler.emit.picture.svg import picture
from compiler.emit.picture.text_width import shortened, text_width
from compiler.emit.render import Renderer
from compiler.library import templates
from compiler.plan import Plan
from compiler.process import Kind, Tier, TierServer
from compiler.write.plan_reader import plan_from_json
from tests.support import AGG, DISAGG, IN_PROCESS, PROFILES, ROOT, compile_text, plan_of

GOLDEN = sorted((ROOT / "tests/golden").glob("*/expected/plan.json"))
SVG = "{http://www.w3.org/2000/svg}"
RENDERER = Renderer(templates())
SIZES = {"name": 18, "heading": 14, "gpu": 11, "label": 11}
BOLD = ("name", "heading", "caption", "transfer")
DISK = Tier(
    kind="disk",
    place="/var/kv",
    folder="/var/kv",
    size_bytes=1 << 37,
    persistent=True,
    shared=False,
)
REDIS = Tier(
    kind="redis",
    place="redis://10.0.0.5:6379",
    persistent=True,
    shared=True,
    server=TierServer(host="10.0.0.5", port=6379),
)


@dataclass(frozen=True)
class Area:
    """A rectangle of the picture, or the estimated one of a line of text."""

    left: float
    top: float
    right: float
    bottom: float
    says: str

    def overlaps(self, other: Area) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: Area) -> bool:
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


class Drawn:
    """A picture, read back."""

    def __init__(self, plan: Plan) -> None:
        self.text = picture(plan, RENDERER)
        self.root = ElementTree.fromstring(self.text)
        width, height = (float(self.root.get(key, "0")) for key in ("width", "height"))
        self.page = Area(0, 0, width, height, "page")
        nodes = [
            item for item in self.root.findall(f"{SVG}g") if item.find(f"{SVG}title") is not None
        ]
        self.boxes = [(rect_of(node), node) for node in nodes]
        self.frames = [
            rect_of(item)
            for item in self.root.findall(f"{SVG}rect")
            if item.get("class") in ("group", "host", "outside")
        ]
        loose = self.root.findall(f"{SVG}text")
        self.labels = [text_of(item) for item in loose if "label" in item.get("class", "")]
        self.captions = [text_of(item) for item in loose if item.get("class") == "caption"]
        self.headings = [text_of(item) for item in loose if item.get("class") in ("name", "fact")]


def rect_of(node: ElementTree.Element) -> Area:
    rect = node if node.tag == f"{SVG}rect" else node.find(f"{SVG}rect")
    assert rect is not None
    x, y, width, height = (float(rect.get(key, "nan")) for key in ("x", "y", "width", "height"))
    title = node.find(f"{SVG}title")
    says = str(node.get("class")) if title is None else str(title.text)
    return Area(x, y, x + width, y + height, says)


def text_of(item: ElementTree.Element) -> Area:
    classes = item.get("class", "").split()
    size = SIZES.get(classes[0], 12)
    width = text_width(item.text or "", size, bold=any(name in BOLD for name in classes))
    x, y = float(item.get("x", "nan")), float(item.get("y", "nan"))
    return Area(x, y - size * 0.8, x + width, y + size * 0.22, item.text or "")


def is_legible(drawn: Drawn) -> None:
    boxes_hold_their_text(drawn)
    areas = [area for area, _ in drawn.boxes]
    for one, other in combinations([*areas, *drawn.labels], 2):
        assert not one.overlaps(other), (one, other)
    for frame in drawn.frames:
        assert drawn.page.holds(frame)
    for caption in (*drawn.captions, *drawn.labels, *drawn.headings):
        assert drawn.page.holds(caption), caption
        assert not any(caption.overlaps(area) for area in areas), caption
    for drawn_line in drawn.root.findall(f"{SVG}polyline"):
        for between in segments(str(drawn_line.get("points"))):
            assert not any(between.overlaps(area) for area in (*areas, *drawn.labels)), between


def boxes_hold_their_text(drawn: Drawn) -> None:
    for area, node in drawn.boxes:
        lines = [text_of(item) for item in node.iter(f"{SVG}text")]
        assert lines
        for line in lines:
            assert area.holds(line), (area, line)
        for one, other in combinations(lines, 2):
            assert not one.overlaps(other), (one, other)
        for chip in node.findall(f"{SVG}g"):
            assert all(rect_of(chip).holds(text_of(item)) for item in chip.iter(f"{SVG}text"))
            assert area.holds(rect_of(chip))
        for frame in drawn.frames:
            assert frame.holds(area) or not frame.overlaps(area), (frame, area)


def segments(points: str) -> Iterator[Area]:
    corners = [tuple(map(float, point.split(","))) for point in points.split()]
    for (x, y), (to_x, to_y) in pairwise(corners):
        assert x == to_x or y == to_y, points
        yield Area(min(x, to_x), min(y, to_y), max(x, to_x), max(y, to_y), points)


def boxes_of(drawn: Drawn) -> dict[str, list[str]]:
    """Return each box's lines, as its tooltip has them, by its heading."""
    return {lines[0]: lines for lines in (area.says.split("\n") for area, _ in drawn.boxes)}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parts[-3])
def test_all_of_the_plan_is_in_the_picture(path: Path) -> None:
    plan = plan_from_json(path.read_text("utf-8"))
    drawn = Drawn(plan)
    is_legible(drawn)
    boxes, text = boxes_of(drawn), mermaid(plan)
    for process in plan.processes:
        said = " ".join(boxes[process.name])
        for listen in process.listens:
            assert re.search(rf"\b{listen.port}\b", said)
            assert str(listen.port) in text
        if process.kind is Kind.WORKER:
            assert process.role is not None
            parts = [
                node.get("class")
                for area, node in drawn.boxes
                if area.says.startswith(process.name)
            ]
            assert process.role.value in parts
            for gpu in process.gpus:
                name = f"GPU {gpu}" if gpu.isdigit() else gpu
                assert name in boxes[process.name]
        assert f"<b>{process.name}</b>" in text
    for service in plan.services:
        assert service.url in drawn.text
    both = any(process.role and process.role.value == "prefill" for process in plan.processes)
    assert ("KV by NIXL" in drawn.text) is both
    lines = drawn.root.findall(f"{SVG}polyline[@class='cache']")
    kinds = {process.name: process.kind for process in plan.processes}
    asked = [n for p in plan.processes for n in p.after if kinds[n] is Kind.CACHE_SERVER]
    assert len(lines) == len(asked) + sum(len(process.tiers) for process in plan.processes)
    for tier in (tier for process in plan.processes for tier in process.tiers):
        assert any(tier.place in area.says for area, _ in drawn.boxes)


def with_tiers(plan: Plan, *tiers: Tier) -> Plan:
    """Return a plan whose caches have these tiers."""
    caches = any(process.kind is Kind.CACHE_SERVER for process in plan.processes)
    owner = Kind.CACHE_SERVER if caches else Kind.WORKER
    processes = (replace(p, tiers=tiers) if p.kind is owner else p for p in plan.processes)
    return replace(plan, processes=tuple(processes))


def test_tiers_are_drawn_once_however_many_use_them() -> None:
    plan = with_tiers(
        plan_of(DISAGG, "workers[0].replicas=2", "workers[0].gpus=[0,2]"), DISK, REDIS
    )
    drawn = Drawn(plan)
    is_legible(drawn)
    assert boxes_of(drawn)["redis"] == ["redis", "redis://10.0.0.5:6379", "kept over restarts"]
    assert boxes_of(drawn)["disk"][1:3] == ["/var/kv", "at most 128 GiB"]
    host = next(frame for frame in drawn.frames if frame.says == "host")
    stands_on_host = {area.says.split("\n")[0]: host.holds(area) for area, _ in drawn.boxes}
    assert (stands_on_host["disk"], stands_on_host["redis"]) == (True, False)
    assert drawn.text.count("L2") == 2
    assert mermaid(plan).count('<-->|"L2"|') == 4


def test_a_local_tier_stands_on_the_host() -> None:
    drawn = Drawn(with_tiers(plan_of(AGG, *IN_PROCESS), DISK))
    is_legible(drawn)
    host = next(frame for frame in drawn.frames if frame.says == "host")
    assert any(host.holds(area) for area, _ in drawn.boxes if area.says.startswith("disk"))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    disagg = draw(st.booleans())
    width, replicas = draw(st.sampled_from([1, 2, 8])), draw(st.integers(1, 5))
    uuid = draw(st.booleans())
    numbers = range(width * replicas)
    ids = [f"GPU-8a56a4bc-93a5-4f5e-9d0c-{n:012d}" if uuid else str(n) for n in numbers]
    overrides = [
        *draw(
            st.sampled_from(
                [
                    ("stack=vllm-0.32", "lmcache.mode=multiprocess"),
                    ("stack=dynamo-1.6", "lmcache.mode=multiprocess"),
                    ("stack=dynamo-0.7", "lmcache.mode=in_process"),
                    ("stack=vllm-0.25", "lmcache.mode=in_process"),
                ]
            )
        ),
        f"workers[0].gpus=[{','.join(ids)}]",
        f"workers[0].replicas={replicas}",
        f"workers[0].tensor_parallel_size={width}",
        f"lmcache.enabled={draw(st.sampled_from(['true', 'true', 'false']))}",
    ]
    if disagg:
        more = f"GPU-{'f' * 36}" if uuid else str(len(ids))
        overrides += [f"workers[1].gpus=[{more}]"]
        overrides += [f"workers[1].lmcache={draw(st.sampled_from(['true', 'false']))}"]
    resolved = compile_text(DISAGG if disagg else AGG, *overrides).resolved
    if resolved is None:  # a stack refuses some of these
        resolved = compile_text(AGG).resolved
    assert resolved is not None
    tiers = draw(st.lists(st.sampled_from([DISK, REDIS]), unique=True, max_size=2))
    plan = with_tiers(resolved.plan, *tiers)
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
    return replace(plan, model=draw(text), served_name=draw(text))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans())
def test_nothing_overlaps(plan: Plan) -> None:
    is_legible(Drawn(plan))


def test_the_same_plan_gives_the_same_bytes() -> None:
    assert picture(plan_of(DISAGG), RENDERER) == picture(plan_of(DISAGG), RENDERER)


def test_long_text_loses_its_middle_only_where_it_must() -> None:
    assert shortened("short", 100, 12) == "short"
    cut = shortened("/a/very/long/" * 20 + "end", 100, 12)
    assert cut.startswith("/a/")
    assert cut.endswith("end")
    assert text_width(cut, 12) <= 100


def test_graph_writes_svg_or_mermaid(tmp_path: Path) -> None:
    profile = str(PROFILES / "disagg.yaml")
    printed = CliRunner().invoke(dync, ["graph", profile])
    assert printed.exit_code == 0
    assert ElementTree.fromstring(printed.stdout).tag == f"{SVG}svg"
    for name, begin in (("t.svg", "<svg "), ("t.mmd", "%% Generated")):
        done = CliRunner().invoke(dync, ["graph", profile, "-o", str(tmp_path / name)])
        assert (done.exit_code, done.stdout) == (0, f"wrote {tmp_path / name}\n")
        assert (tmp_path / name).read_text("utf-8").startswith(begin)
    forced = CliRunner().invoke(dync, ["graph", profile, "--format", "mermaid"])
    assert forced.stdout.splitlines()[2] == "flowchart LR"


def test_graph_says_what_is_wrong(tmp_path: Path) -> None:
    profile = str(PROFILES / "disagg.yaml")
    refused = CliRunner().invoke(dync, ["graph", profile, "--set", "lmcache.chunk_size=200"])
    assert refused.exit_code == 1
    assert "[chunk-size-alignment]" in refused.stderr
    unwritten = CliRunner().invoke(dync, ["graph", profile, "-o", str(tmp_path / "no" / "t.svg")])
    assert unwritten.exit_code == 1
    assert "cannot write" in unwritten.stderr
