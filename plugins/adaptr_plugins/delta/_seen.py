"""What begins with factors that follow from data, which the base is relieved of: until there are some, LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from adaptr import Param, Target, View
from adaptr_plugins.delta import _begun

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host import Session

C = TypeVar("C", bound=_begun.Config)


class Seen(_begun.Begun[C]):
    """What is to be supplied is `prepare`, which lets targets `begin`."""

    params = {
        "A": Param("r in", init="kaiming"),
        "B": Param("out r"),
        "A0": Param("r in", trains=False),
        "B0": Param("out r", trains=False),
        "b": Param("out", when="bias"),
    }

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def begin_with(self, session: Session, path: str, B: Tensor, A: Tensor) -> None:
        """Let a target begin with these factors, at no change of what the model does."""
        for name, factor in (("A", A), ("B", B), ("A0", A), ("B0", B)):
            session.put(path, name, factor)
