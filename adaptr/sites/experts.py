"""A stack of experts: a raw parameter (expert, out, in) of a module, whose forward sees the adapted value in its place.

What stands there is found by name on the class, for this call and thread alone; nothing on the module is changed. An
adapter of one expert's layer alone is here too, where the model holds it in a stack.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from adaptr import targets
from adaptr.host import swap
from adaptr.host.beside import applied
from adaptr.host.call import find, put, restore
from adaptr.host.experts import experts_value, parameter_of, part_of, refuse_bias
from adaptr.host.layer import own_forward
from adaptr.host.reached import in_a_stack
from adaptr.sites.base import Site, Undo

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Target
    from adaptr.contract import Mount, View
    from adaptr.families.base import Method
    from adaptr.host.state import State


@functools.cache
def owner(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose forward sees adapted values in place of its raw parameters."""

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        names = {parameter_of(state) for state in self.adapters.values() if state.site is SITE}
        before = put(self, {name: experts_value(self, name) for name in names})
        try:
            return own_forward(self)(*args, **kwargs)
        finally:
            restore(before)

    def seen(self: Any, name: str) -> Any:
        """Where Python looks for parameters. Other threads, and who asks outside of the forward, see them raw."""
        values = find(self)
        return values[name] if values is not None and name in values else cls.__getattr__(self, name)

    return swap.subclass(cls, forward, owner, __getattr__=seen)


class Experts(Site):
    name = "experts"
    weighs = True
    shows = False

    def find(self, model: nn.Module, role: str) -> list[str]:
        return [target.path for target in targets.resolve(model, role, {"experts", "experts_t"})]

    def host(self, model: nn.Module, mount: Mount, target: Target) -> nn.Module:
        part = part_of(model, target)
        return targets.submodule(model, (mount.path if part is None else part.path).rpartition(".")[0])

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        if part_of(model, target) is None:
            super().check(model, method, mount, target, trains)
        else:
            in_a_stack(method, target, trains, weighs=True)

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        module = self.host(model, state.mount, state.target)
        state.__dict__["part"] = part_of(model, state.target)
        refuse_bias(state, module._parameters[parameter_of(state)])
        # one module may have several stacks, and several parts of one
        key = f"{key}-{state.mount.path.replace('.', '_') if state.part else parameter_of(state)}"
        swap.mount(module, key, state, owner)
        return lambda: swap.unmount(module, key)

    def around(self, below: View, state: State, module: nn.Module) -> View:
        return applied(below, state)


SITE = Experts()
