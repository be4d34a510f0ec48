"""An adapter in every format that can hold it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.converting.everywhere import everywhere
from adaptr.foreign import formats
from adaptr.testing.samples import shaken, tiny_llama


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_llama().save_pretrained(folder)  # type: ignore[operator]
    return folder


def test_each_format_has_it_or_the_reason_why_not(base: Path, tmp_path: Path) -> None:
    adapter = shaken(adaptr.create(tiny_llama(), "lora", ["q_proj", "v_proj"], r=2))
    report = everywhere(adapter, tmp_path / "all", base=base)
    assert {*report.written, *report.refused} == set(formats.choices())
    assert {"adaptr", "adapterhub", "gguf", "mlx", "peft"} <= set(report.written)
    model = tiny_llama()
    for name, one in report.written.items():
        assert Path(one.out).exists()
        back = adaptr.load(one.out, model)
        assert name == "adaptr" or foreign.of(Path(one.out)).name == name
        for path in adapter.targets:
            torch.testing.assert_close(back[path].dense(), adapter[path].dense(), atol=1e-6, rtol=0)


def test_what_has_no_place_is_not_there(base: Path, tmp_path: Path) -> None:
    report = everywhere(adaptr.create(tiny_llama(), "hra", r=2), tmp_path / "all", base=base)
    assert "mlx" in report.refused
    assert "MLX has no equivalent of `hra`" in report.refused["mlx"]
    assert {path.stem for path in (tmp_path / "all").iterdir() if not path.name.startswith(".")} >= {*report.written}
    assert not (tmp_path / "all" / "mlx").exists()


def test_an_output_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "mine").write_text("mine")
    with pytest.raises(e.OutputExists):
        everywhere(adaptr.create(tiny_llama(), "lora", r=2), tmp_path / "all")
