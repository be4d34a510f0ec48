"""docs/pictures: the pictures of docs/concepts.md, boxes and arrows as SVG, each with words for whoever can't see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

LINE = 18
INK, PALE, BLUE, GREEN, SAND = "#1f2430", "#ffffff", "#dbe7ff", "#dcf3e3", "#fdf0d5"


@dataclass(frozen=True)
class Box:
    """A rectangle with centred lines of text; `x`, `y`: its upper left corner."""

    x: int
    y: int
    w: int
    h: int
    text: str
    fill: str = PALE

    def svg(self) -> str:
        lines = self.text.split("\n")
        top = self.y + self.h / 2 - LINE * (len(lines) - 1) / 2 + 5
        words = "".join(
            f'<text x="{self.x + self.w / 2:g}" y="{top + LINE * n:g}" text-anchor="middle">{escape(line)}</text>'
            for n, line in enumerate(lines)
        )
        edge = f'x="{self.x}" y="{self.y}" width="{self.w}" height="{self.h}" rx="6"'
        return f'<rect {edge} fill="{self.fill}" stroke="{INK}"/>{words}'


@dataclass(frozen=True)
class Arrow:
    """From point to point, with a word beside its middle."""

    x1: int
    y1: int
    x2: int
    y2: int
    text: str = ""

    def svg(self) -> str:
        line = f'<path d="M{self.x1} {self.y1}L{self.x2} {self.y2}" stroke="{INK}" marker-end="url(#head)"/>'
        x, y = (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2
        level = self.y1 == self.y2
        at = f'x="{x:g}" y="{y - 8:g}" text-anchor="middle"' if level else f'x="{x + 8:g}" y="{y + 5:g}"'
        return line + (f'<text {at} font-style="italic">{escape(self.text)}</text>' if self.text else "")


def drawn(title: str, width: int, height: int, parts: Sequence[Box | Arrow]) -> str:
    tip = f'<path d="M0 0L8 4L0 8z" fill="{INK}"/>'
    head = f'<marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">{tip}</marker>'
    body = "\n".join(part.svg() for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="14" fill="{INK}">\n<title>{escape(title)}</title>\n'
        f'<defs>{head}</defs>\n<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def view() -> str:
    parts = [
        Box(20, 70, 150, 60, "base weight W\nbias b", BLUE),
        Box(20, 160, 150, 60, "adapter's tensors\nA, B, ...", GREEN),
        Arrow(170, 100, 270, 130),
        Arrow(170, 190, 270, 160),
        Box(270, 110, 170, 70, "method.view\none formula: W', b'", SAND),
        Arrow(440, 130, 550, 60),
        Arrow(440, 145, 550, 145),
        Arrow(440, 160, 550, 230),
        Box(550, 30, 210, 55, "attach: computed in\nthe forward, W untouched"),
        Box(550, 118, 210, 55, "merge: computed once,\nwritten to a checkpoint"),
        Box(550, 205, 210, 55, "verify: computed again,\ncompared bit by bit"),
    ]
    return drawn("One formula, the View, is what attach, merge and verify compute", 780, 290, parts)


def families() -> str:
    layer = [
        Box(20, 125, 90, 50, "x", BLUE),
        Arrow(110, 150, 190, 150),
        Box(190, 120, 130, 60, "W x + b"),
        Arrow(320, 150, 420, 150),
        Box(420, 125, 90, 50, "h", BLUE),
    ]
    told = [
        Box(190, 20, 130, 60, "Delta\nW + D", GREEN),
        Arrow(255, 80, 255, 118),
        Box(190, 220, 130, 60, "Transform\nf(W)", GREEN),
        Arrow(255, 220, 255, 182),
        Box(340, 220, 130, 60, "SelectBias\nb + d", GREEN),
        Arrow(370, 220, 312, 182),
        Box(530, 120, 120, 60, "Insert\nh + g(h)", GREEN),
        Arrow(510, 150, 528, 150),
        Box(20, 220, 140, 60, "SoftPrompt, Prefix\nmore tokens", GREEN),
        Arrow(65, 220, 65, 177),
        Box(340, 20, 310, 60, "Composite: several methods in places\nGate: weighs adapters for each token", SAND),
    ]
    return drawn("Where the families of methods act on one layer", 680, 300, [*layer, *told])


def receipts() -> str:
    parts = [
        Box(20, 30, 130, 60, "base", BLUE),
        Box(20, 130, 130, 60, "adapter = 0.7", GREEN),
        Arrow(150, 60, 230, 95),
        Arrow(150, 160, 230, 125),
        Box(230, 80, 90, 60, "merge", SAND),
        Arrow(320, 110, 400, 110),
        Box(400, 30, 190, 60, "merged weights", BLUE),
        Box(400, 130, 190, 80, "receipt: digests of all,\nwhat rounding took\nfrom each tensor", GREEN),
        Arrow(590, 60, 670, 95),
        Arrow(590, 160, 670, 125),
        Box(670, 80, 90, 60, "unmerge", SAND),
        Arrow(760, 110, 830, 110),
        Box(830, 70, 130, 80, "base again,\nby its sha256", BLUE),
    ]
    return drawn("A merge writes weights and a receipt; unmerge makes the base's bytes of both", 980, 230, parts)


def digests() -> str:
    parts = [
        Box(20, 30, 200, 80, "style.safetensors\nheader, manifest, tensors", BLUE),
        Box(20, 150, 200, 80, "style-peft/\nconfiguration, tensors", BLUE),
        Arrow(220, 70, 330, 70, "sha256"),
        Arrow(220, 190, 330, 190, "sha256"),
        Box(330, 45, 180, 50, "file digest 1", SAND),
        Box(330, 165, 180, 50, "file digest 2", SAND),
        Arrow(120, 110, 330, 128),
        Arrow(120, 150, 330, 132),
        Box(330, 108, 180, 44, "one weights digest", GREEN),
        Arrow(510, 70, 620, 105),
        Box(620, 85, 220, 90, "manifest digest\nof the pushed artifact:\noci://...@sha256:...", BLUE),
    ]
    return drawn("A file's digest is of its bytes, the weights' digest of the numbers alone", 860, 260, parts)


def factors() -> str:
    parts = [
        Box(20, 30, 60, 120, "B₁", GREEN),
        Box(90, 30, 120, 60, "A₁", GREEN),
        Box(20, 190, 60, 120, "B₂", SAND),
        Box(90, 190, 120, 60, "A₂", SAND),
        Arrow(220, 110, 300, 150),
        Arrow(220, 220, 300, 180),
        Box(310, 60, 60, 120, "w₁ B₁", GREEN),
        Box(370, 60, 60, 120, "w₂ B₂", SAND),
        Box(450, 60, 120, 60, "A₁", GREEN),
        Box(450, 120, 120, 60, "A₂", SAND),
        Box(310, 220, 260, 50, "exactly w₁ B₁ A₁ + w₂ B₂ A₂, rank r₁ + r₂"),
        Arrow(580, 120, 660, 120, "QR, SVD"),
        Box(660, 60, 60, 120, "Q_B", BLUE),
        Box(730, 60, 60, 60, "core", BLUE),
        Box(800, 60, 120, 60, "Q_A", BLUE),
        Box(660, 220, 260, 50, "a small matrix is all that is computed on"),
    ]
    return drawn("Composing in factor space: factors side by side, and a small core", 940, 330, parts)


PICTURES: Mapping[str, Callable[[], str]] = {
    "view": view,
    "families": families,
    "receipts": receipts,
    "digests": digests,
    "factors": factors,
}
