"""What people say of an adapter because the files of the tool that wrote it do not: never a guess."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

from adaptr.errors import ConfigMissing, UsageError, shown

#: How each is given.
_WAYS = {
    "alpha": "--alpha",
    "scale": "--scale",
    "enable_lora": "--enable-lora",
    "task": "--task-number",
    "initial": "--initial",
    "reft": "--reft",
    "positions": "--positions",
}
#: Interventions without an orthonormal basis.
REFTS = ("noreft", "direft")
#: Which tokens of a prompt an intervention is at, as pyreft says it.
_POSITIONS = re.compile(r"f(\d{1,6})(?:\+l(\d{1,6}))?|l(\d{1,6})")


@dataclass(frozen=True)
class Supplied:
    """`alpha`: what the product of the factors is multiplied by, times the rank; `scale`: the same without the rank,
    instead of it. `enable_lora`: which parts of a fused projection have factors, as loralib was told. `task`: which of
    a file's tasks, where it is another adapter for each. `initial`: where the same adapter is as it was before it was
    trained. `reft`: which of `REFTS` an intervention is whose file looks the same for both. `positions`: at how many of
    a prompt's first and last tokens it is, `f7+l7`. None: not said.
    """

    alpha: float | None = None
    scale: float | None = None
    enable_lora: tuple[bool, ...] | None = None
    task: int | None = None
    initial: str | None = None
    reft: str | None = None
    positions: str | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None and self.scale is not None:
            raise UsageError("`alpha` and `scale` are both given", hint="give one: alpha is the scale times the rank")
        for name in ("alpha", "scale"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and math.isfinite(value) and value):
                raise UsageError(f"the {name}", got=f"`{value}`", want="a finite number that is not 0")
        if self.enable_lora is not None and not any(self.enable_lora):
            raise UsageError("`enable_lora`", got="no part that has factors", want="one at least")
        if self.task is not None and (type(self.task) is not int or self.task < 0):
            raise UsageError("the task", got=f"`{self.task}`", want="a whole number, 0 for the first")
        if self.reft is not None and self.reft not in REFTS:
            raise UsageError("the intervention", got=f"`{self.reft}`", want=f"one of {', '.join(REFTS)}")

        if self.positions is not None:
            ends(self.positions)

    def __bool__(self) -> bool:
        return bool(self.said)

    @property
    def said(self) -> dict[str, Any]:
        """What was said, by name."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items() if v is not None}

    def alpha_of(self, rank: int) -> float | None:
        """The alpha of factors of this rank, None where neither it nor the scale was said."""
        return self.alpha if self.scale is None else self.scale * rank

    def require_alpha(self, rank: int, whose: str, way: str) -> float:
        """`alpha_of`. Raises `ConfigMissing` with the `way` to find what the tool knew."""
        found = self.alpha_of(rank)
        if found is None:
            raise ConfigMissing(
                f"the alpha of {whose} is not in the file, so its scale is not known",
                hint=f"give it (`--alpha`, or `--scale`, which is alpha / rank; `adaptr.source` in Python): {way}",
            )
        return found

    def refuse(self, holder: str, *names: str) -> None:
        """Raises `UsageError` where one of these `names` was said, and `holder` says it itself."""
        name = next((name for name in self.said if name in names), None)
        if name is not None:
            raise UsageError(
                f"`{_WAYS[name]}` is given, and {holder}",
                hint="leave it out; where only one of several adapters needs it, convert that one first "
                f"(`adaptr convert ADAPTER {_WAYS[name]} ...`)",
            )


def ends(positions: str) -> tuple[int, int]:
    """The numbers of first and last tokens. Raises `UsageError` for what says neither, or none of them."""
    found = _POSITIONS.fullmatch(positions)
    first, last = (int(found[1] or 0), int(found[2] or found[3] or 0)) if found else (0, 0)
    if not first and not last:
        raise UsageError("the positions", got=f"`{shown(positions)}`", want="first and last tokens, such as f7+l7")
    return first, last


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


#: Nothing is said.
NOTHING = Supplied()
