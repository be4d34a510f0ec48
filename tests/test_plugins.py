"""How a name becomes a method: built-ins, observers, and plugins that are wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import LowRank, Param, errors, hookspecs, plugins
from adaptr.contract.capabilities import LOW_RANK, USES
from adaptr.families.delta import Delta
from adaptr.testing import logits, shaken

# ---------------------------------------------------------------- plugins that are wrong


class _Point:
    """What is known of an installed entry point, as far as it is used."""

    module, by = "somewhere", ("somewhere",)

    def __init__(self, name: str, found: Any) -> None:
        self.name, self.value, self._found = name, f"somewhere:{name}", found

    def load(self) -> Any:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


class Typo(Delta):
    name = "typo"

    def merge(self, adaptr: Any, target: Any, base: Any, weight: float) -> Any:
        raise NotImplementedError


class Misnamed(Delta):
    name = "other"


class Overriding(Delta):
    """An override without any decorator."""

    name = "overriding"

    def quantize(self, adapter: Any, scheme: str) -> Any:
        return "mine"


class Shared(Delta):
    """Tied-LoRA: one A and one B learn for all layers, a scale and a gain for each."""

    name = "shared"
    params = {
        "A": Param("r in", init="kaiming", shared=True),
        "B": Param("out r", shared=True),
        "u": Param("r", init="ones"),
        "v": Param("out", init="ones"),
    }
    kinds = frozenset({"linear"})

    @dataclass(frozen=True)
    class Config:
        r: int = 4

    def delta(self, p: Any, cfg: Any) -> LowRank:
        return LowRank(p["v"].unsqueeze(-1) * p["B"], p["u"].unsqueeze(-1) * p["A"])


class Halves(Delta):
    """W' = W + 2 B A: a delta of low rank has a way back to its tensors."""

    name = "halves"
    params = {"A": Param("r in", init="kaiming"), "B": Param("out r")}
    kinds = frozenset({"linear"})
    forms = frozenset({LOW_RANK})

    @dataclass(frozen=True)
    class Config:
        r: int = 4

    def delta(self, p: Any, cfg: Any) -> LowRank:
        return LowRank(p["B"], p["A"], 2.0)

    def written(self, op: Any, bias: Any) -> Any:
        low = op.low_rank()
        B, A = low.factors()
        return {"r": len(A)}, {"A": A, "B": B * (low.scale / 2)}


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr("adaptr.discovery._points", lambda group: found if group == "adaptr.methods" else {})
    yield found
    plugins.method.cache_clear()
    plugins.manager.cache_clear()


@pytest.mark.parametrize(
    ("name", "found", "words"),
    [
        ("broken", ImportError("no module named xyz"), "failed to load.*xyz"),
        ("number", 5, "wanted a subclass of adaptr.Method"),
        ("plain", dict, "wanted a subclass of adaptr.Method"),
        ("misnamed", Misnamed, "calls itself `other`"),
        ("typo", Typo, "`typo`: a hook has other arguments"),
    ],
)
def test_a_broken_plugin_is_named_with_its_fault(points: dict[str, Any], name: str, found: Any, words: str) -> None:
    points[name] = _Point(name, found)
    with pytest.raises(errors.UsageError, match=words):
        plugins.hooks(name)


def test_an_override_without_a_decorator_is_a_hook(points: dict[str, Any]) -> None:
    points["overriding"] = _Point("overriding", Overriding)
    assert plugins.hooks("overriding").quantize(adapter=None, scheme="x") == "mine"


def test_a_method_of_ones_own_can_be_what_a_delta_is_written_as(points: dict[str, Any], tmp_path: Path) -> None:
    points["halves"] = _Point("halves", Halves)
    lora, out = tmp_path / "lora.safetensors", tmp_path / "halves.safetensors"
    adaptr.save(shaken(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=3)), lora)
    report = adaptr.convert_method(lora, out, "halves")
    assert (report.method, report.exact) == ("halves", True)
    found, wanted = adaptr.load(out), adaptr.load(lora)
    for path in wanted.targets:
        assert torch.allclose(found[path].dense(), wanted[path].dense(), atol=1e-6)


