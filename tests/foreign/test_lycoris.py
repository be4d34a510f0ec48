"""LyCORIS's algorithms: what each of its files computes is what adaptr computes, or it is refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import adaptr
from adaptr import errors as e
from foreign.test_kohya import saved

READ = {
    "boft": "boft", "diag_oft": "oft", "diag_oft_constraint": "oft", "diag_oft_rescaled": "oft", "full": "full",
    "glora": "glora", "ia3": "ia3", "locon_tucker": "lora", "loha": "loha", "loha_tucker": "loha",
    "lokr": "lokr", "lokr_both": "lokr",
    "lokr_full": "lokr", "lokr_tucker": "lokr", "lokr_unbalanced": "lokr", "lora": "lora", "lora_dora": "dora",
    "lora_rs": "lora", "lora_scalar": "lora", "norm": "lora",
}  # fmt: skip
REFUSED = {
    "loha_dora": "magnitudes over a LoHa", "lokr_dora": "magnitudes over a LoKr",
    "lora_dora_in": "magnitudes of the inputs", "tlora": "T-LoRA.* another at each step of denoising",
}  # fmt: skip
NAME, PATH = "lycoris_block_conv", "block.conv"


def based(folder: Path, name: str) -> nn.Module:
    """The base that a genuine file is of."""
    own = folder / f"base-{name}.safetensors"
    return net(own if own.exists() else folder / "base.safetensors")


def net(weights: Path) -> nn.Module:
    """The modules whose parameters a file holds."""
    found, root = safetensors.torch.load_file(weights), nn.Module()
    for key in (key for key in found if key.endswith(".weight")):
        *owners, last = key.split(".")[:-1]
        place = root
        for name in owners:
            if not hasattr(place, name):
                place.add_module(name, nn.Module())
            place = place.get_submodule(name)
        place.add_module(last, layer(found[key], key.replace("weight", "bias") in found, last == "gn"))
    root.load_state_dict(found)
    return root.double()


def layer(weight: Tensor, bias: bool, grouped: bool = False) -> nn.Module:
    out, *rest = weight.shape
    if not rest:
        return nn.GroupNorm(2, out) if grouped else nn.LayerNorm(out)
    if len(rest) == 1:
        return nn.Linear(rest[0], out, bias)
    kinds = {2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}
    return kinds[len(rest)](rest[0], out, tuple(rest[1:]), bias=bias)  # type: ignore[arg-type]


def effective(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (out, in*k) and bias of a module, from what its forward makes of each input alone."""
    shape = (module.in_features,) if isinstance(module, nn.Linear) else (module.in_channels, *module.kernel_size)
    count = math.prod(shape)  # type: ignore[arg-type]
    inputs = torch.eye(count, dtype=torch.float64).reshape(count, *shape)  # type: ignore[arg-type]
    nothing = module(torch.zeros_like(inputs[:1]))
    return (module(inputs) - nothing).reshape(count, -1).T, nothing.reshape(-1)


@pytest.mark.parametrize("name", READ)
def test_genuine_files_give_what_their_tool_computes(name: str, shared: Path) -> None:
    folder = shared / "formats-refs" / "lycoris"
    base, want = based(folder, name), safetensors.torch.load_file(folder / name / "expected.safetensors")
    found = adaptr.load(folder / name / "lycoris.safetensors", base)
    assert found.method == READ[name]
    with torch.no_grad(), adaptr.attach(base, found):
        for path in (key[2:] for key in want if key.startswith("W_")):
            weight, bias = effective(base.get_submodule(path))
            close(weight, want[f"W_{path}"].reshape(weight.shape))
            close(bias, want[f"b_{path}"])
        for path in (key[2:] for key in want if key.startswith("y_")):
            close(base.get_submodule(path)(want[f"x_{path}"].double()), want[f"y_{path}"])


def close(found: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(found, want.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_adaptr_has_no_method_of_is_refused_by_name(name: str, shared: Path) -> None:
    folder = shared / "formats-refs" / "lycoris"
    base = based(folder, name)
    with pytest.raises(e.Unsupported, match=REFUSED[name]):
        adaptr.load(folder / name / "lycoris.safetensors", base)


def conv() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"block": nn.ModuleDict({"conv": nn.Conv2d(4, 6, 3)})}).double()


