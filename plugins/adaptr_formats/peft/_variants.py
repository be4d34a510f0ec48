"""Forms of PEFT's LORA that a field of its configuration tells apart: what each has beside two factors, or for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces import low_rank

if TYPE_CHECKING:
    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.peft.source import Source

Shape = tuple[int, ...]
#: PEFT's configuration, and fields of adaptr's or of PEFT's that are made.
Said = Mapping[str, Any]
Values = dict[str, Any]
#: Methods that are LoRA at the rank that all their factors have together.
JOINED = ("pissa", "olora", "corda", "lora-ga", "eva")
#: Methods of which a file of PEFT's says what they do, and not how they are trained.
UNTOLD = ("lora-plus", "lora-fa", *JOINED)
#: Methods that are written as plain LoRA, as they are or at the rank that they have together.
PLAIN = ("rslora", *UNTOLD)
#: Fields that change what the factors mean, and how: for who reads plain LoRA alone.
OTHERWISE = {
    "use_qalora": "QA-LoRA pools the input, which is not plain LoRA",
    "use_bdlora": "BD-LoRA packs block-diagonal factors",
    "kasa_config": "KaSA has a diagonal between the factors",
}


class Variant:
    """Plain LoRA, and what a form of it has beside. `field`: of PEFT's configuration, that says that it is one."""

    method, field = "lora", ""
    #: adaptr's name of a tensor beside the factors to PEFT's, and those that PEFT makes again from the base.
    slots: Mapping[str, str] = {}
    unsaved: frozenset[str] = frozenset()
    #: Whether `lora_B` may have a bias, and whether adaptr's configuration says so.
    biased = has_bias = True

    def said(self, config: Said) -> bool:
        return bool(config.get(self.field))

    def values(self, config: Said, path: str) -> Values:
        """adaptr's configuration of one target beside LoRA's; of all for the path ""."""
        return {}

    def whole(self, a: Shape, b: Shape, values: Values) -> tuple[Shape, Shape]:
        """The shapes of the factors that those of the file stand for."""
        return a, b

    def scaled(self, values: Values, width: int) -> Values:
        """A target's configuration, whose scale may be another for layers of this width."""
        return values

    def added(self, source: Source, target: Target) -> dict[str, Piece]:
        """The `unsaved` tensors of a target."""
        return {}

    def fields(self, adapter: Adapter) -> Values:
        """PEFT's fields beside those of LoRA. Raises `Unsupported` for what it can't say."""
        return {}


class Plain(Variant):
    """Two factors and nothing else: PEFT has no core of convolutions."""

    def values(self, config: Said, path: str) -> Values:
        return {"tucker": False}


class DoRA(Variant):
    method, field = "dora", "use_dora"
    slots = {"m": "lora_magnitude_vector"}
    biased = has_bias = False

    def said(self, config: Said) -> bool:
        return fields_of.flag(config, self.field)

    def fields(self, adapter: Adapter) -> Values:
        return {self.field: True}


class ALoRA(Variant):
    method, field = "alora", "alora_invocation_tokens"

    def said(self, config: Said) -> bool:
        return config.get(self.field) is not None

    def values(self, config: Said, path: str) -> Values:
        said = config[self.field]
        if not isinstance(said, list) or not said or not all(type(t) is int and t >= 0 for t in said):
            raise fields_of.misread(self.field, said, "a list of ids of tokens")
        return {"invocation": said}

    def fields(self, adapter: Adapter) -> Values:
        """Of any other task PEFT looks for no invocation, and the adapter would never work."""
        return {self.field: one(adapter, "invocation", "ids of tokens that invoke it"), "task_type": "CAUSAL_LM"}


class MiCA(Variant):
    method, field = "mica", "init_lora_weights"

    def said(self, config: Said) -> bool:
        return config.get(self.field) == self.method

    def fields(self, adapter: Adapter) -> Values:
        return {self.field: self.method}


