"""pyreft's folders: what its interventions compute is what adaptr's do, and what is written comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign

D, R = 32, 3


class Rotate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(D, R))


def rotated() -> tuple[dict[str, Tensor], Tensor]:
    """A basis as torch keeps it of what it trains, away from where it starts, and its columns (d, r)."""
    made = torch.nn.utils.parametrizations.orthogonal(Rotate())
    with torch.no_grad():
        made.parametrizations.weight.original.add_(0.3 * torch.randn(D, R).tril(-1))  # type: ignore[union-attr, operator]
    stored = {f"rotate_layer.{name}": value for name, value in made.state_dict().items()}
    weight: Tensor = made.weight.detach()
    return stored, weight


def saved(
    place: Path, files: dict[str, dict[str, Tensor]], kind: str = "Loreft", layers: tuple[int, ...] = (0,), **more: Any
) -> Path:
    """As pyreft saves them; `files` by what stands behind `intkey_`."""
    place.mkdir(exist_ok=True)
    for key, tensors in files.items():
        torch.save(tensors, place / f"intkey_{key}.bin")
    said = {
        "representations": [[layer, "block_output", "pos", 1, R, *[None] * 9] for layer in layers],
        "intervention_types": [f"<class 'pyreft.interventions.{kind}Intervention'>"] * len(layers),
        "mode": "parallel",
    }
    (place / "config.json").write_text(json.dumps(said | more))
    return place


def key(layer: int, number: int = 0) -> str:
    return f"layer_{layer}_comp_block_output_unit_pos_nunit_1#{number}"


def loreft(basis: Tensor) -> dict[str, Tensor]:
    return {"weight": torch.randn(R, D), "bias": torch.randn(R), "rotate_layer": basis}


def changed(model: Any, adapter: adaptr.Adapter, tokens: int) -> tuple[Tensor, Tensor]:
    """The output of the last block without the adapter and with it."""
    kept: list[Tensor] = []
    last = model.model.layers[-1]
    hook = last.register_forward_hook(lambda module, inputs, output: kept.append(output))
    ids = torch.arange(tokens)[None] + 3
    with torch.no_grad():
        model(ids)
        hook.remove()
        with adaptr.attach(model, adapter):
            hook = last.register_forward_hook(lambda module, inputs, output: kept.append(output))
            model(ids)
    hook.remove()
    first, second = (one[0] if isinstance(one, tuple) else one for one in kept)
    return first, second


@pytest.mark.parametrize("kind", ["Loreft", "Noreft", "Direft", "Nodireft", "Consreft", "Lobireft"])
def test_each_class_does_what_its_formula_says(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny.model("llama").eval()
    last = len(model.model.layers) - 1
    stored, Q = rotated()
    W, b, P, c = torch.randn(R, D), torch.randn(R), torch.randn(R, D), torch.randn(R)
    source, projection = {"learned_source.weight": W, "learned_source.bias": b}, {"proj_layer.weight": P}
    tensors = {
        "Loreft": {"weight": W, "bias": b, "rotate_layer": Q},
        "Noreft": {**source, **projection, "proj_layer.bias": c, "embed_dim": torch.tensor(D)},
        "Direft": {**source, **stored},
        "Nodireft": {**source, **projection, "proj_layer.bias": c},
        "Consreft": {"learned_source": b, **stored},
        "Lobireft": {"learned_source": b, **stored},
    }[kind]
    want = {
        "Loreft": lambda h: (h @ W.T + b - h @ Q) @ Q.T,
        "Noreft": lambda h: (h @ W.T + b - h @ P.T - c) @ P,
        "Direft": lambda h: (h @ W.T + b) @ Q.T,
        "Nodireft": lambda h: (h @ W.T + b) @ P,
        "Consreft": lambda h: (b - h @ Q) @ Q.T,
        "Lobireft": lambda h: b @ Q.T,
    }[kind]
    folder = saved(tmp_path / "reft", {key(last): tensors}, kind, (last,))
    found = adaptr.load(adaptr.source(folder, positions="f2+l1"), model)
    h, changed_h = changed(model, found, 6)
    at = torch.tensor([0, 1, 5])
    torch.testing.assert_close(changed_h[:, at], h[:, at] + want(h[:, at]), atol=1e-4, rtol=1e-4)
    assert torch.equal(changed_h[:, 2:5], h[:, 2:5])


def test_two_at_a_layer_are_of_the_first_tokens_and_of_the_last(tmp_path: Path) -> None:
    _, Q = rotated()
    one, other = loreft(Q), loreft(Q)
    folder = saved(tmp_path / "reft", {key(1): one, key(1, 1): other}, layers=(1, 1))
    found = adaptr.load(adaptr.source(folder, positions="f2+l3"), tiny.model("llama"))
    (target,) = found.targets.values()
    assert (target.config["first"], target.config["last"], target.config["share_weights"]) == (2, 3, False)
    assert torch.equal(found.at(target.path)["W"], one["weight"])
    assert torch.equal(found.at(target.path)["W_s"], other["weight"])
    with pytest.raises(e.Unsupported, match=r"has 2 interventions.*say the positions of both"):
        adaptr.load(adaptr.source(folder, positions="f2"), tiny.model("llama"))


def test_the_positions_are_asked_for_and_not_guessed(tmp_path: Path) -> None:
    folder = saved(tmp_path / "reft", {key(0): loreft(rotated()[1])})
    with pytest.raises(e.ConfigMissing, match=r"is in no file of pyreft's.*`--positions f7\+l7`"):
        adaptr.load(folder, tiny.model("llama"))
    for positions in ("7", "f0", "f1+f2", "l1+f1"):
        with pytest.raises(e.UsageError, match=r"wanted first and last tokens, such as f7\+l7"):
            adaptr.source(folder, positions=positions)
    with pytest.raises(e.ConfigMissing, match="what a model calls its blocks"):
        adaptr.load(adaptr.source(folder, positions="l1"))


@pytest.mark.parametrize(
    ("method", "config"), [("loreft", {"finished": True}), ("noreft", {"share_weights": False}), ("direft", {})]
)
def test_what_is_written_comes_back_without_a_word(method: str, config: dict[str, Any], tmp_path: Path) -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(model, method, r=2, first=2, last=1, **config).replace(license="MIT")
    adaptr.convert(adapter, tmp_path / "out", to="pyreft")
    assert foreign.of(tmp_path / "out").name == "pyreft"
    back = adaptr.load(tmp_path / "out")
    assert (back.method, back.targets, back.license) == (method, adapter.targets, "MIT")
    assert all(torch.equal(back.tensors[name], value) for name, value in adapter.tensors.items())
    with pytest.raises(e.UsageError, match="`--positions` is given"):
        adaptr.load(adaptr.source(tmp_path / "out", positions="f1"))


def test_what_has_no_place_there_is_refused(tmp_path: Path) -> None:
    model = tiny.model("llama")
    with pytest.raises(e.Unsupported, match="pyreft has no equivalent of `lora`"):
        adaptr.convert(adaptr.create(model, "lora"), tmp_path / "out", to="pyreft")
    with pytest.raises(e.Unsupported, match="finish its training"):
        adaptr.convert(adaptr.create(model, "loreft"), tmp_path / "out", to="pyreft")


@pytest.mark.parametrize(
    ("more", "error", "match"),
    [
        ({"mode": "serial"}, e.Unsupported, "one after the other"),
        ({"representations": "x"}, e.ConfigConflict, "no lists of the same interventions"),
        ({"representations": [[0]]}, e.ConfigConflict, "no list of its fields"),
        ({"representations": [[0, "mlp_output", "pos", 1, R]]}, e.Unsupported, "at `mlp_output`"),
        ({"representations": [[0, "block_output", "h.pos", 1, R]]}, e.Unsupported, "by `h.pos`"),
        ({"representations": [[-1, "block_output", "pos", 1, R]]}, e.ConfigConflict, "are no numbers"),
        ({"representations": [[0, "block_output", "pos", 1, 2]]}, e.ConfigConflict, "as rank|as its rank"),
        ({"representations": [[9, "block_output", "pos", 1, R]]}, e.TensorAbsent, "there is no `intkey_layer_9"),
        (
            {"representations": [[0, "block_output", "pos", 1, R, None, None, [[0, 1]]]]},
            e.Unsupported,
            "`subspace_partition`",
        ),
        ({"intervention_types": ["<class 'a.OtherIntervention'>"]}, e.Unsupported, "OtherIntervention"),
        ({"intervention_types": ["x"]}, e.ConfigConflict, "no class of an intervention"),
        ({"intervention_types": ["<class 'a.LobireftIntervention'>"]}, e.TensorAbsent, "no `learned_source`"),
    ],
)
def test_what_is_wrong_is_refused(more: dict[str, Any], error: type[Exception], match: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "reft", {key(0): loreft(rotated()[1])}, **more)
    with pytest.raises(error, match=match):
        adaptr.load(adaptr.source(folder, positions="l1"), tiny.model("llama"))


def test_a_tensor_too_many_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "reft", {key(0): loreft(rotated()[1]) | {"more": torch.ones(1)}})
    with pytest.raises(e.TensorUnknown, match="`more` is no tensor of pyreft's LoreftIntervention"):
        adaptr.load(adaptr.source(folder, positions="l1"), tiny.model("llama"))


def test_the_digest_is_of_all_files(tmp_path: Path) -> None:
    files = {key(layer): loreft(rotated()[1]) for layer in (0, 1)}
    folder = saved(tmp_path / "a", files, layers=(0, 1))
    before = adaptr.inspect(adaptr.source(folder, positions="f2+l1"), base=tiny.model("llama"))
    assert before.size == sum(one.stat().st_size for one in folder.iterdir())
    saved(folder, {key(1): loreft(rotated()[1])}, layers=(0, 1))
    after = adaptr.inspect(adaptr.source(folder, positions="f2+l1"), base=tiny.model("llama"))
    assert before.file_digest != after.file_digest
