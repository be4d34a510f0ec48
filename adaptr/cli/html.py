"""Pages that need nothing but themselves: pictures drawn by Vega-Lite, data in the page.

The libraries come as one script out of vl-convert (Vega's own package, BSD-3), and go into the page. A page is
`<name>.html` and `<name>.js` beside this file, with the style and the script that all pages share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from adaptr.errors import phrases
from adaptr.files import file_named, replacing, require_file

#: Digits that a picture can show.
DIGITS = 5


def require(path: str, force: bool, *inputs: str | None) -> None:
    """Raises `OutputExists`, `UsageError` for the name of a folder, or `MissingExtra` without the plotting library,
    before anything is computed.
    """
    from adaptr.sources.open import reads

    require_file(file_named(path, "a page"), force, reads(*inputs))
    _libraries()


def write(text: str, path: Path, force: bool = False) -> None:
    """Write a page, whole or not at all."""
    with replacing(path, force) as file:
        file.write(text.encode())


def filled(name: str, data: Mapping[str, Any]) -> str:
    """The page `name` with its data. The same data gives the same text."""
    folder = resources.files("adaptr.cli")
    text, css, common, own = (
        (folder / part).read_text(encoding="utf-8") for part in (f"{name}.html", "page.css", "common.js", f"{name}.js")
    )
    parts = {"css": css, "script": common + own, "libraries": _libraries(), "data": _inert(json.dumps(data))}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text)


def short(value: float) -> float:
    """A number with as many digits as can be seen."""
    return float(f"{value:.{DIGITS}g}")


def _libraries() -> str:
    try:
        import vl_convert
    except ImportError:
        raise phrases.extra("a page with pictures", "vl-convert-python", "plots") from None
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub misses the default
    return bundle.replace("</script", "<\\/script")


def _inert(text: str) -> str:
    """JSON that can't end the script element it stands in."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