class VeLoRA(Variant):
    method, field = "velora", "velora_config"
    slots = {"e": "lora_velora_embed"}

    def values(self, config: Said, path: str) -> Values:
        said = inside(config, self.field)
        made = {"groups": fields_of.size(said, "num_groups", 64), "c": fields_of.number(said, "scale", 1.0)}
        return {**made, "init": fields_of.text(said, "init_type") or "batch_average"}

    def fields(self, adapter: Adapter) -> Values:
        theirs = {"groups": "num_groups", "c": "scale", "init": "init_type"}
        return {self.field: {name: one(adapter, ours, f"`{ours}`") for ours, name in theirs.items()}}


class KaSA(Variant):
    """PEFT makes the truncated weight again when it loads; A0 and B0 are what it takes out."""

    method, field = "kasa", "kasa_config"
    slots = {"g": "lora_diag"}
    unsaved = frozenset({"A0", "B0"})
    biased = has_bias = False

    def said(self, config: Said) -> bool:
        return config.get(self.field) is not None

    def values(self, config: Said, path: str) -> Values:
        said = inside(config, self.field)
        return {name: fields_of.number(said, name, usual) for name, usual in (("beta", 1e-4), ("gamma", 1e-3))}

    def added(self, source: Source, target: Target) -> dict[str, Piece]:
        from adaptr import plugins
        from adaptr.contract.view import of_weight

        if source.weights is None:
            raise Unsupported(
                "`kasa_config` is set: it was trained on a base whose smallest singular values were taken out, and "
                "without the base these are not known",
                hint="give that base (`--base`)",
            )
        W = source.weights.weight(target.path)
        found = plugins.method(self.method).init_custom(target, of_weight(W.t() if target.transposed else W), {})
        return {name: Piece("", tuple(tensor.shape), value=tensor) for name, tensor in found.items()}

    def fields(self, adapter: Adapter) -> Values:
        _require_linear(adapter)
        return {self.field: {name: one(adapter, name, f"`{name}`") for name in ("beta", "gamma")}}


class BDLoRA(Variant):
    """PEFT chooses the factor with blocks by texts that are anywhere in a layer's path."""

    method, field = "bd-lora", "use_bdlora"
    biased = False

    def values(self, config: Said, path: str) -> Values:
        said = inside(config, self.field)
        words = {side: fields_of.words(said, f"target_modules_bd_{side.lower()}") for side in "AB"}
        sides = [side for side, texts in words.items() if path and any(text in path for text in texts)]
        strict = said.get("match_strict", True) is True and path
        if len(sides) > 1 or (strict and not sides):
            raise ConfigConflict(
                f"`{path}` has blocks in {'both factors' if sides else 'none'} by `{self.field}`, which PEFT refuses",
                hint="correct the configuration",
            )
        return {"blocks": fields_of.size(said, "nblocks", 1), "side": sides[0] if sides else "none"}

    def whole(self, a: Shape, b: Shape, values: Values) -> tuple[Shape, Shape]:
        times = {side: values["blocks"] if side == values["side"] else 1 for side in "AB"}
        return (*a[:-1], a[-1] * times["A"]), (*b[:-1], b[-1] * times["B"])

    def fields(self, adapter: Adapter) -> Values:
        _require_linear(adapter)
        paths = {side: [p for p, t in adapter.targets.items() if t.config["side"] == side] for side in "AB"}
        for side, own in paths.items():
            others = [path for path in adapter.targets if path not in own]
            inner = next((path for path in own if any(path in other for other in others)), None)
            if inner is not None:
                raise Unsupported(
                    f"PEFT would give other layers the blocks of `{inner}` in {side} as well, as its path is in theirs",
                    hint="convert it with `adaptr convert --method lora`",
                )
        lists = {f"target_modules_bd_{side.lower()}": placing.ordered(own) for side, own in paths.items()}
        return {self.field: {**lists, "nblocks": one(adapter, "blocks", "numbers of blocks"), "match_strict": False}}


