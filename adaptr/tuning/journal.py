"""Trials in a file beside the output, a line each, so that a search that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptr.errors import OutputExists
from adaptr.tuning.trial import Trial

SUFFIX = ".tune.jsonl"
#: What is read of such a file, at most.
MOST = 64 << 20


class Journal:
    """`about`: all that the search depends on; the trials of another are not those of this."""

    def __init__(self, path: Path | None, about: Mapping[str, Any], force: bool) -> None:
        self.path = path
        head = json.dumps(about, sort_keys=True, separators=(",", ":"))
        self._head = {"search": hashlib.sha256(head.encode()).hexdigest()}
        self.trials = self._read(force)

    def _read(self, force: bool) -> list[Trial]:
        """Trials that were measured before. A line that was cut short is measured again."""
        if self.path is None or not self.path.exists():
            return []
        from adaptr.untrusted import whole

        lines = whole(self.path, MOST).decode("utf-8", "replace").split("\n")[:-1]
        found = [_object(line) for line in lines]
        if not found or found[0] != self._head:
            if not force:
                raise OutputExists(
                    f"`{self.path}` holds the trials of another search", hint="go on with that one, or say `--force`"
                )
            self.path.unlink()
            return []
        return [Trial(**one) for one in found[1:] if one and one.keys() <= _FIELDS]

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        if self.path is None:
            return
        said = [self._head, *(vars(one) for one in self.trials)]
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(json.dumps(one) + "\n" for one in said), encoding="utf-8")
        os.replace(part, self.path)

    def done(self) -> None:
        """The search is in the result's lineage now."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


_FIELDS = Trial.__dataclass_fields__.keys()


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
