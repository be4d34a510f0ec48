"""From NeMo's or Megatron's file to an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, ConfigMissing, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Supplied, placing, saving
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import assembling, cuts
from adaptr.foreign.pieces.module import Layer, complete
from adaptr_formats.nemo.joined import Factors, joined
from adaptr_formats.nemo.named import SETTINGS
from adaptr_formats.nemo.opened import Opened

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

#: Places of a layer as transformers calls them in models like Llama.
_NAMES = {
    **{one: f"self_attn.{one}_proj" for one in "qkvo"},
    **{one: f"mlp.{one}_proj" for one in ("gate", "up", "down")},
}
_GATED = frozenset({"swiglu", "fast-swiglu", "geglu", "fast-geglu", "reglu", "fast-reglu"})
_WAY = "it is the `alpha` of its LoRA in the code that trained it, 32 by default in Megatron-Bridge"


@dataclass(frozen=True)
class Said:
    """What the configuration says, or the base where there is none."""

    whole: Mapping[str, Any]
    model: nn.Module | None
    supplied: Supplied

    def size(self, name: str, default: object = None) -> int:
        value = self.whole.get(name)
        value = default if value is None else value
        if type(value) is not int or not 0 < value < 1 << 24:
            raise ConfigConflict(
                f"`{name}` in `{SETTINGS}`",
                got=f"`{shown(str(value))}`",
                want="a positive number",
                hint="correct it there",
            )
        return value

    @property
    def tuning(self) -> Mapping[str, Any]:
        found = self.whole.get("peft", self.whole)
        found = found.get("lora_tuning", {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def alpha(self, rank: int) -> float:
        """As NeMo has it where it says none: the rank."""
        if not self.whole:
            return self.supplied.require_alpha(rank, "the adapter", _WAY)
        self.supplied.refuse(f"`{SETTINGS}` has the alpha, or the rank instead of it", "alpha", "scale")
        value = self.tuning.get("alpha")
        value = rank if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0 or not value:
            raise ConfigConflict(
                "`alpha`", got=f"`{shown(str(value))}`", want="a number that is not 0", hint=phrases.AGAIN
            )
        return float(value)

    def stage(self, opened: Opened) -> int:
        """The layers of each stage of a pipeline. Raises `ConfigConflict` for other ranks than it says."""
        if opened.joined:  # how it was trained says no more of where its layers are
            return 0
        for axis, name in enumerate(("pipeline", "tensor")):
            field, found = f"{name}_model_parallel_size", 1 + max(rank[axis] for rank in opened.ranks)
            self._require(field, self.size(field, 1) == found, f"{found}, as there are parts of so many")
        stages = 1 + max(stage for stage, _ in opened.ranks)
        layers = self.size("num_layers") if stages > 1 else 1
        self._require("num_layers", layers % stages == 0, f"a multiple of the {stages} stages of its pipeline")
        return layers // stages

    def _require(self, name: str, right: bool, want: str) -> None:
        if not right:
            got = shown(str(self.whole.get(name)))
            raise ConfigConflict(f"`{name}` in `{SETTINGS}`", got=f"`{got}`", want=want, hint=phrases.AGAIN)

    def heads(self) -> tuple[int, int, int]:
        """(heads of queries, groups, size of a head). Raises `ConfigMissing` where nothing says it."""
        if self.whole:
            if self.whole.get("num_attention_heads") is None or self.whole.get("hidden_size") is None:
                raise ConfigMissing(
                    f"`{SETTINGS}` says not how many heads there are, by which queries, keys and values are cut",
                    hint="put `num_attention_heads`, `num_query_groups` and `hidden_size` into it",
                )
            heads = self.size("num_attention_heads")
            return (
                heads,
                self.size("num_query_groups", heads),
                self.size("kv_channels", self.size("hidden_size") // heads),
            )
        known: Any = placing.needed(self.model, "linear_qkv", "its rows go by heads, of which the file says nothing")
        config = known.config.get_text_config()
        heads = int(config.num_attention_heads)
        groups = int(getattr(config, "num_key_value_heads", None) or heads)
        return heads, groups, int(getattr(config, "head_dim", None) or config.hidden_size // heads)

    def require_known(self) -> None:
        """Raises `Unsupported` for what is no model like Llama, or computes otherwise."""
        activation = self.whole.get("activation", "swiglu")
        if self.whole.get("rotary_interleaved") or str(activation) not in _GATED:
            raise Unsupported(
                f"`{SETTINGS}` is of no model like Llama, whose names adaptr knows (`{shown(str(activation))}`)",
                hint="save it as PEFT's with the tool that wrote it",
            )


def read(file: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
    """Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do."""
    from adaptr.checkpoint.skeleton import skeleton

    opened = Opened.of(file)
    said = Said(opened.said, None if base is None else skeleton(base), supplied)
    said.require_known()
    found = joined(opened.ranks, said.stage(opened))
    tensors: dict[str, Tensor] = {}
    layers: list[Layer] = []
    for (number, place), ((A, B), key) in sorted(found.items()):
        tensors |= {key: A, f"{key}:out": B}
        layers += _layers(said, number, place, (A, B), key)
    return assembling.adapter(layers, tensors, str(file), saving.told({}))


def _layers(said: Said, number: int, place: str, factors: Factors, key: str) -> Iterator[Layer]:
    A, B = factors
    r, into = A.shape
    if B.shape[1] != r:
        raise ConfigConflict(
            f"`{shown(key)}`",
            verb="has",
            got=f"rank {r}, and {B.shape[1]} behind it",
            want="one rank",
            hint=phrases.AGAIN,
        )
    values = complete("lora", {"r": r, "alpha": said.alpha(r)})
    for name, (rows, cut) in _cut(said, place, B, key).items():
        path = f"model.layers.{number}.{_NAMES[name]}"
        target = placing.agreed(said.model, Target(path, kinds.LINEAR, (rows, into), values))
        yield Layer("lora", target, {"A": Piece(key, (r, into)), "B": Piece(f"{key}:out", (rows, r), then=cut)})


def _cut(said: Said, place: str, B: Tensor, key: str) -> dict[str, tuple[int, partial[Tensor] | None]]:
    """{name: (rows, what takes them)} of the parts of a place."""
    if place == "q+k+v":
        heads, groups, size = said.heads()
        want = (heads + 2 * groups) * size
        if B.shape[0] != want or heads % groups:
            raise ConfigConflict(
                f"`{shown(key)}`", verb="has", got=f"{B.shape[0]} rows behind it",
                want=f"{want}, of {heads} heads in {groups} groups of {size} each", hint=phrases.AGAIN,
            )  # fmt: skip
        each = heads // groups
        parts = {"q": slice(0, each), "k": slice(each, each + 1), "v": slice(each + 1, each + 2)}
        return {
            name: (groups * (part.stop - part.start) * size, partial(cuts.of_groups, groups, each + 2, part))
            for name, part in parts.items()
        }
    if place == "gate+up":
        half, rest = divmod(B.shape[0], 2)
        if rest:
            raise ConfigConflict(f"`{shown(key)}`", verb="has", got=f"{B.shape[0]} rows", want="an even number")
        return {name: (half, partial(cuts.rows, start, half)) for name, start in (("gate", 0), ("up", half))}
    return {place: (B.shape[0], None)}
