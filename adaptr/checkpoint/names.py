"""From an adapter's target to the tensor of a checkpoint: renamings, prefixes, fused projections, and nothing guessed.

A name is that of a tensor, or what transformers or a tool calls one (`adaptr.host.names`). Where transformers does not
know the model, a prefix may have come before the names of the checkpoint (`transformer.h.0` for `h.0`) or off them: one
such shift is looked for, and it must be the same for all targets that need one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from adaptr.adapter import Adapter, Target, agree
from adaptr.adapter.paths import paths_of
from adaptr.checkpoint import packed
from adaptr.checkpoint.architectures import drawn
from adaptr.checkpoint.fused import FUSED, fused_sizes
from adaptr.checkpoint.loading import Conversion, Loading, loading
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.spelled import Spelled, spelled
from adaptr.checkpoint.stored import Stored
from adaptr.contract.sketch import Sketch
from adaptr.errors import TargetAmbiguous, TargetMismatch, TargetNotFound, phrases
from adaptr.networks import widths
from adaptr.roles import CONV1D_MODELS, is_embedding


@dataclass(frozen=True)
class Place:
    """A tensor, or a range of its rows where several layers are stored as one."""

    stored: Stored
    rows: slice

    @property
    def whole(self) -> bool:
        return self.rows == slice(0, self.stored.entry.shape[0])


class Names:
    """Finds tensors by the names that a model gives them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.shift: tuple[str, str] | None = None
        self._live: dict[str, str] = {}
        self._spelled: dict[str, Spelled | None] = {}

    @cached_property
    def loading(self) -> Loading | None:
        """How transformers reads the checkpoint. Asked where a name is not there as it is: it takes seconds."""
        return loading(self.checkpoint)

    @cached_property
    def drawn(self) -> Sketch | None:
        """What transformers would build, which takes seconds to ask, where a table says it: the file has just the
        parameters of the architecture, under the same names. None for anything else.
        """
        config = self.checkpoint.config
        model = None if "quantization_config" in config else drawn(config)
        stored = {name: stored.entry.shape for name, stored in self.checkpoint.tensors.items()}
        fits = model is not None and stored == {name: one.shape for name, one in model.named_parameters()}
        return model if fits else None

    def meet(self, adapter: Adapter) -> None:
        """Learn what the model calls an adapter's places, all together. Raises `TargetAmbiguous`."""
        paths = paths_of(adapter)
        if not all(self._stored(path, target) for path, target in paths.items()):
            self._live |= self.renamings(paths)

    def renamings(self, paths: Mapping[str, Target | None]) -> dict[str, str]:
        """What the model calls an adapter's places: {path: its name in the model}, of those that it calls otherwise."""
        from adaptr.host.names import renamings

        return renamings(self.loading.model, paths) if self.loading is not None else {}

    def _stored(self, path: str, target: Target | None) -> bool:
        """Whether a place is in the checkpoint as it is called."""
        stack = target is not None and target.stacked
        return not stack and (path if target is None else f"{path}.weight") in self.checkpoint.tensors

    def find(self, name: str) -> Stored | None:
        """The tensor that a model calls `name`. Raises `TargetAmbiguous` where it could be two."""
        tensors = self.checkpoint.tensors
        if name in tensors:
            return tensors[name]
        if self.drawn is not None and name in self.drawn.names:  # it is stored as what it is tied to
            return None
        spelled = self.spelled(name)
        if spelled is not None and spelled.same is not None:
            return spelled.same
        live = self.live(name)
        if live:
            return self._at(live)
        if self.shift is not None:
            return tensors.get(_shifted(name, self.shift))
        for shift in self._shifts(name):
            if _shifted(name, shift) in tensors:
                self.shift = shift
                return tensors[_shifted(name, shift)]
        return None

    def spelled(self, name: str) -> Spelled | None:
        """What an image model's parameter is in a checkpoint of another library's names, if it is there."""
        if name not in self._spelled:
            self._spelled[name] = spelled(self.checkpoint, name)
        return self._spelled[name]

    def live(self, name: str) -> str:
        """What the model calls the parameter `name`, "" where it is not known."""
        if self.loading is None:
            return ""
        path, _, leaf = name.rpartition(".")
        if path in self._live:
            return f"{self._live[path]}.{leaf}"
        if name not in self._live:
            from adaptr.host.names import renamings
            from adaptr.host.spellings import has

            model = self.loading.model
            self._live[name] = name if has(model, name) else renamings(model, {name: None}).get(name, "")
        return self._live[name]

    def _at(self, live: str) -> Stored | None:
        """The tensor that is read into the parameter `live`."""
        assert self.loading is not None
        names = self.loading.files.get(live, ())
        if len(names) > 1:
            raise TargetAmbiguous(
                f"the base `{self.checkpoint.root.name}` has `{live}` twice, as `{names[0]}` and as "
                f"`{names[1]}`, and which of them is loaded is not certain",
                hint="save it again from the model",
            )
        return self.checkpoint.tensors[names[0]] if names else None

    def conversion(self, name: str) -> Conversion | None:
        """What makes the parameter `name` of stored tensors as the model is loaded, if anything does."""
        live = self.live(name)
        return self.loading.conversions.get(live) if self.loading is not None and live else None

    def _shifts(self, name: str) -> list[tuple[str, str]]:
        """(prefix to take off, prefix to put on) that could lead from `name` to a tensor, likeliest first."""
        parts = name.split(".")
        shorter = [(".".join(parts[:i]) + ".", "") for i in range(1, min(4, len(parts) - 1))]
        ends = [other for other in self.checkpoint.tensors if other.endswith(f".{name}")]
        longer = [("", ends[0][: -len(name)])] if len(ends) == 1 else []
        return shorter + longer

    def weight(self, target: Target) -> Place:
        """The weight of a target. Raises `TargetNotFound`, or `TargetMismatch` for another shape or layout."""
        stack = target.stacked
        name = target.path if stack else f"{target.path}.weight"
        made = self.conversion(name) if stack or name not in self.checkpoint.tensors else None
        stored = self.find(name) if made is None else None
        if stored is None:
            place = (self._part(target) or self._fused(target)) if made is None else self._cut(target, name, made)
            if place is None:
                raise self.missing(name)
            return place
        self._check(target, stored)
        return Place(stored, slice(0, stored.entry.shape[0]))

    def _check(self, target: Target, stored: Stored) -> None:
        packed.require_upright(stored, target)
        if not agree(stored.entry.shape, target.stored_shape):
            raise phrases.misshapen(
                f"`{stored.name}` in the base",
                stored.entry.shape,
                target.stored_shape,
                TargetMismatch,
                by="by the adapter",
                hint=phrases.BASE,
            )
        model = self.checkpoint.config.get("model_type")
        square = len(set(stored.entry.shape)) == 1
        if (
            square
            and target.is_linear
            and not target.transposed
            and model in CONV1D_MODELS
            and not is_embedding(stored.name)
        ):
            raise TargetMismatch(
                f"`{stored.name}` is stored (in, out) in a {model} model, the adapter says (out, in), and a square "
                "matrix hides the difference",
                hint="import the adapter with its base (`--base`) so that the layout is known",
            )

    def bias(self, target: Target) -> Stored | None:
        """The bias beside a target's weight, if there is one. Raises `TargetMismatch` for another length."""
        if not target.biased:
            return None
        stored = self._beside(target, f"{target.path}.bias")
        if stored is not None and not agree(stored.entry.shape, target.shape[:1]):
            raise phrases.misshapen(
                f"`{stored.name}`",
                stored.entry.shape,
                target.shape[:1],
                TargetMismatch,
                by="by the adapter",
                hint=phrases.BASE,
            )
        return stored

    def fused_bias(self, target: Target) -> Stored | None:
        """The bias that a target's own is a part of, where the checkpoint stores several layers as one."""
        owner, _, leaf = target.path.rpartition(".")
        found = (self._beside(target, f"{owner}.{fused}.bias") for fused, order in FUSED if leaf in order)
        made = None if self._stored(target.path, target) else self.conversion(f"{target.path}.bias")
        spelled = self.spelled(f"{target.path}.bias")
        cut = self.checkpoint.tensors[made.sources[0]] if made is not None else None
        cut = spelled.stored[0] if spelled is not None and spelled.part is not None else cut
        return next((stored for stored in found if stored is not None), cut)

    def _beside(self, target: Target, name: str) -> Stored | None:
        """A tensor that may be beside a target's weight: under the very names where the weight is."""
        return self.checkpoint.tensors.get(name) if self._stored(target.path, target) else self.find(name)

    def missing(self, name: str) -> TargetNotFound:
        """Why there is no tensor `name`."""
        made, base = self.conversion(name), f"the base `{self.checkpoint.root.name}`"
        spelled = self.spelled(name)
        if spelled is not None and spelled.swapped:
            return TargetNotFound(
                f"{base} has `{name}` as `{spelled.stored[0].name}`, with scale and shift in the other order",
                hint="use a base with the adapter's own names",
            )
        apart = next((other for other in self.checkpoint.tensors if ".experts.0." in other), None)
        if ".experts." in name and apart is not None:
            return TargetNotFound(
                f"{base} stores each expert of `{name}` as tensors of its own (`{apart}`), and how they are stacked is "
                "not known",
                hint="save the base with its experts stacked, or keep the adapter attached",
            )
        if made is not None:
            return TargetNotFound(
                f"{base} does not hold `{name}` as it is: loading makes it of {made}, which a merge can't follow",
                hint="keep the adapter attached",
            )
        return TargetNotFound(f"{base} has no tensor `{name}`", hint=phrases.nearest(name, self.checkpoint.tensors))

    def _cut(self, target: Target, name: str, made: Conversion) -> Place | None:
        """A target that loading cuts out of a bigger tensor: some of its rows."""
        if not made.cut:
            return None
        stored = self.checkpoint.tensors[made.sources[0]]
        count, left = divmod(stored.entry.shape[0], len(made.targets))
        start = count * made.targets.index(self.live(name))
        found = (count, *stored.entry.shape[1:])
        return _rows(target, name, stored, slice(start, start + count), found if not left else stored.entry.shape)

    def _part(self, target: Target) -> Place | None:
        """A target that another library's checkpoint keeps as rows of a bigger tensor."""
        spelled = self.spelled(f"{target.path}.weight")
        if spelled is None or spelled.part is None:
            return None
        stored = spelled.stored[0]
        sizes = widths(stored.entry.shape) if len(stored.entry.shape) == 2 else []
        start = sum(sizes[: spelled.part])
        size = (*sizes[spelled.part : spelled.part + 1], 0)[0]
        return _rows(target, target.path, stored, slice(start, start + size), (size, *stored.entry.shape[1:]))

    def _fused(self, target: Target) -> Place | None:
        """A target that the checkpoint stores as rows of a bigger tensor: q, k, v in `qkv_proj`; gate, up in
        `gate_up_proj`.
        """
        owner, _, leaf = target.path.rpartition(".")
        for fused, order in FUSED:
            stored = self.find(f"{owner}.{fused}.weight") if leaf in order else None
            if stored is None:
                continue
            sizes = fused_sizes(self.checkpoint.config, order, stored.entry.shape[0])
            start = sum(sizes[: order.index(leaf)])
            rows = slice(start, start + sizes[order.index(leaf)])
            return _rows(target, leaf, stored, rows, (rows.stop - rows.start, *stored.entry.shape[1:]))
        return None


def _rows(target: Target, called: str, stored: Stored, rows: slice, found: tuple[int, ...]) -> Place:
    """Rows of a bigger tensor. Raises `TargetMismatch` where they have another shape than the target."""
    if not agree(found, target.shape):
        raise phrases.misshapen(
            f"`{called}` in `{stored.name}`",
            found,
            target.shape,
            TargetMismatch,
            by="by the adapter",
            hint=phrases.BASE,
        )
    return Place(stored, rows)


def _shifted(name: str, shift: tuple[str, str]) -> str:
    off, on = shift
    return on + name.removeprefix(off) if name.startswith(off) else ""
