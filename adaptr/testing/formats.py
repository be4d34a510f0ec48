"""The laws of formats: what is written comes back bit for bit, files are known from others', nothing is lost unsaid."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, ClassVar

import adaptr
from adaptr import foreign, plugins
from adaptr.adapter import Adapter
from adaptr.errors import AdaptrError, LossyConversion, OutputExists, TargetNotFound
from adaptr.foreign.format import Format
from adaptr.foreign.formats import formats
from adaptr.testing.closeness import bits_equal
from adaptr.testing.damage import damaged
from adaptr.testing.quantising import quantised
from adaptr.testing.samples import logits, shaken, tiny_llama

if TYPE_CHECKING:
    from torch import Tensor, nn

#: What people wrote of an adapter: a format keeps it or says that it loses it.
TOLD = {"name": "style", "release": "1.2", "summary": "A style.", "license": "MIT", "tags": ("a", "b")}
#: Damaged copies of each sample that are read.
DAMAGED = 40


class FormatLaws:
    """One test a law. `methods`: those that samples are of, all by default; what the format refuses is left out."""

    format: ClassVar[str]
    methods: ClassVar[tuple[str, ...]] = ()

    # ------------------------------------------------------------ what the laws are tried on

    @property
    def form(self) -> Format:
        return foreign.get(self.format)

    def model(self) -> nn.Module:
        """The base of the samples, the same values at each call."""
        return tiny_llama()

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of the model's forward."""
        import torch

        return {"input_ids": torch.arange(14).reshape(2, 7) + 3}

    def adapters(self, model: nn.Module) -> Iterator[Adapter]:
        """Adapters whose tensors are all away from where they start, of methods that have a place in the model."""
        for name in self.methods or plugins.builtin_files():
            if plugins.method(name).can.needs or plugins.method(name).can.parts:
                continue
            try:
                yield self.form.based(shaken(adaptr.create(model, name, **plugins.method(name).small)), model)
            except TargetNotFound:
                continue

    def files(self) -> list[Path]:
        """Genuine files or folders of this format, where there are some."""
        return []

    def written(self, model: nn.Module, folder: Path) -> list[tuple[Adapter, Path]]:
        """The samples that the format holds, each with where it was written."""
        self.require_writing()
        made = []
        for adapter in self.adapters(model):
            out = folder / adapter.method
            try:
                self.form.write(adapter, out)
            except AdaptrError:
                assert not out.exists(), f"`{adapter.method}` was refused and something was written all the same"
            else:
                made.append((adapter, out))
        assert made, f"`{self.format}` can be written and holds no sample: name its `methods`"
        return made

    def require_writing(self) -> None:
        """Skips where the format is only read."""
        if not self.form.writes:
            import pytest

            pytest.skip(f"`{self.format}` is read and not written")

    def output(self, model: nn.Module, adapter: Adapter) -> Tensor:
        import torch

        with torch.no_grad(), adaptr.attach(model, adapter):
            return logits(model(**self.inputs()))

    # ------------------------------------------------------------ laws

    def test_law_1_it_says_whose_it_is_and_how_its_files_look(self) -> None:
        form = self.form
        assert form.tool
        assert form.called
        assert type(form).locate is not Format.locate or form.marks != foreign.Marks()

    def test_law_2_what_is_written_comes_back_bit_for_bit(self, tmp_path: Path) -> None:
        model = self.model()
        for adapter, out in self.written(model, tmp_path):
            back = self.form.read(out, model)
            assert set(back.targets) == set(adapter.targets)
            # what the format does not tell apart comes back as what does the same: QDoRA as DoRA, which it is a form
            # of, PiSSA as the LoRA that it is at twice the rank
            if isinstance(plugins.method(adapter.method), type(plugins.method(back.method))):
                # what it computes of other tensors may come back in their place, as `finish` leaves it
                kept = set(back.tensors) == set(adapter.tensors)
                held = adapter if kept else plugins.method(adapter.method).materialised(adapter)
                for key, tensor in held.tensors.items():
                    assert bits_equal(back.tensors[key], tensor), key
            assert bits_equal(self.output(model, back), self.output(model, adapter)), adapter.method

    def test_law_3_the_same_adapter_gives_the_same_bytes(self, tmp_path: Path) -> None:
        model = self.model()
        for adapter, out in self.written(model, tmp_path / "one"):
            again = tmp_path / "two" / adapter.method
            self.form.write(adapter, again)
            assert contents(again) == contents(out)
            self.form.write(self.form.read(again, model), tmp_path / "three" / adapter.method)
            assert contents(tmp_path / "three" / adapter.method) == contents(out), "there and back is another file"

    def test_law_4_its_files_are_its_own_and_no_other_formats(self, tmp_path: Path) -> None:
        model = self.model()
        mine = [*self.files(), *(out for _, out in (self.written(model, tmp_path) if self.form.writes else ()))]
        for path in mine:
            assert foreign.of(path).name == self.format, path
        for path in others(self.format, model, tmp_path / "others"):
            assert not self.form.detect(path), path

    def test_law_5_what_is_lost_is_said(self, tmp_path: Path) -> None:
        model = self.model()
        adapter = self.written(model, tmp_path / "plain")[0][0].replace(**TOLD)
        lost = self.form.lost(adapter)
        written = self.form.write(adapter, tmp_path / "told", lossy=True)
        assert written.lost == tuple(lost)
        back = self.form.read(tmp_path / "told", model)
        for field, value in TOLD.items():
            assert getattr(back, field) == value or any(field in text for text in lost), field

    def test_law_6_what_would_be_lost_is_refused_unless_it_may_be(self, tmp_path: Path) -> None:
        model = self.model()
        import pytest

        samples = [quantised(adapter) for adapter, _ in self.written(model, tmp_path / "plain")]
        smaller = (found[scheme] for scheme in ("int8", "bf16") for found in samples if scheme in found)
        small = next(filter(self.form.lost, smaller), None)
        if small is None:
            pytest.skip(f"`{self.format}` holds quantised tensors")
        try:
            self.form.write(small, tmp_path / "small")
        except LossyConversion:
            assert not (tmp_path / "small").exists()
        else:
            raise AssertionError("quantised tensors were lost in silence")
        self.form.write(small, tmp_path / "small", lossy=True)
        assert self.output(model, self.form.read(tmp_path / "small", model)).isfinite().all()

    def test_law_7_what_is_there_is_not_replaced_unasked(self, tmp_path: Path) -> None:
        adapter, out = self.written(self.model(), tmp_path)[0]
        before = contents(out)
        try:
            self.form.write(adapter.replace(name="other"), out, lossy=True)
        except OutputExists:
            assert contents(out) == before
        else:
            raise AssertionError(f"`{out}` was replaced without `force`")

    def test_law_8_damaged_files_are_refused_by_name_or_read(self, tmp_path: Path) -> None:
        model = self.model()
        paths = [*self.files(), *(out for _, out in (self.written(model, tmp_path) if self.form.writes else ()))]
        random = Random(0)
        for path in paths:
            for copy in damaged(random, path, tmp_path / "damaged", DAMAGED):
                with warnings.catch_warnings(), suppress(AdaptrError):
                    warnings.simplefilter("ignore")  # a damaged file may be warned of
                    dict(self.form.read(copy, random.choice((None, model))).tensors)

    def test_law_9_telling_what_a_file_is_imports_no_torch(self, tmp_path: Path) -> None:
        paths = [*self.files(), *(out for _, out in (self.written(self.model(), tmp_path) if self.form.writes else ()))]
        if not paths:
            import pytest

            pytest.skip(f"`{self.format}` is only read, and there are no files of it here")
        code = (
            "import sys; from pathlib import Path; from adaptr import foreign; "
            "print(foreign.of(Path(sys.argv[1])).name, "
            "[n for n in ('torch', 'numpy', 'transformers') if n in sys.modules])"
        )
        run = [sys.executable, "-c", code, str(paths[0])]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"{self.format} []"

    def test_law_10_genuine_files_are_read(self) -> None:
        files = self.files()
        if not files:
            import pytest

            pytest.skip(f"there are no genuine files of `{self.format}` here")
        model = self.model()
        for path in files:
            assert dict(self.form.read(path, model).tensors)


def contents(out: Path) -> dict[str, bytes]:
    """The bytes of a file, or of each file in a folder, by name."""
    files = sorted(file for file in out.rglob("*") if file.is_file()) if out.is_dir() else [out]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def others(name: str, model: nn.Module, folder: Path) -> Iterator[Path]:
    """What is not of the format `name`: files of all others, a base model, an empty folder, other bytes."""
    adapter = shaken(adaptr.create(model, "lora"))
    folder.mkdir()
    adaptr.save(adapter, folder / "own.safetensors")
    for form in formats():
        if form.name != name and form.writes:
            try:
                form.write(adapter, folder / form.name, lossy=True)
            except AdaptrError:  # a format of other models
                continue
            yield folder / form.name
    model.save_pretrained(folder / "base")  # type: ignore[operator]
    (folder / "empty").mkdir()
    (folder / "text").write_text("no adapter at all")
    yield from (folder / "own.safetensors", folder / "base", folder / "empty", folder / "text")