class QALoRA(Variant):
    """PEFT multiplies means by the number of groups, adaptr sums: s in / G² there is s here. It does so on layers of
    GPTQ alone, where others get a plain LoRA without a word.
    """

    method, field = "qalora", "use_qalora"
    biased = False

    def said(self, config: Said) -> bool:
        return fields_of.flag(config, self.field)

    def values(self, config: Said, path: str) -> Values:
        return {"group": fields_of.size(config, "qalora_group_size", 16)}

    def whole(self, a: Shape, b: Shape, values: Values) -> tuple[Shape, Shape]:
        return (*a[:-1], a[-1] * values["group"]), b

    def scaled(self, values: Values, width: int) -> Values:
        return {**values, "alpha": values["alpha"] * width / values["group"] ** 2}

    def fields(self, adapter: Adapter) -> Values:
        return {self.field: True, "qalora_group_size": one(adapter, "group", "sizes of groups")}


NONE = Plain()
VARIANTS = (DoRA(), ALoRA(), MiCA(), VeLoRA(), KaSA(), BDLoRA(), QALoRA())
#: QDoRA is DoRA on a base that it names.
BY_METHOD = {**{variant.method: variant for variant in VARIANTS}, "qdora": VARIANTS[0]}
METHODS = tuple(BY_METHOD)
SLOTS = {name: slot for variant in VARIANTS for name, slot in variant.slots.items()}


def of(config: Said) -> Variant:
    """The form that a configuration is of. Raises `ConfigConflict` for two at once."""
    found = [variant for variant in VARIANTS if variant.said(config)]
    if len(found) > 1:
        both = " and ".join(f"`{variant.field}`" for variant in found[:2])
        raise ConfigConflict(f"{both} are both set, which no PEFT writes", hint="correct the configuration")
    return found[0] if found else NONE


# ---------------------------------------------------------------- as it is written


def written(adapter: Adapter) -> Adapter:
    """`adapter` with the factors and scales that PEFT has for it."""
    if adapter.method in JOINED or (adapter.method == "qalora" and not _grouped(adapter)):
        return low_rank.joined(adapter)
    if adapter.method != "qalora":
        return low_rank.folded(adapter)

    def theirs(target: Target) -> Target:
        alpha = target.config["alpha"] * target.config["group"] ** 2 / target.shape[1]
        return dataclasses.replace(target, config={**target.config, "alpha": alpha})

    return adapter.replace(targets={path: theirs(target) for path, target in adapter.targets.items()})


def _grouped(adapter: Adapter) -> bool:
    """Whether it is written as PEFT's QA-LoRA: for a base of GPTQ, or as it was read."""
    known = adapter.foreign.get("peft", {}).get("config", {})
    return adapter.base.quantization == "gptq" or bool(known.get(QALoRA.field))


def one(adapter: Adapter, name: str, called: str) -> object:
    """A field that PEFT has once for all targets. Raises `Unsupported`."""
    (first, *others) = (target.config[name] for target in adapter.targets.values())
    if any(other != first for other in others):
        raise Unsupported(f"PEFT has one for all targets, and this adapter has several {called}", hint=phrases.OWN)
    return first


def _require_linear(adapter: Adapter) -> None:
    odd = next((path for path, target in adapter.targets.items() if target.kind != kinds.LINEAR), None)
    if odd is not None:
        raise Unsupported(
            f"`{odd}`: PEFT has {adapter.method} on linear layers alone, and this is a {adapter.targets[odd].kind}",
            hint="convert it with `adaptr convert --method lora`",
        )


def inside(config: Said, name: str) -> Said:
    """A configuration within the configuration. Raises `ConfigConflict` for anything else."""
    found = config[name]
    if not isinstance(found, Mapping):
        raise fields_of.misread(name, found, "a table of fields")
    return found
