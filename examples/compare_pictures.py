"""What `compare.py` measured, as the pictures of `docs/choosing.md`: `python examples/compare_pictures.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import compare_tables as known
from compare_tables import LINES, Ways, forgotten, gains, read

DOCS = Path(__file__).resolve().parents[1] / "docs"
SOFT, LINE, GAIN, LOST = "#5d6878", "#e1e5eb", "#2b6fd9", "#d9622b"
FIGURES: tuple[tuple[str, str, Callable[[Ways, str], dict[int, float]]], ...] = (
    ("gain: loss below the base's, nats", GAIN, gains),
    ("forgotten: rise of perplexity, %", LOST, forgotten),
)
#: rsLoRA as strong as LoRA at the rank that its rate was chosen at.
STEADY = "rslora r=64, alpha=4"
#: Of a rise of perplexity, which is small for most and large for some.
WIDE = {"type": "symlog", "constant": 2, "nice": False}
CONFIG = {
    "background": "white",
    "font": "DejaVu Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
    },
}


def pictures(ways: Ways) -> dict[str, dict[str, Any]]:
    """Vega-Lite's specification by the name of the file."""
    names = [name for name in dict.fromkeys([*known.METHODS[1:], *known.SCALES, *known.TARGETS]) if name in ways]
    ranks = known.on_same(ways, [name for name in known.RANKS if name in ways])
    return {
        "choosing-gain.svg": _beside([_by_way(ways, names, *one) for one in FIGURES]),
        "choosing-ranks.svg": _beside([_by_rank(ranks, *one) for one in FIGURES]),
    }


def _beside(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"hconcat": parts, "spacing": 28, "config": CONFIG, "padding": 10}


def _by_way(
    ways: Ways, names: Sequence[str], title: str, colour: str, figure: Callable[[Ways, str], dict[int, float]]
) -> dict[str, Any]:
    """A line a way: a dot a seed, and a bar at their mean."""
    values = [{"way": name, "value": value} for name in names for value in figure(ways, name).values()]
    first = figure is FIGURES[0][2]
    labels = {"grid": True, "domain": False, "ticks": False, "labelPadding": 8, "labelLimit": 200, "labels": first}
    lines = {"domain": names}  # in both panels: of some ways there is one figure only
    y = {"field": "way", "type": "nominal", "scale": lines, "title": None, "axis": labels}
    axis = {"grid": False, **({"tickCount": 5} if first else {"values": [0, 1, 2, 5, 10, 20, 40]})}
    x = {"field": "value", "type": "quantitative", "title": title, "axis": axis, "scale": {} if first else WIDE}
    dot = {"type": "point", "filled": True, "size": 45, "opacity": 0.55, "color": colour}
    bar = {"type": "tick", "thickness": 3, "size": 18, "color": colour}
    layers = [
        {"mark": {"type": "rule", "strokeDash": [4, 4], "color": SOFT}, "encoding": {"x": {"datum": 0}}},
        {"mark": dot, "encoding": {"x": x, "y": y}},
        {"mark": bar, "encoding": {"x": {**x, "aggregate": "mean"}, "y": y}},
    ]
    return {"width": 300, "height": {"step": 24}, "data": {"values": values}, "layer": layers}


def _by_rank(ways: Ways, title: str, colour: str, figure: Callable[[Ways, str], dict[int, float]]) -> dict[str, Any]:
    """A line over the means of LoRA's ranks and a dot a seed; rsLoRA's beside it."""
    values = [
        {"r": ways[name][seed]["cell"]["config"]["r"], "value": value, "rs": name == STEADY}
        for name in [*known.RANKS, STEADY]
        if name in ways
        for seed, value in figure(ways, name).items()
    ]
    scale = {"type": "log", "base": 2, "domain": [0.9, 150], "nice": False}
    axis = {"values": [1, 2, 4, 8, 16, 32, 64], "grid": False, "format": "d"}
    x = {"field": "r", "type": "quantitative", "title": "rank", "scale": scale, "axis": axis}
    y = {"field": "value", "type": "quantitative", "title": title, "axis": {"tickCount": 6}}
    plain, rs = [{"filter": "!datum.rs"}], [{"filter": "datum.rs"}]
    dot = {"type": "point", "filled": True, "size": 45, "opacity": 0.55, "color": colour}
    ring = {"type": "point", "shape": "diamond", "size": 60, "strokeWidth": 2, "xOffset": 12, "color": SOFT}
    said = {"type": "text", "text": "rsLoRA", "align": "left", "dx": 22, "color": SOFT, "fontSize": 11}
    layers = [
        {
            "transform": plain,
            "mark": {"type": "line", "color": colour},
            "encoding": {"x": x, "y": {**y, "aggregate": "mean"}},
        },
        {"transform": plain, "mark": dot, "encoding": {"x": x, "y": y}},
        {"transform": rs, "mark": ring, "encoding": {"x": x, "y": y}},
        {"transform": rs, "mark": said, "encoding": {"x": x, "y": {**y, "aggregate": "mean"}}},
    ]
    return {"width": 320, "height": 220, "data": {"values": values}, "layer": layers}


def stamp(file: Path = LINES) -> str:
    """What a picture says of the lines that it was drawn from."""
    return f"<!-- of sha256:{hashlib.sha256(file.read_bytes()).hexdigest()} -->\n"


def draw(pictures: Mapping[str, Mapping[str, Any]], lines: Path, folder: Path) -> None:
    import vl_convert

    for name, picture in pictures.items():
        (folder / name).write_text(vl_convert.vegalite_to_svg(picture) + stamp(lines), encoding="utf-8")


@click.command()
@click.argument("lines", default=LINES, type=click.Path(exists=True, path_type=Path))
@click.argument("folder", default=DOCS, type=click.Path(exists=True, path_type=Path))
def main(lines: Path, folder: Path) -> None:
    """Draw LINES into FOLDER."""
    draw(pictures(read(lines)), lines, folder)


if __name__ == "__main__":
    main()
