"""Soft prompts behind the embeddings: in front of what these make of the text, with positions, types and norm in it,
which the rows of the prompt do not get.

The text is embedded with room for them, which is filled where its embeddings are done. Positions that are added there
are the text's own, as if nothing stood in front; others, such as rotary ones, count the rows.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from adaptr.errors import Unsupported
from adaptr.host.call import find
from adaptr.host.positions import positions_of
from adaptr.host.prompted import Embed
from adaptr.sites.prompt import Prompt, two_stacks

if TYPE_CHECKING:
    from adaptr.adapter import Target
    from adaptr.contract import Mount
    from adaptr.families.base import Method
    from adaptr.host.state import State

_HINT = "say `place` words, in front of the embeddings of words"


class Behind(Prompt):
    name = "behind"

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        super().check(model, method, mount, target, trains)
        if "position_ids" not in _arguments(model) and _adds_positions(embeddings_of(model)):
            raise Unsupported(
                f"a `{type(model).__name__}` adds positions to what it embeds, and takes none: with rows in front it "
                "would count them",
                hint=_HINT,
            )

    def hooks(self, model: nn.Module, state: State) -> list[Any]:
        return Room(model, state).hooks(model)


def embeddings_of(model: nn.Module) -> nn.Module:
    """The module that makes of words what the first block gets. Raises `Unsupported` where there is none."""
    table = cast(Any, model).get_input_embeddings()
    named = (module for name, module in model.named_modules() if name.rpartition(".")[2] == "embeddings")
    found: list[nn.Module] = [
        module for module in named if module is not table and any(one is table for one in module.modules())
    ]
    if len(found) != 1 or two_stacks(model):
        raise Unsupported(
            f"a prompt behind the embeddings needs a module that makes them, `embeddings`, and a "
            f"`{type(model).__name__}` has {'several' if found else 'none'}",
            hint=_HINT,
        )
    return found[0]


class Room(Embed):
    """Holds the module of the embeddings by itself, as it does the table."""

    def __init__(self, model: nn.Module, state: State) -> None:
        super().__init__(model, state)
        self.embeddings = embeddings_of(model)
        self.adds = _adds_positions(self.embeddings)

    def hooks(self, model: nn.Module) -> list[Any]:
        return [*super().hooks(model), self.embeddings.register_forward_hook(self.fill)]

    def fill(self, module: nn.Module, args: object, output: Tensor) -> Tensor | None:
        """What the embeddings gave, with the rows where there is room for them."""
        count = find(self)
        if not count:
            return None
        return self.among(self.without(output, count), self.tokens.to(output).expand(len(output), -1, -1))

    def positions(self, mask: Tensor, text: Tensor, count: int, length: int, given: Tensor | None) -> Tensor:
        if not self.adds:
            return super().positions(mask, text, count, length, given)
        own = positions_of(text, self.first, length) if given is None else given.expand(len(mask), -1)
        return self.among(own, own.new_full((len(mask), count), self.first))


def _adds_positions(embeddings: nn.Module) -> bool:
    return any("position" in name for name, _ in embeddings.named_modules())


def _arguments(model: nn.Module) -> list[str]:
    return list(inspect.signature(type(model).forward).parameters)


SITE = Behind()