def loha(r: int = 2) -> dict[str, Tensor]:
    shapes = {"hada_w1_a": (6, r), "hada_w1_b": (r, 36), "hada_w2_a": (6, r), "hada_w2_b": (r, 36)}
    return {f"{NAME}.{slot}": torch.randn(shape) for slot, shape in shapes.items()}


def test_the_kernel_of_flattened_factors_is_the_bases(tmp_path: Path) -> None:
    path = saved(tmp_path, loha() | {f"{NAME}.alpha": torch.tensor(1.0)})
    assert adaptr.load(path, conv()).targets[PATH].shape == (6, 4, 3, 3)


def test_two_full_factors_of_lokr_have_no_scale_whatever_alpha_says(tmp_path: Path) -> None:
    tensors = {f"{NAME}.lokr_w1": torch.randn(2, 2), f"{NAME}.lokr_w2": torch.randn(3, 2, 3, 3)}
    found = adaptr.load(saved(tmp_path, tensors | {f"{NAME}.alpha": torch.tensor(7.0)}), conv())
    w1, w2 = tensors.values()
    want = torch.einsum("ac,bdkl->abcdkl", w1, w2).reshape(6, 4, 3, 3)
    torch.testing.assert_close(found[PATH].dense().reshape(want.shape), want, atol=1e-6, rtol=0)


def test_layers_of_several_methods_are_a_stack(tmp_path: Path) -> None:
    base = nn.ModuleDict({"block": nn.ModuleDict({"conv": nn.Conv2d(4, 6, 3), "fc": nn.Linear(4, 6)})}).double()
    difference = torch.randn(6, 4)
    tensors = loha() | {f"{NAME}.alpha": torch.tensor(1.0), "lycoris_block_fc.diff": difference}
    found = adaptr.load(saved(tmp_path, tensors), base)
    assert (found.method, sorted(found.parts)) == ("stack", ["full", "loha"])
    before = base["block"]["fc"].weight.detach().clone()
    with torch.no_grad(), adaptr.attach(base, found):
        close(effective(base.get_submodule("block.fc"))[0] - before, difference)


def test_a_bias_beside_a_lora_is_added_unscaled(tmp_path: Path) -> None:
    base, bias = conv(), torch.randn(6)
    tensors = {f"{NAME}.lora_down.weight": torch.zeros(2, 4, 3, 3), f"{NAME}.lora_up.weight": torch.zeros(6, 2, 1, 1)}
    found = adaptr.load(saved(tmp_path, tensors | {f"{NAME}.alpha": torch.tensor(1.0), f"{NAME}.diff_b": bias}), base)
    before = base["block"]["conv"].bias.detach().clone()
    with torch.no_grad(), adaptr.attach(base, found):
        close(effective(base.get_submodule(PATH))[1] - before, bias)


def test_a_norm_needs_the_base_whose_values_it_is_added_to(tmp_path: Path) -> None:
    tensors = {"lora_unet_conv_norm_out.w_norm": torch.ones(4)}
    with pytest.raises(e.ConfigMissing, match=r"added to a norm.*give the base"):
        adaptr.load(saved(tmp_path, tensors))


def test_factors_of_different_widths_are_refused(tmp_path: Path) -> None:
    tensors = loha() | {f"{NAME}.alpha": torch.tensor(1.0), f"{NAME}.hada_w2_b": torch.randn(2, 35)}
    with pytest.raises(e.ConfigConflict, match="36 columns"):
        adaptr.load(saved(tmp_path, tensors), conv())


def test_a_convolution_of_another_kernel_is_refused(tmp_path: Path) -> None:
    base = nn.ModuleDict({"block": nn.ModuleDict({"conv": nn.Conv2d(4, 6, 2)})})
    with pytest.raises(e.WrongBase):
        adaptr.load(saved(tmp_path, loha() | {f"{NAME}.alpha": torch.tensor(1.0)}), base)
