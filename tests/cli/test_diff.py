from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.cli import page
from adaptr.errors import MissingExtra
from adaptr.testing import shaken
from browser import browse, needs_browser

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "a", "b", "equal", "same_change", "header", "targets", "others", "interference", "seed", "rows", "notes", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def other(lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another LoRA for `llama`, half of it in the direction of the first."""
    adapter = api.load(lora).replace(name="tone")
    generator = torch.Generator().manual_seed(9)
    tensors = {k: t + torch.randn(t.shape, generator=generator) for k, t in adapter.tensors.items()}
    path = tmp_path_factory.mktemp("others") / "tone.safetensors"
    api.save(adapter.replace(tensors=tensors), path)
    return path


def test_equal_is_0_and_different_is_1(adaptr: Callable, lora: Path, other: Path, tmp_path: Path) -> None:
    shutil.copy(lora, tmp_path / "copy.safetensors")
    assert adaptr("diff", lora, tmp_path / "copy.safetensors").code == 0
    ran = adaptr("diff", lora, other)
    assert ran.code == 1
    assert "cosine" in ran.out
    assert "--" in ran.out
    assert "++" in ran.out
    assert "On the inputs that" in ran.out
    assert adaptr("diff", lora, other, "--quiet").out == ""


def test_json_has_every_figure(adaptr: Callable, lora: Path, other: Path) -> None:
    ran = adaptr("diff", lora, other, "--json")
    assert (ran.code, set(ran.json)) == (1, KEYS)
    target = ran.json["targets"][0]
    assert 0 < target["cosine"] < 1
    assert len(target["spectrum_a"]) == target["rank_a"]
    assert ran.json["interference"]["words"]


def test_the_header_alone(adaptr: Callable, lora: Path, other: Path) -> None:
    ran = adaptr("diff", lora, other, "--header", "--json")
    assert (ran.code, ran.json["targets"], ran.json["same_change"]) == (1, [], None)
    assert {f["name"] for f in ran.json["header"]} == {"name", "weights"}


def test_long_lists_are_cut_and_say_so(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    many = {f"k{i}": i for i in range(30)}
    api.save(api.load(lora).replace(training=many), tmp_path / "b.safetensors")
    assert "... and 10 more fields; --all shows them" in adaptr("diff", lora, tmp_path / "b.safetensors").out
    assert "training.k29" in adaptr("diff", lora, tmp_path / "b.safetensors", "--all").out


def test_usage(adaptr: Callable, lora: Path, other: Path, houlsby: Path, tmp_path: Path) -> None:
    assert adaptr("diff", lora, "--json").refused == (2, "UsageError")
    assert adaptr("diff", lora, other, "--header", "--html", tmp_path / "x", "--json").refused == (2, "UsageError")
    assert adaptr("diff", lora, other, "--intruders", "3", "--json").refused == (2, "UsageError")
    assert adaptr("diff", lora, tmp_path / "nothing", "--json").refused == (3, "InputError")
    assert adaptr("diff", lora, houlsby, "--json").refused == (5, "NoDelta")


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def html(lora: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")
    path = tmp_path_factory.mktemp("page") / "diff.html"
    page.write(api.diff(lora, other), path)
    return path


def test_the_page_is_one_file_that_asks_for_nothing(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    assert "<link" not in text
    assert "@import" not in text
    assert 'src="' not in text.partition('<script type="application/json"')[0]
    assert "url(" not in text.partition("</style>")[0]
    assert "{{" not in text.partition("</style>")[0]
    assert text.count("</script>") == 3, "data, libraries and the page's own, and none that ends early"


@needs_browser
def test_the_page_draws_itself(html: Path, tmp_path: Path) -> None:
    dom = browse(html, tmp_path / "profile", "--dump-dom")
    assert 'data-drawn="yes"' in dom
    assert dom.count("<svg") >= 2, "a heat map and spectra"
    assert "mark-rect" in dom
    assert "mark-line" in dom
    body = dom.split("<tbody>")[1].split("</tbody>")[0]
    assert body.count("<tr") == 4
    assert "On the inputs that" in dom


LAYERS, MODULES = 16, {"self_attn.q_proj": (48, 48), "self_attn.v_proj": (16, 48), "mlp.up_proj": (96, 48)}


def related(folder: Path) -> tuple[Path, Path]:
    """Two adapters that share more of what they do from layer to layer, as those of one family do."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)
    targets, tensors = {}, {"style": {}, "tone": {}}
    config = {"r": 8, "alpha": 8.0, "dropout": 0.0, "rslora": False, "bias": False}
    for layer in range(LAYERS):
        for name, (out, into) in MODULES.items():
            path = f"model.layers.{layer}.{name}"
            targets[path] = Target(path, "linear", (out, into), config)
            share = (layer / LAYERS) ** 2 * (0.9 if "attn" in name else -0.5)
            falling = torch.linspace(1, 0.1, 8)
            A, B = draw(8, into), draw(out, 8) * falling
            tensors["style"] |= {f"{path}:A": A, f"{path}:B": B}
            mixed = share * B + (1 - abs(share)) * draw(out, 8) * falling
            tensors["tone"] |= {f"{path}:A": A + (1 - abs(share)) * draw(8, into), f"{path}:B": mixed}
    for name, found in tensors.items():
        api.save(Adapter("lora", config, targets, found, name=name), folder / f"{name}.safetensors")
    return folder / "style.safetensors", folder / "tone.safetensors"


@needs_browser
def test_the_page_can_be_looked_at(tmp_path: Path) -> None:
    """Light and dark, and the picture in the README. With ADAPTR_PICTURES set, the latter is taken anew."""
    pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")
    page.write(api.diff(*related(tmp_path)), tmp_path / "diff.html")
    shots = []
    for number, option in enumerate(((), ("--blink-settings=preferredColorScheme=0",))):
        shot = tmp_path / f"{number}.png"
        browse(
            tmp_path / "diff.html", tmp_path / f"p{number}", *option, f"--screenshot={shot}", "--window-size=1120,1180"
        )
        shots.append(shot.read_bytes())
    assert all(len(picture) > 60_000 for picture in shots)
    assert shots[0] != shots[1]
    if "ADAPTR_PICTURES" in os.environ:
        (ROOT / "docs" / "diff.png").write_bytes(shots[0])
    assert (ROOT / "docs" / "diff.png").stat().st_size < 300_000


def test_the_same_diff_gives_the_same_page(lora: Path, other: Path, html: Path) -> None:
    assert page.page(api.diff(lora, other)) == html.read_text(encoding="utf-8")


def test_nothing_is_overwritten_unless_asked(adaptr: Callable, lora: Path, other: Path, html: Path) -> None:
    assert adaptr("diff", lora, other, "--html", html, "--json").refused == (2, "OutputExists")
    assert adaptr("diff", lora, other, "--html", html, "--force").code == 1


def test_names_of_files_can_not_become_code(lora: Path, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")
    evil = api.load(lora).replace(name="</script><script>alert(1)</script>")
    api.save(evil, tmp_path / "b.safetensors")
    assert "alert(1)</script>" not in page.page(api.diff(lora, tmp_path / "b.safetensors"))


def test_without_the_library_the_way_on_is_said(
    adaptr: Callable, lora: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    ran = adaptr("diff", lora, other, "--html", tmp_path / "x.html", "--json")
    assert ran.refused == (8, MissingExtra.__name__)
    assert "adaptr[plots]" in ran.json["error"]["message"]


@pytest.mark.parametrize(
    ("paths", "want"),
    [
        (["model.layers.3.self_attn.q_proj", "lm_head"], [(3, "self_attn.q_proj"), (None, "lm_head")]),
        (["h.0.attn.c_attn", "h.11.mlp.c_fc"], [(0, "attn.c_attn"), (11, "mlp.c_fc")]),
        (["encoder.block.1.q", "decoder.block.1.q"], [(1, "encoder.block.*.q"), (1, "decoder.block.*.q")]),
        (["classifier"], [(None, "classifier")]),
    ],
)
def test_paths_as_layer_and_module(paths: list[str], want: list[tuple[int | None, str]]) -> None:
    assert page.split(paths) == want


def test_the_header_is_told_by_what_is_alike(adaptr: Callable, tmp_path: Path) -> None:
    """Found in 0.1.0: eight lines for one target, JSON for parents, digests that left no room for a value."""
    a, b = package(tmp_path, "a", ["attn.q"], 2), package(tmp_path, "b", ["attn.q", "attn.v"], 4)
    api.compose([(a, 0.5), (b, {"*": 0.3})], out=tmp_path / "c")
    said = adaptr("diff", a, tmp_path / "c", "--header").out
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "model.layers.0.self_attn.q_proj and 1 more: config.r 2 6" in lines
    assert "model.layers.0.self_attn.v_proj and 1 more - linear 16 x 32" in lines
    assert "lineage.parents - a, b" in lines
    assert "sha256:" not in said
    every = adaptr("diff", a, tmp_path / "c", "--header", "--all").out
    assert every.count("self_attn.v_proj ") == 2


def package(folder: Path, name: str, targets: list[str], r: int) -> Path:
    adapter = shaken(api.create(tiny.model("llama"), "lora", targets, r=r, name=name), r)
    api.save(adapter, folder / name)
    return folder / name
