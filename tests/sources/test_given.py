"""Adapters are given in one way everywhere: every public function takes every spelling, and means the same by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import checkpoints
import tiny
from adaptr.errors import InputError, NotFound, UsageError
from adaptr.format import digest
from adaptr.sources.given import by_name, several
from adaptr.sources.resolve import resolve
from adaptr.testing import shaken

#: One adapter, spelled by the file at "style" or by what was loaded of it.
ONE: dict[str, Callable[[Path], Any]] = {
    "a text": str,
    "a path": lambda path: path,
    "a source": resolve,
    "a name in the store": lambda path: "style:1.2",
    "an adapter": adaptr.load,
    "an expression": lambda path: 1.0 * adaptr.load(path),
}
#: The same where several may be given.
SEVERAL: dict[str, Callable[[Any], Any]] = {
    "alone": lambda one: one,
    "a pair": lambda one: (one, 1.0),
    "a list": lambda one: [one],
    "a tuple": lambda one: (one,),
    "a list of pairs": lambda one: [(one, 1.0)],
    "by name": lambda one: {"mine": one},
    "a pair by name": lambda one: {"mine": (one, 1.0)},
    "as they come": lambda one: iter([one]),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A base, an adapter for it, and the same in a store by name."""
    root = tmp_path_factory.mktemp("given")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTR_HOME", str(root / "home"))
        model = checkpoints.model_of(checkpoints.saved("llama", root / "base"))
        # factors of one, so that an expression has the very tensors again
        made = shaken(adaptr.create(model, "lora", ["attn.q"], r=2, alpha=2.0, name="style"), 1)
        adaptr.save(made, root / "style.safetensors")
        adaptr.tag(root / "style.safetensors", "style:1.2")
        yield root


def model() -> Any:
    return tiny.model("llama")


def said(adapter: adaptr.Adapter) -> torch.Tensor:
    """What an adapter does to the weights of one layer."""
    return adapter["model.layers.0.self_attn.q_proj"].dense()


def attached(given: Any, tmp: Path, **_: Any) -> torch.Tensor:
    bare = model()
    with adaptr.attach(bare, given):
        return bare(torch.tensor([[1, 5, 6]])).logits.detach()


