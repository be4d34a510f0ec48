"""docs/formats/NAME.md: a page a format, out of its file, the table, and a file of it that is made on the page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from adaptr import foreign
from adaptr.cli import listing
from adaptr.foreign import formats
from adaptr.foreign.formats import OWN
from formats_table import families, page, table
from formats_table.samples import INT8, methods
from formats_table.theirs import ALPHA, MADE, Made
from formats_table.trial import UNBASED, VERDICTS, Trial
from pages import markdown

Found = Mapping[tuple[str, str, str], Trial]
#: What people say of an adapter, where its option is called otherwise.
_OPTIONS = {"task": "task_number"}
#: Where the file of an example is.
FOLDER = "theirs"
#: What there is to read of a format besides.
MORE = {
    "peft": "Each of its types: [peft.md](../peft.md).",
    "kohya": "Merging: [image models](../image-models.md).",
}
#: What becomes of a method on the way there and back, by the verdict of its trial.
OUTCOMES = {
    "round trip": "comes back as it was, bit for bit",
    "exact": "does the same in another form",
    "error": "does the same but for an error of {error:.0e}",
    "lossy": "only with `--lossy`, without this: {why}",
    "refused": "refused: {why}",
    "crash": "CRASH: {why}",
}


def pages() -> dict[str, str]:
    """The text for each format, by its name."""
    found = {one.key: one for one in table.load()}
    return {form.name: "\n".join(_parts(form, found)) for form in formats.formats()}


def _parts(form: foreign.Format, found: Found) -> Iterator[str]:
    yield f"# {form.name}\n"
    yield f"{page.doc(form)}\n"
    more = "".join(f" {said}" for name, said in MORE.items() if name == form.name)
    yield f"[All formats](../formats.md) has what becomes of it in every other.{more}\n"
    yield "## What is read\n"
    yield "".join(f"- {said}\n" for said in _read(form, found))
    yield from _asked(form)
    yield "## What is written\n"
    yield from _written(form, found)
    yield "## Try it\n"
    yield from _example(form, found)
    yield from page.genuine(form.name, found)


# ---------------------------------------------------------------- reading


def _read(form: foreign.Format, found: Found) -> Iterator[str]:
    marks = form.marks
    if marks.files:
        yield f"in a folder, a file called {_listed(marks.files)}"
    if marks.config:
        yield f"with a configuration that has one of {_listed(marks.config)}"
    if marks.first:
        yield f"a file that begins with {_listed(one.decode('ascii', 'ignore') for one in marks.first)}"
    if marks.keys:
        yield "a file of tensors that are called as it calls them"
    for one in families.FAMILIES:
        if one.form == form.name:
            yield f"from: {one.called}" + (f"; refused: {one.but}" if one.but else "")
    yield from page.unbased(form, found)
    yield f"as the tool reads it: {families.proof(form.name)}"


def _asked(form: foreign.Format) -> Iterator[str]:
    """What its files may lack, and how it is said."""
    helps = {param.name: getattr(param, "help", "") for param in listing.load("convert").params}
    rows = []
    for name in sorted(form.asks):
        option = _OPTIONS.get(name, name)
        rows.append((f"`--{option.replace('_', '-')}`", f"`{name}=`", str(helps[option])))
    if rows:
        yield "What a file does not say is asked for, and never guessed:\n"
        yield markdown.table(("option", "of `adaptr.source`", "what"), rows)


# ---------------------------------------------------------------- writing


def _written(form: foreign.Format, found: Found) -> Iterator[str]:
    if not form.writes:
        yield "Nothing: it is read only. `adaptr convert` writes what was read in any other format.\n"
        return
    kind = "A folder" if form.folder else f"A file, `{form.suffix}`"
    versions = type(form).of is not foreign.Format.of
    yield f"{kind}, by `adaptr convert --to {form.name}`{_versions(form) if versions else ''}.\n"
    groups: dict[tuple[int, str], list[str]] = {}
    for method in [*methods(), INT8]:
        one = page.best(found, method, form.name)
        if one is not None:
            said = OUTCOMES[one.verdict].format(error=one.error, why=page.reason(one))
            groups.setdefault((VERDICTS.index(one.verdict), said), []).append(f"`{method}`")
    yield markdown.table(
        ("method", "there and back"), [(", ".join(names), said) for (_, said), names in sorted(groups.items())]
    )


def _versions(form: foreign.Format) -> str:
    return f"; `{form.name}@VERSION` writes what that version of {form.tool} reads"


# ---------------------------------------------------------------- an example


def _example(form: foreign.Format, found: Found) -> Iterator[str]:
    """Commands that run as they stand: a LoRA of the playground there and back, or a file of the format itself."""
    for base, words, given in (("llama", "", "--base base "), ("pipeline", " images", "")):
        one = found.get((OWN, form.name, f"lora on {base}"))
        if one is not None and one.verdict in ("round trip", "exact"):
            out = f"as-{form.name}" + ("" if form.folder else form.suffix)
            lines = [
                f"python -m adaptr.playground{words}",
                f"adaptr convert style.safetensors --to {form.name} {given}-o {out}",
                f"adaptr inspect {out} {given}".rstrip(),
                f"adaptr convert {out} {given}-o back.safetensors",
            ]
            yield _block("sh", "\n".join(lines))
            return
    if form.name in MADE:
        alone = found.get((form.name, UNBASED, f"lora on {MADE[form.name].base}"))
        yield from _of_its_own(MADE[form.name], alone is not None and alone.verdict == "refused")


def _of_its_own(made: Made, based: bool) -> Iterator[str]:
    yield "A small one, of what it holds and no more; the numbers are drawn.\n"
    yield _block("python", "\n".join(_program(made, based)))
    for name, text in made.beside.items():
        pretty = json.dumps(json.loads(text), indent=2) if name.endswith(".json") else text.rstrip()
        yield _block(f'{Path(name).suffix[1:]} title="{FOLDER}/{name}"', pretty)
    said = [
        word
        for name, value in made.said.items()
        for word in (f"--{name}", f"{value:g}" if isinstance(value, float) else str(value))
    ]
    said += ["--base", "base"] if based else []
    source = shlex.join([FOLDER if made.beside else f"{FOLDER}/{made.file}", *said])
    yield _block("sh", f"adaptr inspect {source}\nadaptr convert {source} -o ours.safetensors")


def _program(made: Made, based: bool) -> Iterator[str]:
    """What writes the file, and the base where that has to say what the file does not."""
    file, found = f"{FOLDER}/{made.file}", list(made.tensors())
    array, tensors = file.endswith(".npy"), file.endswith(".safetensors")
    yield from ("from pathlib import Path", "", "import numpy" if array else "import torch")
    yield from ["from safetensors.torch import save_file"] * tensors
    yield from ["from adaptr.testing import tiny_llama"] * based
    yield from ("", f'Path("{FOLDER}").mkdir()')
    yield from ['tiny_llama().save_pretrained("base")'] * based
    if array:
        yield f'numpy.save("{file}", numpy.random.randn{found[0][1]}.astype("float32"))'
        return
    yield from ("torch.manual_seed(0)", "shapes = {", *(f'    "{name}": {shape},' for name, shape in found), "}")
    numbers = "0.1 * torch.randn(shape)" + ("" if all(s for _, s in found) else f" if shape else torch.tensor({ALPHA})")
    yield f"tensors = {{name: {numbers} for name, shape in shapes.items()}}"
    inside = f'{{"{made.wrapped}": tensors}}' if made.wrapped else "tensors"
    yield f'save_file(tensors, "{file}")' if tensors else f'torch.save({inside}, "{file}")'


def _block(sort: str, text: str) -> str:
    return f"```{sort}\n{text}\n```\n"


def _listed(names: object) -> str:
    return ", ".join(f"`{name}`" for name in names)  # type: ignore[attr-defined]