def test_a_built_in_wins_over_an_installed_plugin_of_its_name(points: dict[str, Any]) -> None:
    plugins.method.cache_clear()
    points["lora"] = _Point("lora", Misnamed)
    assert type(plugins.method("lora")).__name__ == "LoRA"


# ---------------------------------------------------------------- names and observers


@pytest.mark.parametrize(("name", "near"), [("lroa", "`lora`"), ("LoRA", "`lora`"), ("prefx", "`prefix`")])
def test_an_unknown_name_gives_near_ones(name: str, near: str) -> None:
    with pytest.raises(errors.UnknownMethod, match=f"no method `{name}`") as caught:
        plugins.method(name)
    assert near in str(caught.value)


def test_a_name_like_nothing_points_to_the_list() -> None:
    with pytest.raises(errors.UnknownMethod, match="see `adaptr methods`"):
        adaptr.create(tiny.model("llama"), "qqqqqq")


@pytest.mark.parametrize("name", plugins.builtin_files())
def test_a_built_in_is_found_under_its_file_name_with_its_formula(name: str) -> None:
    method = plugins.method(name)
    assert method.name == name
    first = (sys.modules[type(method).__module__].__doc__ or "").split("\n\n")[0]
    assert any(source in first for source in ("arXiv:", "OpenReview", "doi", "arXiv id not confirmed", "no paper"))
    answered = {verb for verb in hookspecs.HOOKS if getattr(plugins.hooks(name), verb).get_hookimpls()}
    assert answered == set(hookspecs.HOOKS)


def test_an_observer_sees_every_call_until_it_is_forgotten() -> None:
    class Watch:
        seen: list[str] = []

        @hookspecs.hookimpl(wrapper=True)
        def apply(self, adapter: Any, weight: float) -> Any:
            result = yield
            self.seen.append(f"{adapter.method} {weight}")
            return result

    model, watch = tiny.model("llama"), Watch()
    adapter = adaptr.create(model, "lora")
    plugins.observe(watch)
    try:
        adaptr.attach(model, adapter, 0.5).detach()
    finally:
        plugins.forget(watch)
    adaptr.attach(model, adapter).detach()
    assert watch.seen == ["lora 0.5"]


def test_what_all_targets_share_learns_as_one(points: dict[str, Any], tmp_path: Path) -> None:
    """Found in 0.1.0: each layer trained a copy of its own, and the file kept what they had begun with."""
    points["shared"] = _Point("shared", Shared)
    model = tiny.model("llama")
    before = logits(model(**tiny.inputs("llama"))).detach()
    adapter = adaptr.create(model, "shared", ["q_proj"])
    with adaptr.train(model, adapter) as session:
        assert sum(p.numel() for p in session.parameters()) == sum(t.numel() for t in adapter.tensors.values())
        optimiser = torch.optim.SGD(session.parameters(), lr=10.0)
        for _ in range(2):
            optimiser.zero_grad()
            logits(model(**tiny.inputs("llama"))).square().mean().backward()
            optimiser.step()
            session.after_step()
        one, two = session.states.values()
        assert one["B"] is two["B"]
        trained = logits(model(**tiny.inputs("llama"))).detach()
        adaptr.save(session.adapted(), tmp_path / "a.safetensors")
    again = adaptr.load(tmp_path / "a.safetensors")
    assert set(again.tensors) == set(adapter.tensors)
    assert not torch.equal(trained, before)
    with adaptr.attach(model, again):
        assert torch.equal(logits(model(**tiny.inputs("llama"))).detach(), trained)


def test_for_each_use_one_built_in_method_says_that_it_is_the_default() -> None:
    said = sorted(use for name in plugins.builtin_files() for use in plugins.method(name).default_for)
    assert said == sorted(USES)
    assert {plugins.default(use) for use in USES} <= set(plugins.builtin_files())