def written(verb: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    def use(given: Any, tmp: Path, **more: Any) -> torch.Tensor:
        verb(given, tmp / "out", **more)
        return said(adaptr.load(tmp / "out"))

    return use


def trained(given: Any, tmp: Path) -> torch.Tensor:
    with adaptr.train(model(), given) as session:
        return said(session.adapted())


def pooled(given: Any, tmp: Path) -> torch.Tensor:
    bare = model()
    with adaptr.pool(bare) as pool:
        pool.add("mine", given)
        return pool.forward(["mine"], torch.tensor([[1, 5, 6]])).logits.detach()


def pushed(given: Any, tmp: Path) -> torch.Tensor:
    adaptr.push(given, f"file://{tmp}/layout#mine")
    return said(adaptr.load(f"file://{tmp}/layout#mine"))


def tagged(given: Any, tmp: Path) -> torch.Tensor:
    adaptr.tag(given, "again:1")
    return said(adaptr.load("again:1"))


#: Functions of one adapter.
USES: dict[str, Callable[..., Any]] = {
    "load": lambda given, tmp: said(adaptr.load(given)),
    "save": written(adaptr.save),
    "attach": attached,
    "train": trained,
    "quantize": lambda given, tmp: said(adaptr.quantize(given, "fp16")),
    "quantize_file": written(lambda given, out: adaptr.quantize_file(given, out, "fp16")),
    "inspect": lambda given, tmp: (adaptr.inspect(given).method, adaptr.inspect(given).targets),
    "convert": written(adaptr.convert),
    "convert_method": written(adaptr.convert_method),
    "resize": written(lambda given, out: adaptr.resize(given, out, rank=1)),
    "serve": lambda given, tmp: adaptr.serve(given, tmp / "out", "sglang", base=model()).rank,
    "diff": lambda given, tmp: adaptr.diff(given, "style:1.2").same_change,
    "pool": pooled,
    "push": pushed,
    "tag": tagged,
    "log": lambda given, tmp: bool(adaptr.log(given).nodes[0].weights),
}


@pytest.mark.parametrize("spelling", ONE)
@pytest.mark.parametrize("verb", USES)
def test_one_adapter_is_the_same_however_it_is_spelled(verb: str, spelling: str, home: Path, tmp_path: Path) -> None:
    path = home / "style.safetensors"
    wanted = USES[verb](path, tmp_path / "wanted")
    found = USES[verb](ONE[spelling](path), tmp_path / "found")
    if isinstance(wanted, torch.Tensor):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    else:
        assert found == wanted


def merged(given: Any, home: Path, tmp: Path) -> torch.Tensor:
    adaptr.merge(home / "base", given, tmp / "merged")
    return checkpoints.load_file(tmp / "merged" / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]


def verified(given: Any, home: Path, tmp: Path) -> bool:
    adaptr.merge(home / "base", home / "style.safetensors", tmp / "merged")
    return adaptr.verify(tmp / "merged", home / "base", given).ok


def stacked(given: Any, home: Path, tmp: Path) -> torch.Tensor:
    if not isinstance(given, dict):  # a single adapter that is no stack wants a name
        given = {name: (each.what, each.weight) for name, each in by_name(several(given)).items()}
    bare = model()
    with adaptr.stack(bare, given):
        return bare(torch.tensor([[1, 5, 6]])).logits.detach()


MANY: dict[str, Callable[..., Any]] = {
    "merge": merged,
    "verify": verified,
    "compose": lambda given, home, tmp: said(adaptr.compose(given).adapter),
    "stack": stacked,
}


def use(verb: str, given: Any, home: Path, tmp: Path) -> Any:
    return USES[verb](given, tmp) if verb in USES else MANY[verb](given, home, tmp)


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("spelling", ONE)
@pytest.mark.parametrize("verb", MANY)
def test_several_are_the_same_however_they_are_spelled(
    verb: str, spelling: str, several: str, home: Path, tmp_path: Path
) -> None:
    path = home / "style.safetensors"
    wanted = MANY[verb]([(path, 1.0)], home, tmp_path / "wanted")
    found = MANY[verb](SEVERAL[several](ONE[spelling](path)), home, tmp_path / "found")
    if isinstance(wanted, torch.Tensor):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    else:
        assert found == wanted


@pytest.mark.parametrize("spelling", ONE)
def test_a_gate_is_made_over_any_spelling(spelling: str, home: Path) -> None:
    other = shaken(adaptr.create(model(), "lora", ["attn.v"], r=2), 2)
    one = ONE[spelling](home / "style.safetensors")
    for children in ([one, other], {"a": one, "b": other}):
        made = adaptr.create(model(), "lora-soups", children=children)
        assert len(made.parts) == 2


@pytest.mark.parametrize("verb", [*USES, *MANY])
@pytest.mark.parametrize("wrong", [None, 3, b"style", [["x"]], object()])
def test_what_stands_for_no_adapter_is_refused(verb: str, wrong: Any, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wanted an adapter"):
        use(verb, wrong, home, tmp_path)


@pytest.mark.parametrize("verb", [*USES, *MANY])
def test_a_text_is_one_adapter_and_never_its_letters(verb: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises((InputError, NotFound), match="nowhere"):
        use(verb, "nowhere", home, tmp_path)


@pytest.mark.parametrize("verb", [name for name in USES if name != "attach"])
def test_a_weight_where_it_has_no_meaning_is_refused(verb: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a weight has no meaning here"):
        USES[verb]((home / "style.safetensors", 0.5), tmp_path)


def test_the_weight_of_a_pair_counts(home: Path, tmp_path: Path) -> None:
    path = home / "style.safetensors"
    half, whole = attached((path, 0.5), tmp_path), attached(path, tmp_path)
    bare = model()
    torch.testing.assert_close(half, _with(bare, path, 0.5))
    assert not torch.allclose(half, whole)


def _with(bare: Any, path: Path, weight: float) -> torch.Tensor:
    with adaptr.attach(bare, path, weight):
        return bare(torch.tensor([[1, 5, 6]])).logits.detach()


def test_an_expression_is_evaluated_where_an_adapter_is_wanted(home: Path, tmp_path: Path) -> None:
    a = adaptr.load(home / "style.safetensors")
    b = shaken(adaptr.create(model(), "lora", ["attn.q"], r=2), 3)
    both = 0.7 * a + 0.3 * b
    wanted = adaptr.compose([(a, 0.7), (b, 0.3)]).adapter
    adaptr.merge(home / "base", both, tmp_path / "one")
    adaptr.merge(home / "base", wanted, tmp_path / "two")
    one, two = (digest.of_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one == two
    assert digest.of_adapter(adaptr.compose(both).adapter) == digest.of_adapter(wanted)
    torch.testing.assert_close(attached(both, tmp_path), attached(wanted, tmp_path))


def test_an_expression_of_a_transform_is_evaluated_on_the_base_at_hand(home: Path, tmp_path: Path) -> None:
    d = shaken(adaptr.create(checkpoints.model_of(home / "base"), "dora", ["attn.q"], r=2), 4)
    adaptr.merge(home / "base", 0.5 * d, tmp_path / "one")
    wanted = adaptr.compose([(d, 0.5)], base=home / "base").adapter
    adaptr.merge(home / "base", wanted, tmp_path / "two")
    one, two = (digest.of_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one == two


def test_words_to_search_for_and_prompts_are_never_letters(home: Path) -> None:
    assert adaptr.search("style lora").words == ("style", "lora")
    assert "style:1.2" in [one.reference for one in adaptr.search("style").found]


@pytest.mark.parametrize("option", [{"rank": 2}, {"strategy": "ties"}, {"name": "x"}, {"density": 0.2}])
def test_a_recipe_says_everything_itself(option: dict[str, Any], home: Path, tmp_path: Path) -> None:
    """In Python as on the command line: an option beside a recipe was lost."""
    (tmp_path / "r.yaml").write_text("inputs:\n  - adapter: style:1.2\n")
    assert adaptr.compose(tmp_path / "r.yaml").report.inputs
    with pytest.raises(UsageError, match="says everything itself"):
        adaptr.compose(tmp_path / "r.yaml", **option)
