"""A history as lines of text, drawn like `git log --graph`: one line a node, lines between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


def draw(order: Sequence[str], parents: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str | None]]:
    """(drawing, node) for each node in this order, which has every node before its parents; node None between."""
    lanes: list[str] = []
    for node in order:
        mine = [column for column, lane in enumerate(lanes) if lane == node] or [len(lanes)]
        lanes += [node] if mine[0] == len(lanes) else []
        for column in reversed(mine[1:]):
            yield _joined(len(lanes), mine[0], column), None
            del lanes[column]
        at = mine[0]
        yield " ".join("*" if column == at else "|" for column in range(len(lanes))), node
        above = list(dict.fromkeys(parents.get(node, ())))
        if not above:
            if at < len(lanes) - 1:
                yield _closed(len(lanes), at), None
            del lanes[at]
            continue
        lanes[at] = above[0]
        for number, parent in enumerate(above[1:], 1):
            yield _split(len(lanes), at + number), None
            lanes.insert(at + number, parent)


def _split(width: int, column: int) -> str:
    """A lane more at `column`, out of the one before; those behind it step aside."""
    return "".join("| " for _ in range(column - 1)) + "|" + "".join("\\ " for _ in range(width - column + 1)).rstrip()


def _joined(width: int, into: int, column: int) -> str:
    """The lane `column` leads into the lane `into`; those behind it step up."""
    cells = [" "] * (2 * width)
    for lane in range(column):
        cells[2 * lane] = "|"
    for place in range(2 * into + 1, 2 * column - 1, 2):
        cells[place] = "_"
    for lane in range(column, width):
        cells[2 * lane - 1] = "/"
    return "".join(cells).rstrip()


def _closed(width: int, column: int) -> str:
    """The lane `column` ends; those behind it step up."""
    cells = [" "] * (2 * width)
    for lane in range(column):
        cells[2 * lane] = "|"
    for lane in range(column + 1, width):
        cells[2 * lane - 1] = "/"
    return "".join(cells).rstrip()
