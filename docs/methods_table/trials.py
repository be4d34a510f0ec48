"""One trial for each thing that can be done with an adapter: it says what came of it, or raises why it can't be.

On a Llama of two layers with biases, with adapters of the method's small configuration whose tensors are away from
where they start, so that what is dropped on the way shows.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import adaptr
from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.errors import AdaptrError, NotPossible, Unsupported
from adaptr.testing import Laws
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.samples import logits, shaken, trained_keys
from methods_table.table import Verdict


def tried(name: str, what: str, folder: Path) -> Verdict:
    """One cell of the table."""
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            why = TRIALS[what](Sample(name, folder))
    except AdaptrError as error:
        return Verdict(name, what, "no", error.fact)
    except Exception as error:  # the table says so
        return Verdict(name, what, "CRASH", f"{type(error).__name__}: {str(error).splitlines()[:1]}")
    return Verdict(name, what, "yes", why or "")


def llama() -> nn.Module:
    """Layers of 64, as wide as a block of NF4 is, with biases, and a table that is not square."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, attention_bias=True, mlp_bias=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = LlamaForCausalLM(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.02)
    return model


class Sample:
    """What a method is tried on."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.method = plugins.method(name)
        self.laws = type("Tried", (Laws,), {"method": name})()
        self.model = llama()

    def adapter(self, seed: int = 1) -> Adapter:
        """Away from its start. One that is made of others is made of others by each seed, and is as it was made."""
        called, examples = f"{self.name}-{seed}", self.method.examples
        if not examples:
            made: Adapter = self.laws.adapter(self.model, seed)
            return made.replace(name=called)
        children = {
            name: shaken(adaptr.create(self.model, method, targets, **values), 10 * seed + number).replace(name=name)
            for number, (name, (method, targets, values)) in enumerate(examples.items())
        }
        return adaptr.create(self.model, self.name, name=called, children=children, **self.method.small)

    @property
    def ids(self) -> Tensor:
        return self.laws.inputs()["input_ids"]

    def output(self, model: nn.Module | None = None) -> Tensor:
        return self.laws.output(model if model is not None else self.model)

    def attached(self, *adapters: tuple[Adapter, float], model: nn.Module | None = None) -> Tensor:
        on = model if model is not None else self.model
        with contextlib.ExitStack() as stack:
            for adapter, weight in adapters:
                stack.enter_context(adaptr.attach(on, adapter, weight))
            return self.output(on)

    @cached_property
    def base(self) -> Path:
        where = self.folder / "base"
        if not where.exists():
            self.model.save_pretrained(where)
        return where

    @contextlib.contextmanager
    def session(self, model: nn.Module | None = None) -> Iterator[Any]:
        if not trained_keys(self.adapter()):
            raise Unsupported(f"`{self.name}` learns nothing: all that it has follows from the adapters it is made of")
        torch.manual_seed(0)
        with adaptr.train((model or self.model).train(), self.adapter()) as session:
            yield session

    def gradients(self, wrap: Callable[[nn.Module], nn.Module] = lambda model: model) -> list[Tensor]:
        with self.session() as session:
            torch.manual_seed(1)
            loss = logits(wrap(session.model)(self.ids)).float().log_softmax(-1)[..., 0].mean().neg()
            loss.backward()
            return [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in session.parameters()]


def _train(it: Sample) -> None:
    before = copy.deepcopy(it.model.state_dict())
    with it.session() as session:
        driver = it.laws.driver(session)
        was = [parameter.detach().clone() for parameter in session.parameters()]
        driver.fit()
        now = [parameter.detach() for parameter in session.parameters()]
        assert any(not bits_equal(one, other) for one, other in zip(now, was, strict=True)), "nothing was learnt"
        assert all(bool(torch.isfinite(value).all()) for value in now)
    assert all(bits_equal(value, before[key]) for key, value in it.model.state_dict().items())


def _checkpointing(it: Sample) -> None:
    plain = it.gradients()

    it.model.gradient_checkpointing_enable({"use_reentrant": False})
    for one, other in zip(it.gradients(), plain, strict=True):
        assert_close(one, other)


def _ddp(it: Sample) -> None:
    plain = it.gradients()
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        found = it.gradients(torch.nn.parallel.DistributedDataParallel)
    finally:
        torch.distributed.destroy_process_group()
    for one, other in zip(found, plain, strict=True):
        assert_close(one, other)


def _compile(it: Sample) -> None:
    with adaptr.attach(it.model, it.adapter()):
        plain = it.output()
        torch._dynamo.reset()
        assert_close(it.output(torch.compile(it.model, backend="eager", fullgraph=True)), plain)


def _cache(it: Sample) -> None:
    with adaptr.attach(it.model, it.adapter()), torch.no_grad():
        whole = it.model.generate(it.ids, max_new_tokens=4, do_sample=False, use_cache=False, pad_token_id=0)
        cached = it.model.generate(it.ids, max_new_tokens=4, do_sample=False, use_cache=True, pad_token_id=0)
    assert torch.equal(whole, cached)


def _nf4(it: Sample) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    said = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    loaded = [
        AutoModelForCausalLM.from_pretrained(it.base, quantization_config=said, dtype=torch.float32) for _ in range(2)
    ]
    packed, dense = loaded[0].eval(), loaded[1].dequantize().eval()
    it.model = dense
    adapter = it.adapter()
    own = float((it.output(packed) - it.output(dense)).abs().max())  # what the library's products round
    one, other = it.attached((adapter, 1.0), model=packed), it.attached((adapter, 1.0), model=dense)
    assert float((one - other).abs().max()) <= 3 * own + 1e-5
    assert not bits_equal(one, it.output(packed))


def _stack(it: Sample) -> None:
    one, two = it.adapter(1), it.adapter(2)
    wanted = it.attached((one, 1.0), (two, 1.0))
    with adaptr.stack(it.model, {"one": one, "two": two}):
        assert_close(it.output(), wanted)


def _pool(it: Sample) -> None:
    adapter, ids = it.adapter(), it.ids
    wanted = it.attached((adapter, 1.0))[:1]
    bare = it.output()[1:2]
    with adaptr.pool(it.model) as pool, torch.inference_mode():
        pool.add("it", adapter)
        found = logits(pool.forward(["it", None], ids[:2]))
    assert_close(found, torch.cat([wanted, bare]))


def _expert(it: Sample) -> None:
    gate = adaptr.create(it.model, "lora-soups", children={"one": it.adapter(1), "two": it.adapter(2)})
    assert not bits_equal(it.attached((gate, 1.0)), it.output())


def _merge(it: Sample) -> None:
    adapter = it.adapter()
    adaptr.merge(it.base, adapter, it.folder / "merged", force=True)
    merged = type(it.model).from_pretrained(it.folder / "merged").eval()
    assert_close(it.output(merged), it.attached((adapter, 1.0)))


def _unmerge(it: Sample) -> None:
    adaptr.merge(it.base, it.adapter(), it.folder / "merged", force=True)
    adaptr.unmerge(it.folder / "merged", it.folder / "back", force=True)
    name = "model.safetensors"
    assert (it.folder / "back" / name).read_bytes() == (it.base / name).read_bytes()


def _compose(it: Sample) -> None:
    one, two = it.adapter(1), it.adapter(2)
    made = adaptr.compose([(one, 0.5), (two, 0.5)], base=it.model).adapter
    assert not bits_equal(it.attached((made, 1.0)), it.output())
    if it.method.can.delta:
        assert_close(it.attached((made, 1.0)), it.attached((one, 0.5), (two, 0.5)))


def _diff(it: Sample) -> None:
    adaptr.save(it.adapter(1), it.folder / "one.safetensors", force=True)
    adaptr.save(it.adapter(2), it.folder / "two.safetensors", force=True)
    base = None if it.method.can.delta else it.base
    found = adaptr.diff(it.folder / "one.safetensors", it.folder / "two.safetensors", base)
    assert found.same_change is False


def _lora(it: Sample) -> str:
    adaptr.save(it.adapter(), it.folder / "one.safetensors", force=True)
    base = None if it.method.can.delta else it.base
    report = adaptr.convert_method(
        it.folder / "one.safetensors", it.folder / "lora.safetensors", rank=64, base=base, force=True
    )
    assert_close(it.attached((adaptr.load(it.folder / "lora.safetensors"), 1.0)), it.attached((it.adapter(), 1.0)))
    return f"rank {max(report.ranks)}" if hasattr(report, "ranks") and report.ranks else ""


def _quantise(it: Sample) -> str:
    adapter, refused = it.adapter(), None
    for scheme in ("int4-g32", "nf4", "int8", "fp16"):
        try:
            made = adaptr.quantize(adapter, scheme)
        except NotPossible as error:
            refused = refused or error
            continue
        adaptr.save(made, it.folder / "small.safetensors", force=True)
        assert not bits_equal(it.attached((adaptr.load(it.folder / "small.safetensors"), 1.0)), it.output())
        return f"down to {scheme}"
    assert refused is not None
    raise refused


def _peft(it: Sample) -> None:
    adapter = it.adapter()
    adaptr.save(adapter, it.folder / "one.safetensors", force=True)
    adaptr.convert(it.folder / "one.safetensors", it.folder / "peft", "peft", base=it.model, force=True)
    back = adaptr.load(it.folder / "peft", base=it.model)
    assert bits_equal(it.attached((back, 1.0)), it.attached((adapter, 1.0)))


TRIALS: Mapping[str, Callable[[Sample], str | None]] = {
    "train": _train, "checkpointing": _checkpointing, "ddp": _ddp, "compile": _compile, "cache": _cache, "nf4": _nf4,
    "stack": _stack, "pool": _pool, "expert": _expert, "merge": _merge, "unmerge": _unmerge, "compose": _compose,
    "diff": _diff, "lora": _lora, "quantise": _quantise, "peft": _peft,
}  # fmt: skip
