"""What lies where a base checkpoint was looked for and is none, and the way on."""

from __future__ import annotations

import re
from pathlib import Path

from adaptr.errors import phrases

#: An owner and a name, as the Hub has them, and no path that a person would write so.
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def instead(path: Path) -> str:
    """The way on: "" where nothing can be said."""
    if not path.exists():
        hub = f"for a model of the Hub say `hf://{path}`" if _HUB.fullmatch(str(path)) else ""
        return " ".join(filter(None, (phrases.near(str(path)), hub))) or "look at the path"
    if (path / "adapter_config.json").is_file():
        return "it is an adapter, wanted a base checkpoint"
    below = sorted(str(found.parent) for found in path.glob("*/config.json"))
    return f"it holds checkpoints, name one: {', '.join(f'`{name}`' for name in below[-3:])}" if below else ""
