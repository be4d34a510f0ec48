"""Where adaptr keeps what is this user's: the store, the policy, what was learnt of servers."""

from __future__ import annotations

import functools
import os
from pathlib import Path


def home() -> Path:
    """`$ADAPTR_HOME`, or the platform's folder for data."""
    return Path(os.environ.get("ADAPTR_HOME") or _data_folder()).expanduser()


@functools.cache
def _data_folder() -> str:
    import platformdirs

    return platformdirs.user_data_dir("adaptr", appauthor=False)
