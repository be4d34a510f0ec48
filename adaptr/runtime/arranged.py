"""Blocks on a live model: `attach(model, Split(a, b, sizes=[4, 3]))`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from adaptr import foreign, plugins
from adaptr.adapter import Adapter, weighting
from adaptr.contract.capabilities import STACK
from adaptr.errors import AlreadyAttached, Unsupported, UsageError
from adaptr.host.arrangement import Arrangement, Repeat
from adaptr.host.attach import require_new_name
from adaptr.host.blocks import Average, Beside, Parallel, Stack
from adaptr.host.group import leaves_of
from adaptr.host.handle import Handle
from adaptr.host.tree import Block, Leaf
from adaptr.sources.given import opened, single
from adaptr.sources.open import adaptr_file
from adaptr.sources.resolve import grounded, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from adaptr.sources.given import Weighted
    from adaptr.sources.resolve import Place


def arranged(model: nn.Module, block: Block, weight: float = 1.0, merged: bool = False) -> Arranged:
    """Attach the adapters of a tree of blocks, all or none. Raises what attaching raises, and `Unsupported` for what
    has no meaning there.
    """
    if merged or weight != 1.0:
        raise UsageError(
            "blocks are not merged and have no weight", hint="give each adapter its weight: `(adapter, 0.5)`"
        )
    return Arranged(model, block)


def block(source: Place, base: nn.Module | Place | None = None) -> Block:
    """The block of several adapters at `source`, a folder of another tool, for `attach`: AdapterHub's set-ups.

    `base`: as `load` has it. Raises what `load` does, and `Unsupported` where one adapter is, and for what there is no
    block for.
    """
    what = resolve(source)
    what.require_there()
    if adaptr_file(what.path) is not None:
        raise Unsupported(f"`{what.given}` is one adapter, and no block of several", hint="load it (`adaptr.load`)")
    form = foreign.of(what.path)
    what.supplied.refuse(f"{form.called} does not ask for it", *(what.supplied.said.keys() - form.asks))
    return form.block(what.path, grounded(base), what.supplied)


class Arranged(Handle):
    """Adapters on a model as a tree of blocks has them. `arrange` gives them another, from the next forward on."""

    def __init__(self, model: nn.Module, block: Block) -> None:
        method = plugins.default(STACK)
        super().__init__(model, Adapter(method, {}, {}, {}), method)
        self.arrangement, self._known = Arrangement(block), dict[object, Leaf]()
        self._handles: dict[int, Handle] = {}
        self._join(block)
        try:
            for leaf in dict.fromkeys(block.leaves()):
                self._attach(leaf)
            self._check(block)
        except BaseException:
            self.detach()
            raise
        self._undo.append(
            model.register_forward_pre_hook(Repeat(self.arrangement), with_kwargs=True, prepend=True).remove
        )

    @property
    def block(self) -> Block:
        """The tree."""
        return self.arrangement.block

    def arrange(self, block: Block) -> None:
        """Let the adapters that are there be arranged so: other rows, other sizes, or some of them left out.

        Raises `UsageError` for an adapter that is not among them.
        """
        known = set(self._known.values())
        self._join(block)
        strange = [leaf for leaf in block.leaves() if leaf.given is not None and leaf not in known]
        self._known = {key: leaf for key, leaf in self._known.items() if leaf in known}
        if strange:
            raise UsageError(
                "an adapter of these blocks is not on the model",
                hint="give the very adapters that were attached, or attach these",
            )
        self._check(block)
        self.arrangement.block = block
        for handle in self._handles.values():
            for one in leaves_of(handle):
                one.renewed()

    def weigh(self, by: Callable[[str], float]) -> None:
        raise UsageError("adapters in blocks have weights of their own", hint="give each its weight: `(adapter, 0.5)`")

    # ------------------------------------------------------------ inside

    def _join(self, block: Block) -> None:
        block.joined(self._known)
        for one in block.blocks():
            found = [leaf for member in one.members for leaf in set(member.leaves()) if leaf.given is not None]
            if isinstance(one, Stack) and len(set(found)) < len(found):
                raise AlreadyAttached(
                    "an adapter is in a Stack twice", hint="give it once, with the sum of the weights"
                )
            if isinstance(one, Parallel) and one is not block and not isinstance(block, Stack):
                raise UsageError(
                    "a Parallel repeats the whole call", hint="let it be the outermost block, or in a Stack that is"
                )

    def _attach(self, leaf: Leaf) -> None:
        if leaf.given is None:
            return
        given = single(cast("Weighted", leaf.given))
        adapter = opened(given.what, self.model)
        require_new_name(self.model, adapter)  # what is merged is in all rows
        adapter = adapter.replace(name="")  # two of one name may meet here
        foreign.require(adapter, self.model)
        weight = weighting.number(given.weight, adapter.label)
        handle: Handle = plugins.hooks(adapter.method).apply(model=self.model, adapter=adapter, weight=weight)
        self._handles[id(leaf)] = handle
        self._undo.append(handle.detach)
        leaf.arrangement = self.arrangement
        for one in leaves_of(handle):
            for state in one.states.values():
                state.__dict__["leaf"] = leaf
            one.renewed()

    def _check(self, block: Block) -> None:
        """Raises `Unsupported` for what rows and tokens of one call can't have apart."""
        for one in block.blocks():
            if isinstance(one, Beside):
                for leaf in one.leaves():
                    if leaf.given is not None:
                        _require_apart(self._handles[id(leaf)], one)


def _require_apart(handle: Handle, block: Block) -> None:
    for one in leaves_of(handle):
        for path in one.replacements:
            raise Unsupported(
                f"`{one.adapter.label}` replaces `{path}` as a whole, which all rows and tokens share, and a "
                f"{block.called} has some without it",
                hint="attach it to a model of its own",
            )
        for state in one.states.values():
            averaged = isinstance(block, Average) and state.method.can.tokens is not None
            if not state.site.apart or averaged:
                raise Unsupported(
                    f"`{state.method.name}` is at the site `{state.site.name}` of `{state.mount.path or 'the model'}`, "
                    f"where a {block.called} has no meaning",
                    hint="put it into a Stack, or give it a forward of its own",
                )
