"""mergekit's recipes of LoRAs, by the keys that its documentation has: a `models` entry is `BASE+LORA`, or an adapter.

What mergekit makes is a model, what adaptr makes an adapter; `adaptr merge` puts it into the base. Where the same
words mean another sum, that is said. What has no meaning for adapters (layers from several models, a tokenizer's union)
is refused or named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from adaptr.adapter import weighting
from adaptr.adapter.weighting import Gradient, Weight
from adaptr.composing.recipe import Input, Recipe
from adaptr.errors import UsageError
from adaptr.precision import NAMES
from adaptr.sources.resolve import Source, resolve

if TYPE_CHECKING:
    from yaml import Node

    from adaptr.untrusted.lined import Lined

MARK = "merge_method"
#: Of the whole: what a recipe for models says of tokens is none of an adapter's.
OF_MODELS = ("tokenizer_source", "tokenizer", "chat_template", "out_dtype")
OF_LAYERS = ("slices", "modules")
FIELDS = (MARK, "base_model", "models", "parameters", "dtype", *OF_MODELS, *OF_LAYERS)
#: Parameters that are about how mergekit computes.
SILENT = frozenset({"int8_mask"})
MEAN = "the mean of the values that agree is taken; mergekit adds them unless its `normalize` is true"
RESCALE = "what is left is divided by the share kept"
DELTAS = "directions are those of the changes; mergekit's are those of whole weights"


@dataclass(frozen=True)
class Way:
    """A method of mergekit's: the strategy, its fields by mergekit's parameters, and what is not the same."""

    strategy: str
    fields: Mapping[str, str] = field(default_factory=dict)
    unless: Mapping[str, Any] = field(default_factory=dict)
    normalize: bool | None = None
    differs: str = ""


THINNED = {"density": "density", "lambda": "lam"}
WAYS = {
    "linear": Way("linear", normalize=True),
    "task_arithmetic": Way("task-arithmetic", {"lambda": "lam"}),
    "ties": Way("ties", THINNED, {"density": 1.0}),
    "dare_linear": Way("dare", {"density": "density"}, {"density": 1.0}, differs=RESCALE),
    "dare_ties": Way("dare-ties", THINNED, {"density": 1.0}, differs=MEAN),
    "della": Way("della", {**THINNED, "epsilon": "epsilon"}, differs=MEAN),
    "breadcrumbs": Way("breadcrumbs", {"density": "density", "gamma": "gamma", "lambda": "alpha"}),
    "slerp": Way("slerp", differs=DELTAS),
    "nuslerp": Way("slerp"),
    "karcher": Way("karcher", {"max_iter": "steps", "tol": "tolerance"}, differs=DELTAS),
}


def is_one(file: Lined) -> bool:
    root = file.root
    return root is not None and root.id == "mapping" and any(key.value == MARK for key, _ in root.value)


def read(file: Lined) -> Recipe:
    """The recipe, with a note of each thing that is not as mergekit has it. Raises `RecipeError`."""
    try:
        return _Reader(file).recipe()
    except UsageError as error:  # of a weight
        raise file.error(0, error.fact, hint=error.hint) from None
    except (AttributeError, KeyError, TypeError, ValueError):
        hint = "`models` is a list of mappings, `parameters` a mapping of numbers, lists or filters"
        raise file.error(0, "a part of it is not of the sort that mergekit has there", hint=hint) from None


class _Reader:
    def __init__(self, file: Lined) -> None:
        self.file, self.found = file, file.fields(file.root, FIELDS, "a recipe of mergekit's")

    def recipe(self) -> Recipe:
        for name in OF_LAYERS:
            if name in self.found:
                raise self._wrong(self.found[name], f"`{name}` takes layers from several models", "give `models`")
        method = str(self._value(MARK))
        if method not in WAYS:
            raise self._wrong(self.found[MARK], f"`{method}` has no way for adapters here", f"it has {', '.join(WAYS)}")
        if "models" not in self.found:
            raise self.file.error(0, "a recipe of mergekit's wants `models`")
        way, models = WAYS[method], self._models()
        plain = [Input(one, self._weight(said)) for one, said in models]
        inputs = self._between(models) if method == "slerp" else plain
        normalize = cast(bool | None, self._of_all().get("normalize", way.normalize))
        own = [one for _, one in models]
        config, notes = self._config(way, own), tuple(self._notes(way, own))
        dtype = {long: short for short, long in NAMES.items()}.get(str(self._value("dtype")))
        return Recipe(
            tuple(inputs), way.strategy, config, normalize=normalize, base=self._base(), dtype=dtype, notes=notes
        )

    # ------------------------------------------------------------ what is composed

    def _base(self) -> Source | None:
        """The base where it is on this machine: few adapters need it, and nothing is pulled for the others."""
        given = self._value("base_model")
        found = resolve(self._named(given).partition("+")[0], self.file.path.parent) if given else None
        return found if found and found.here and found.here.exists() else None

    def _models(self) -> list[tuple[Source, Mapping[str, Any]]]:
        """Each adapter with its parameters; the base itself, which mergekit lists as well, changes nothing."""
        found, base = [], self._named(self._value("base_model") or "")
        for node in self.found["models"].value:
            one = self.file.fields(node, ("model", "parameters"), "a model")
            if "model" not in one:
                raise self._wrong(node, "an entry of `models` wants `model`", "give BASE+LORA or an adapter")
            name = self._named(self.file.value("model", one["model"]))
            parameters = self.file.value("parameters", one["parameters"]) if "parameters" in one else None
            if name != base:
                found.append((resolve(name.rpartition("+")[2], self.file.path.parent), parameters or {}))
        return found

    def _named(self, given: object) -> str:
        """`BASE+LORA`, or mergekit's mapping of both."""
        if not isinstance(given, Mapping):
            return str(given)
        path = [self._named(given[part]) for part in ("model", "lora") if part in given]
        return "+".join(path) or str(given.get("path", ""))

    # ------------------------------------------------------------ how

    def _between(self, models: list[tuple[Source, Mapping[str, Any]]]) -> list[Input]:
        """Of two at `t`: the first one's share is what is left."""
        t = self._weight({}, "t", 0.5)
        shares = (_left(t), t)
        return [Input(one, share) for (one, _), share in zip(models, shares, strict=False)]

    def _weight(self, own: Mapping[str, Any], name: str = "weight", unless: float = 1.0) -> Weight:
        """A number, a gradient, or by filter: mergekit takes the first that fits, adaptr the last."""
        value = cast(Weight, self._parameter(own, name, unless))
        if not isinstance(value, list) or not any(isinstance(one, Mapping) for one in value):
            return weighting.checked(value, name)
        by = {f"*{one['filter']}*" if one.get("filter") else "*": one.get("value") for one in reversed(value)}
        return weighting.checked(by if "*" in by else {"*": 0.0, **by}, name)

    def _config(self, way: Way, models: list[Mapping[str, Any]]) -> dict[str, Any]:
        config: dict[str, Any] = {}
        for theirs, ours in way.fields.items():
            said = [self._parameter(own, theirs, way.unless.get(theirs)) for own in models]
            if any(one != said[0] for one in said):
                node = self.found["models"]
                raise self._wrong(node, f"`{theirs}` differs between models", "give all the same: a strategy has one")
            if said and said[0] is not None:
                config[ours] = said[0]
        if way.strategy == "breadcrumbs":  # theirs: the shares kept and cut off at the top; ours: where both cuts are
            kept, top = config.pop("density", 1.0), config.pop("gamma", 0.01)
            config |= {"beta": max(0.0, 1 - kept - top), "gamma": 1 - min(top, 1 - kept)}
        return config

    def _parameter(self, own: Mapping[str, Any], name: str, unless: object) -> object:
        """A model's own, else that of all."""
        return own.get(name, self._of_all().get(name, unless))

    def _notes(self, way: Way, models: list[Mapping[str, Any]]) -> Iterator[str]:
        yield from (f"mergekit's `{name}` is of models and is passed over" for name in OF_MODELS if name in self.found)
        known = {"weight", "t", "normalize", *way.fields} | SILENT
        given = set(self._of_all()).union(*models) - known
        yield from (f"mergekit's `{name}` has no place in `{way.strategy}`" for name in sorted(given))
        if way.differs:
            yield f"not as mergekit does it: {way.differs}"

    def _of_all(self) -> Mapping[str, Any]:
        found = self._value("parameters")
        return found if isinstance(found, Mapping) else {}

    def _value(self, name: str) -> object:
        return self.file.value(name, self.found[name]) if name in self.found else None

    def _wrong(self, node: Node, what: str, hint: str) -> Exception:
        return self.file.error(node.start_mark.line, what, hint=hint)


def _left(share: Weight) -> Weight:
    """One minus a share of any form."""
    if isinstance(share, Mapping):
        return {pattern: _rest(one) for pattern, one in share.items()}
    return _rest(share)


def _rest(share: Gradient) -> Gradient:
    return 1 - share if isinstance(share, int | float) else [1 - one for one in share]
