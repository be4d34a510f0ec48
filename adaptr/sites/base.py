"""What every site says of itself, and how a state is put on a module whose class is swapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from torch import Tensor, nn

from adaptr import roles, targets
from adaptr.host import fastpath, swap
from adaptr.host.finding import site
from adaptr.host.reached import reachable, watched
from adaptr.host.state import State
from adaptr.host.uses import use

if TYPE_CHECKING:
    from adaptr.adapter import Target
    from adaptr.contract import Mount, View
    from adaptr.families.base import Method
    from adaptr.host.mounting import Mounting

Undo = Callable[[], None]


class Site:
    """A sort of place. `name`: that of its file. `order`: what is lower stands below, on one module.

    `weighs`: whether what sits here is in a layer's weight. `beside`: whether it is computed beside what the layer does
    with its weight, as it can't be where that is more than its kind of layer does. `swaps`: whether the module gets a
    class of its own, whose forward runs what is mounted. `shows`: whether it can be seen that the module has run.
    `rows`: whether each row of a batch can have a strength of its own. `apart`: whether rows and tokens of one call can
    have what others have not, as blocks say.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 0
    weighs: ClassVar[bool] = False
    beside: ClassVar[bool] = False
    swaps: ClassVar[bool] = True
    shows: ClassVar[bool] = True
    rows: ClassVar[bool] = False
    apart: ClassVar[bool] = False

    def find(self, model: nn.Module, role: str) -> list[str]:
        """The places of that role, pattern or path."""
        return [target.path for target in targets.resolve(model, role, {"module"})]

    def at(self, model: nn.Module, mount: Mount, target: Target) -> Site:
        """This site, or the one that a model has in its stead: a layer that lies in a stack is a part of that."""
        return self

    def host(self, model: nn.Module, mount: Mount, target: Target) -> nn.Module:
        """The module that bears the state."""
        return targets.submodule(model, mount.path)

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        """Raises what can be known to be wrong before anything is touched."""
        if not mount.shared:
            targets.match(model, target)
        else:
            targets.submodule(model, mount.path)

    def state(self, mounting: Mounting, mount: Mount, target: Target) -> State:
        """What will sit there."""
        return State(*mounting.of(mount, target))

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        """Put `state` where it works; returns how to take it off."""
        raise NotImplementedError

    def around(self, below: View, state: State, module: nn.Module) -> View:
        """The View with what the state does. At strength 0 nobody asks."""
        raise NotImplementedError

    def awake(self) -> None:
        """Make known again what a pickled model needs in another process."""

    def __reduce__(self) -> tuple[object, ...]:
        return site, (self.name,)


class OnModule(Site):
    """A site on a module that is called, whatever it is: the class is swapped, its weight stays."""

    order = 2

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        super().check(model, method, mount, target, trains)
        reachable(model, method, mount, target, trains, weighs=False)

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        path, module = state.mount.path, targets.submodule(model, state.mount.path)
        found = use(model, path)
        # by ways that no source shows, a weight may be read as well
        is_read = found.read and not fastpath.inside(model, path)
        swap.mount(module, key, state, swap.read if is_read else swap.adapted)
        undo = [watched(model, module, path, found), fastpath.avoid(model, path, module)]

        def off() -> None:
            swap.unmount(module, key)
            for step in undo:
                step()

        return off


class OnModel(Site):
    """A site on the model itself: its state lies under a name of its own, one at a time."""

    swaps = False
    shows = False

    def find(self, model: nn.Module, role: str) -> list[str]:
        return [""]


def role_of(model: nn.Module, role: str) -> list[str]:
    """The modules of a role of layers with a weight (`adaptr.roles.ROLES`)."""
    return [path for path, _ in model.named_modules() if roles.has(path, role)]


def path_of(model: nn.Module, ask: str) -> list[str]:
    """The module that a transformers model answers when asked, [] if it has none."""
    found = getattr(model, ask)() if hasattr(model, ask) else None
    return [path for path, module in model.named_modules() if module is found]


def given(args: tuple[object, ...], kwargs: dict[str, object]) -> Tensor:
    """What a module is called with, by position or by name."""
    return cast(Tensor, args[0] if args else next(iter(kwargs.values())))


def unreadable(state: State) -> Callable[[slice], Tensor]:
    """The rows of a layer whose activations are changed: no weight does what its adapter does."""

    def rows(s: slice) -> Tensor:
        raise state.method.refusal()

    return rows
