"""Pages as a browser sees them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium to open the page in")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=10000",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def browse(file: Path, profile: Path, *options: str) -> str:
    """What Chromium prints of a page, in a profile of its own."""
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *options, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
