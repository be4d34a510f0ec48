"""What `every.py` measured, as the pictures of `docs/choosing.md`: `python examples/every_pictures.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import click
import every_tables
from compare_pictures import CONFIG, DOCS, GAIN, LOST, SOFT, draw
from every_tables import LINES, clearly, gains, read

from adaptr import plugins

#: Families beyond these share the last colour.
COLOURS = (GAIN, LOST, "#3a9a5b", "#8a5bc7", "#b8912a", SOFT)


def pictures(file: Path = LINES) -> dict[str, dict[str, Any]]:
    """Vega-Lite's specification by the name of the file, of tasks that have lines."""
    found = {task: ways for task in every_tables.TASKS if (ways := read(task, file))}
    return {f"choosing-every-{task}.svg": _scatter(ways) for task, ways in found.items()}


def _scatter(ways: Mapping[str, every_tables.Way]) -> dict[str, Any]:
    """A dot a method: what it gains above the base against what it trains, a ring where that is not clear."""
    values = [
        {
            "method": way.method,
            "trained": next(iter(way.lines.values()))["parameters"],
            "gain": mean(gained.values()),
            "family": plugins.method(way.method).family if way.method in plugins.names() else "other",
            "clear": clearly(gained),
        }
        for way in ways.values()
        if way.method and way.lines and (gained := gains(way, ways.get("")))
    ]
    families = sorted({one["family"] for one in values})
    scale = {"domain": families, "range": [COLOURS[min(i, len(COLOURS) - 1)] for i in range(len(families))]}
    x = {"field": "trained", "type": "quantitative", "title": "numbers trained", "scale": {"type": "log"}}
    x["axis"] = {"format": "~s", "grid": False, "tickCount": 6}
    y = {"field": "gain", "type": "quantitative", "title": "gain: loss below the base's, nats"}
    colour = {"field": "family", "type": "nominal", "scale": scale, "title": None}
    fill = {"condition": {"test": "datum.clear", **colour}, "value": "white"}
    dot = {"type": "point", "size": 55, "strokeWidth": 1.5}
    name = {"type": "text", "align": "left", "dx": 7, "fontSize": 10, "color": SOFT}
    return {
        "width": 640,
        "height": 420,
        "config": CONFIG,
        "padding": 10,
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [4, 4], "color": SOFT}, "encoding": {"y": {"datum": 0}}},
            {"mark": dot, "encoding": {"x": x, "y": y, "color": colour, "fill": fill}},
            {"mark": name, "encoding": {"x": x, "y": y, "text": {"field": "method"}}},
        ],
    }


@click.command()
@click.argument("lines", default=LINES, type=click.Path(exists=True, path_type=Path))
@click.argument("folder", default=DOCS, type=click.Path(exists=True, path_type=Path))
def main(lines: Path, folder: Path) -> None:
    """Draw LINES into FOLDER."""
    draw(pictures(lines), lines, folder)


if __name__ == "__main__":
    main()
