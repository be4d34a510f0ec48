"""The laws that every adapter method keeps, as a pytest class. A plugin's author writes:

    import adaptr.testing

    class TestMine(adaptr.testing.Laws):
        method = "mine"

and gets a test a law, on a tiny Llama-type model. `model()` and `inputs()` may be overridden for other architectures.
The laws of composition strategies are `StrategyLaws`.
"""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import api, plugins
from adaptr.adapter import Adapter, Target
from adaptr.errors import NoDelta, NotMergeable
from adaptr.strategies.laws import StrategyLaws as StrategyLaws

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: Of fp32 results, relative to the largest absolute value.
CLOSE = 1e-5


class Laws:
    """One test a law. `config` and `targets` are what `adaptr.create` gets; choose sizes that suit the model."""

    method: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}
    targets: ClassVar[Sequence[str] | None] = None
    #: For methods that are made of other adapters: name to (method, targets, config) of each.
    children: ClassVar[Mapping[str, tuple[str, Sequence[str] | None, Mapping[str, Any]]]] = {}
    #: Whether the method compiles without a graph break.
    compiles: ClassVar[bool] = True

    # ------------------------------------------------------------ what the laws are tried on

    def model(self) -> nn.Module:
        """A small model in eval mode, the same values at each call."""
        return tiny_llama()

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of the model's forward."""
        import torch

        return {"input_ids": torch.arange(14).reshape(2, 7) + 3}

    def adapter(self, model: nn.Module, seed: int = 1) -> Adapter:
        """An adapter whose tensors are all away from where they start, so that every law can fail."""
        return shaken(self.fresh(model), seed)

    def fresh(self, model: nn.Module) -> Adapter:
        """A fresh adapter. Methods that are made of other adapters get those of `children`, away from their start."""
        if not self.children:
            return api.create(model, self.method, self.targets, **self.config)
        made = {
            name: shaken(api.create(model, method, targets, **config), seed)
            for seed, (name, (method, targets, config)) in enumerate(self.children.items(), 11)
        }
        return api.create(model, self.method, children=made, **self.config)

    def output(self, model: nn.Module) -> Tensor:
        import torch

        with torch.no_grad():
            return logits(model(**self.inputs()))

    # ------------------------------------------------------------ the laws

    def test_law_1_fresh_is_the_identity(self) -> None:
        method = plugins.method(self.method)
        model = self.model()
        before = self.output(model)
        with api.attach(model, self.fresh(model)):
            after = self.output(model)
        if method.identity:
            assert_close(after, before)
        else:
            assert "identity" in (sys.modules[type(method).__module__].__doc__ or ""), "the docstring must say why not"

    def test_law_2_forward_is_the_merged_weight(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        if not mergeable(adapter):
            assert_refused(adapter, model)
            return
        for weight in (1.0, 0.5):
            with api.attach(model, adapter, weight):
                attached = self.output(model)
            assert_close(self.output(merged(model, [(adapter, weight)])), attached)

    def test_law_3_detached_is_bit_identical(self) -> None:
        model = self.model()
        before, keys, values = self.output(model), list(model.state_dict()), copy.deepcopy(model.state_dict())
        classes = [type(m) for m in model.modules()]
        handle = api.attach(model, self.adapter(model))
        assert not bits_equal(self.output(model), before), "the attached adapter changes nothing"
        handle.detach()
        assert bits_equal(self.output(model), before)
        assert list(model.state_dict()) == keys
        assert [type(m) for m in model.modules()] == classes
        assert all(bits_equal(value, values[key]) for key, value in model.state_dict().items())

    def test_law_4_unmerge_gives_the_base_back(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        if not mergeable(adapter) or not plugins.method(self.method).invertible:
            return
        for target in adapter.targets.values():
            W, b, back, bias = round_trip(model, adapter, target)
            assert_close(back, W)
            if b is not None:
                assert bias is not None
                assert_close(bias, b)

    def test_law_5_merging_a_stack_is_merging_the_composed_view(self) -> None:
        model = self.model()
        stack = [(self.adapter(model, 1), 1.0), (self.adapter(model, 2), 0.7)]
        if not mergeable(stack[0][0]):
            return
        handles = [api.attach(model, adapter, weight) for adapter, weight in stack]
        attached = self.output(model)
        for handle in handles:
            handle.detach()
        assert_close(self.output(merged(model, stack)), attached)

    def test_law_6_save_load_save_is_the_same_bytes(self, tmp_path: Path) -> None:
        from adaptr.format import read

        model = self.model()
        adapter = self.adapter(model)
        first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
        api.save(adapter, first)
        loaded = read(first)
        api.save(loaded, second)
        assert first.read_bytes() == second.read_bytes()
        with api.attach(model, adapter):
            before = self.output(model)
        with api.attach(model, loaded):
            assert bits_equal(self.output(model), before)

    def test_law_7_only_its_own_tensors_learn(self) -> None:
        import torch

        model = self.model()
        if not trained_keys(self.adapter(model)):
            import pytest

            pytest.skip(f"`{self.method}` learns nothing: all that it has follows from the adapters it is made of")
        flags = [p.requires_grad for p in model.parameters()]
        with torch.random.fork_rng(devices=[]), api.train(model, self.adapter(model)) as session:
            torch.manual_seed(0)
            optimiser = torch.optim.Adam(session.parameters(), lr=1e-2)
            losses = []
            for _ in range(5):
                optimiser.zero_grad()
                loss = logits(model(**self.inputs())).float().log_softmax(-1)[..., 0].mean().neg()
                loss.backward()  # type: ignore[no-untyped-call]
                own = {id(p) for p in session.parameters()}
                assert {id(p) for p in model.parameters() if p.grad is not None} == own
                optimiser.step()
                session.after_step()
                losses.append(loss.item())
            trained = session.adapted()
        assert losses[-1] < losses[0]
        assert [p.requires_grad for p in model.parameters()] == flags
        assert any(not bits_equal(t, trained.tensors[k]) for k, t in self.adapter(model).tensors.items())

    def test_law_8_copies_are_independent_and_pickles_return(self) -> None:
        import torch

        model = self.model()
        handle = api.attach(model, self.adapter(model))
        attached = self.output(model)
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter.add_(0.1)
        assert bits_equal(self.output(twin), attached)
        stream = io.BytesIO()
        pickle.dump(twin, stream)
        stream.seek(0)
        assert bits_equal(self.output(pickle.load(stream)), attached)
        handle.detach()

    def test_law_9_compiles_without_a_break(self) -> None:
        import torch

        if not self.compiles:
            return
        model = self.model()
        with api.attach(model, self.adapter(model)):
            plain = self.output(model)
            torch._dynamo.reset()
            compiled = self.output(torch.compile(model, backend="eager", fullgraph=True))  # type: ignore[arg-type]
        assert_close(compiled, plain)

    def test_law_10_quantised_keeps_shapes_and_its_declared_error(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        for scheme, bound in (("fp16", 1e-3), ("bf16", 1e-2), ("int8", 4e-2)):
            small = api.quantize(adapter, scheme)
            assert small.method == adapter.method
            assert small.targets == adapter.targets
            worst = max(relative(after, before) for before, after in tensor_pairs(adapter, small))
            assert worst <= bound
            truth = error_of_change(adapter, small)
            assert truth <= small.quantization["error"] <= 2 * truth, truth
            with api.attach(model, small):
                assert bool(self.output(model).isfinite().all())

    def test_law_11_importing_it_does_not_import_torch(self) -> None:
        code = (
            "import sys; from adaptr import plugins; m = plugins.method(sys.argv[1]); m.config({}); "
            "print([n for n in ('torch', 'numpy', 'transformers') if n in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code, self.method], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_law_13_counts_what_it_trains(self) -> None:
        model = self.model()
        adapter = self.adapter(model)
        with api.train(model, adapter) as session:
            trained = sum(p.numel() for p in session.parameters())
        assert trained == count(adapter) == sum(adapter.tensors[k].numel() for k in trained_keys(adapter))


# ---------------------------------------------------------------- what the laws are made of


def tiny_llama() -> nn.Module:
    """Two layers, width 32, two key/value heads for four query heads, no biases."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
        model: nn.Module = LlamaForCausalLM(config).eval()
        return model


def shaken(adapter: Adapter, seed: int = 1, by: float = 0.1) -> Adapter:
    """The adapter with noise on every tensor that trains."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    noise = {k: by * torch.randn(adapter.tensors[k].shape, generator=generator) for k in trained_keys(adapter)}
    return adapter.replace(tensors={k: t + noise[k] if k in noise else t for k, t in adapter.tensors.items()})


def trained_keys(adapter: Adapter) -> list[str]:
    """The keys of the tensors that train, in the order of the tensors."""
    methods = {name: plugins.method(part.method) for name, part in adapter.parts.items()}
    own = plugins.method(adapter.method)

    def trains(key: str) -> bool:
        part, dot, name = key.rpartition(":")[2].partition(".")
        return own.trains_parts and methods[part].params[name].trains if dot else own.params[part].trains

    return [key for key in adapter.tensors if trains(key)]


def logits(output: Any) -> Tensor:
    """The tensor of an output that the laws compare."""
    import torch

    if isinstance(output, torch.Tensor):
        return output
    found: Tensor = output.logits if hasattr(output, "logits") else output[0]
    return found


def parts_of(adapter: Adapter) -> list[Adapter]:
    """A composite's children, or the adapter itself."""
    return [adapter.part(name) for name in adapter.parts] or [adapter]


def count(adapter: Adapter) -> int:
    """The numbers an adapter has by its method's table."""
    own = plugins.method(adapter.method)
    parts = [adapter.part(name) for name in adapter.parts] if own.trains_parts else []
    return sum(plugins.method(a.method).count(t) for a in [adapter, *parts] for t in a.targets.values())


def mergeable(adapter: Adapter) -> bool:
    own = plugins.method(adapter.method)
    return not own.unmergeable and not any(plugins.method(part.method).unmergeable for part in parts_of(adapter))


def merged(model: nn.Module, stack: Sequence[tuple[Adapter, float]]) -> nn.Module:
    """A copy of `model` with the adapters in its weights: each weight is read once, from the composed View."""
    import torch

    made = copy.deepcopy(model)
    places = {t.path: t for adapter, _ in stack for _, t in adapter.all_targets}
    with torch.no_grad():
        for target in places.values():
            W, b = composed(model, stack, target)
            _write(made, target, W, b)
    return made


def composed(model: nn.Module, stack: Sequence[tuple[Adapter, float]], target: Target) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of `target` under all adapters of the stack that have it."""
    from adaptr.host import view_of

    view = view_of(model, target)
    for adapter, weight in stack:
        for _, part, strength in plugins.method(adapter.method).members(adapter):
            own = part.targets.get(target.path)
            if own is not None:
                strong = weight * strength(target.path)
                view = plugins.hooks(part.method).merge(adapter=part, target=own, base=view, weight=strong)
    return view.weight, view.bias


def _write(model: nn.Module, target: Target, W: Tensor, b: Tensor | None) -> None:
    import torch

    if target.kind in {"experts", "experts_t"}:
        model.get_parameter(target.path).copy_(W.transpose(1, 2) if target.transposed else W)
        return
    module = model.get_submodule(target.path)
    module.get_parameter("weight").copy_(W.t() if target.transposed else W)
    if b is not None:
        module.bias = torch.nn.Parameter(b.clone())


def round_trip(
    model: nn.Module, adapter: Adapter, target: Target
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """(W, b, W', b'): a target before merging, and after merging and unmerging it."""
    from adaptr.host import view_of
    from adaptr.view import of_weight

    method, hooks = plugins.method(adapter.method), plugins.hooks(adapter.method)
    base = view_of(model, target)
    kept = method.keep(base, adapter.at(target.path), method.config(target.config), slice(None))
    up = hooks.merge(adapter=adapter, target=target, base=base, weight=1.0)
    there = of_weight(up.weight.detach(), None if up.bias is None else up.bias.detach())
    down = hooks.unmerge(adapter=adapter, target=target, merged=there, kept=kept, weight=1.0)
    return base.weight, base.bias, down.weight, down.bias


def assert_refused(adapter: Adapter, model: nn.Module) -> None:
    """Merging says why not, and what is possible."""
    import pytest

    from adaptr.host import view_of

    refused = [a for a in [adapter, *parts_of(adapter)] if plugins.method(a.method).unmergeable]
    assert refused
    for part in refused:
        for target in part.targets.values():
            with pytest.raises(NotMergeable, match="Possible:"):
                plugins.hooks(part.method).merge(adapter=part, target=target, base=view_of(model, target), weight=1.0)


def tensor_pairs(before: Adapter, after: Adapter) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor as it was and as it is read back, by parts where there are parts."""
    for one, other in zip(parts_of(before), parts_of(after), strict=True):
        for path in one.targets:
            mine, theirs = one.at(path), other.at(path)
            assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in theirs.items()}
            yield from ((mine[name], theirs[name]) for name in mine)


def error_of_change(before: Adapter, after: Adapter) -> float:
    """The largest ‖D' - D‖ / ‖D‖ of a target, dense and in fp64, of its weight or bias; without a delta, the worst of
    the parts, or of the tensors, of scales against 1.
    """
    from adaptr.ops.deltas import deltas

    try:
        was, now = deltas(before), deltas(after)
    except NoDelta:
        if before.parts:
            return max(error_of_change(before.part(name), after.part(name)) for name in before.parts)
        return _of_tensors(before, after)
    weights = [relative(now[path].dense(), was[path].dense()) for path in was]
    shifts = [relative(now.biases[path], was.biases[path]) for path in was.biases]
    return max([*weights, *shifts], default=0.0)


def _of_tensors(before: Adapter, after: Adapter) -> float:
    params = plugins.method(before.method).params
    pairs = [(name, t, after.at(path)[name]) for path in before.targets for name, t in before.at(path).items()]
    pairs = [(name, t, now) for name, t, now in pairs if params[name].trains]
    if all(params[name].init == "ones" for name, _, _ in pairs):
        return max(relative(now - 1, t - 1) for _, t, now in pairs)
    return max(relative(now, t) for _, t, now in pairs)


def relative(after: Tensor, before: Tensor) -> float:
    """‖after - before‖ / ‖before‖."""
    size = float(before.double().norm())
    return float((after.double() - before.double()).norm()) / size if size else 0.0


def assert_close(found: Tensor, wanted: Tensor, to: float = CLOSE) -> None:
    """Equal to `to`, relative to the largest value wanted."""
    scale = max(float(wanted.detach().abs().max()), 1.0)
    worst = float((found.detach() - wanted.detach()).abs().max()) / scale
    assert worst <= to, f"differs by {worst:.2e} of the largest value, wanted at most {to:.0e}"


def bits_equal(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    import torch

    return torch.equal(found, wanted)
