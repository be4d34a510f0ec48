"""A training that is killed goes on to the same bytes as one that is not, whenever it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
from adaptr.errors import BadConfig, DiskFull, InputError, Interrupted, MachineError, OutputExists, UsageError
from adaptr.training import checkpoints
from adaptr.training.watching import Point, Watcher

#: Ten steps are nearly two passes over the data.
RECIPE: dict[str, Any] = {
    "steps": 10,
    "rate": 0.02,
    "batch": 2,
    "accumulate": 2,
    "config": {"r": 4, "dropout": 0.2},
    "save_every": 1,
    "samples": 0,
    "decay": 0.1,
    "schedule": "cosine",
    "warmup": 0.2,
}


class At(Watcher):
    """Does something after a step."""

    def __init__(self, step: int, then: Callable[[], object]) -> None:
        self.step, self.then = step, then

    def stepped(self, point: Point) -> None:
        if point.step == self.step:
            self.then()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(child: Callable[[], object]) -> None:
    """Run in a process of its own, which is killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child does not use
        number = os.fork()
    if not number:
        try:
            child()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == -signal.SIGKILL


def in_the_middle_of_saving(step: int) -> None:
    """Die when that step's checkpoint is written and has no name yet."""
    put = checkpoints._put

    def dying(made: Path, run: Path) -> None:
        if made.name == f"checkpoint-{step}":
            die()
        put(made, run)

    checkpoints._put = dying


@pytest.fixture(scope="module")
def whole(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "a.safetensors"
    adaptr.fit(base, data, out, **RECIPE)
    return out


def test_killed_at_five_moments_it_goes_on_to_the_same_bytes(
    base: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.safetensors"
    killed(lambda: adaptr.fit(base, data, out, watcher=At(1, die), **RECIPE))
    assert not out.exists()
    killed(lambda: adaptr.fit(base, data, out, force=True, watcher=At(3, die), **RECIPE))
    for step in (6, 7):
        killed(
            lambda step=step: (
                in_the_middle_of_saving(step),
                adaptr.fit(base, data, out, resume=True, **RECIPE),
            )
        )
        assert [path.name for path in checkpoints.all_of(checkpoints.folder(out))] == [
            f"checkpoint-{step - 2}",
            f"checkpoint-{step - 1}",
        ]
    killed(lambda: adaptr.fit(base, data, out, resume=True, watcher=At(10, die), **RECIPE))
    assert not out.exists()
    report = adaptr.fit(base, data, out, resume=True, **RECIPE)
    assert out.read_bytes() == whole.read_bytes()
    assert report.curves.steps == tuple(range(1, 11))


@pytest.mark.parametrize("method", ["adalora", "dora", "prompt"])
def test_interrupted_it_goes_on_to_the_same_bytes(base: Path, data: Path, tmp_path: Path, method: str) -> None:
    recipe = {**RECIPE, "method": method, "config": {}, "save_every": 0}
    paths = [tmp_path / name / "a.safetensors" for name in ("whole", "again")]
    adaptr.fit(base, data, paths[0], **recipe)
    with pytest.raises(Interrupted, match="step 5 of 10"):
        adaptr.fit(base, data, paths[1], watcher=At(4, interrupt), **recipe)
    adaptr.fit(base, data, paths[1], resume=True, **recipe)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_interrupt_leaves_the_signal_as_it_was_and_a_second_one_ends_it_at_once(
    base: Path, data: Path, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        adaptr.fit(base, data, tmp_path / "a.safetensors", watcher=At(3, twice), **RECIPE)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def stopped(base: Path, data: Path, tmp_path: Path) -> Path:
    out = tmp_path / "a.safetensors"
    with pytest.raises(Interrupted):
        adaptr.fit(base, data, out, watcher=At(2, interrupt), **RECIPE)
    return out


def test_a_checkpoint_holds_what_training_changed(base: Path, stopped: Path) -> None:
    folder = checkpoints.latest(checkpoints.folder(stopped))
    found = torch.load(folder / "session.pt", weights_only=True)
    assert {key.rpartition(":")[2] for key in found["tensors"]} == {"A", "B"}
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in {".pt", ".bin"})
    learned = sum(t.numel() * 4 for t in found["tensors"].values())
    assert size < 3.5 * learned + 60_000
    texts = [file.read_bytes() for file in folder.iterdir()]
    assert not any(str(base.parent).encode() in text for text in texts)


@pytest.mark.parametrize(
    ("changed", "said"), [({"rate": 0.01}, "`rate` 0.02, now 0.01"), ({"seed": 1}, "`seed` 0, now 1")]
)
def test_a_checkpoint_of_another_recipe_is_refused(
    base: Path, data: Path, stopped: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        adaptr.fit(base, data, stopped, resume=True, **{**RECIPE, **changed})


def test_a_checkpoint_of_other_data_is_refused(base: Path, data: Path, stopped: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(data.read_text() + "\n" + json.dumps({"prompt": "w1 ", "completion": "w2"}))
    with pytest.raises(UsageError, match="`data` sha256"):
        adaptr.fit(base, other, stopped, resume=True, **RECIPE)


def test_there_is_nothing_to_go_on_with(base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        adaptr.fit(base, data, tmp_path / "a.safetensors", resume=True, **RECIPE)


def test_a_training_that_did_not_end_is_not_begun_anew_unasked(base: Path, data: Path, stopped: Path) -> None:
    with pytest.raises(OutputExists, match="resume=True"):
        adaptr.fit(base, data, stopped, **RECIPE)


def test_a_checkpoint_that_is_none(base: Path, data: Path, stopped: Path) -> None:
    (checkpoints.latest(checkpoints.folder(stopped)) / "about.json").write_text("[")
    with pytest.raises(InputError, match=r"`about.json` is not what was written; take it away.*checkpoint-2"):
        adaptr.fit(base, data, stopped, resume=True, **RECIPE)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "session.pt", "files.json"])
@pytest.mark.parametrize("torn", [True, False], ids=["torn", "gone"])
def test_a_checkpoint_that_is_not_whole_is_refused_and_the_one_before_is_gone_on_from(
    base: Path, data: Path, whole: Path, stopped: Path, name: str, torn: bool
) -> None:
    newest = checkpoints.latest(checkpoints.folder(stopped))
    raw = (newest / name).read_bytes()
    (newest / name).unlink()
    if torn:
        (newest / name).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match=r"no whole checkpoint.*goes on from `checkpoint-2`"):
        adaptr.fit(base, data, stopped, resume=True, **RECIPE)
    shutil.rmtree(newest)
    adaptr.fit(base, data, stopped, resume=True, **RECIPE)
    assert stopped.read_bytes() == whole.read_bytes()


def test_what_is_no_checkpoint_of_ours_is_left_alone(base: Path, data: Path, whole: Path, stopped: Path) -> None:
    other = checkpoints.folder(stopped) / "checkpoint-best"
    other.mkdir()
    adaptr.fit(base, data, stopped, resume=True, **RECIPE)
    assert stopped.read_bytes() == whole.read_bytes()
    assert other.is_dir()


def test_another_tokenizer_or_share_is_another_training(base: Path, data: Path, tmp_path: Path) -> None:
    out, copy = tmp_path / "a.safetensors", tmp_path / "base"
    shutil.copytree(base, copy)
    with pytest.raises(Interrupted):
        adaptr.fit(copy, data, out, valid="25%", watcher=At(2, interrupt), **RECIPE)
    with pytest.raises(UsageError, match="`valid` 25%, now 50%"):
        adaptr.fit(copy, data, out, valid="50%", resume=True, **RECIPE)
    vocabulary = copy / "tokenizer.json"
    vocabulary.write_text(vocabulary.read_text().replace('"w3":', '"w#":'))
    with pytest.raises(UsageError, match="`tokenizer` sha256"):
        adaptr.fit(copy, data, out, valid="25%", resume=True, **RECIPE)


def test_two_trainings_do_not_share_an_output(base: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"

    def second() -> None:
        with pytest.raises(OutputExists, match=r"another training writes `.*a\.safetensors\.run` now"):
            adaptr.fit(base, data, out, force=True, **RECIPE)

    adaptr.fit(base, data, out, watcher=At(3, second), **RECIPE)
    assert out.exists()


def test_an_output_that_can_not_be_is_said_before_anything_is_loaded(base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"can't be written"):
        adaptr.fit(base, data, "/proc/adaptr/a.safetensors", **RECIPE)
    with pytest.raises(BadConfig):
        adaptr.fit(base, data, tmp_path / "a.safetensors", method="lora", config={"r": 0})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_checkpoint_before(
    base: Path, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    out = tmp_path / "a.safetensors"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(signal, "SIGXFSZ", signal.SIGXFSZ)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(DiskFull, match="the one before is still whole"):
            adaptr.fit(
                base,
                data,
                out,
                watcher=At(4, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))),
                **RECIPE,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    run = checkpoints.folder(out)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-2", "checkpoint-3"]
    adaptr.fit(base, data, out, resume=True, **RECIPE)
    assert out.read_bytes() == whole.read_bytes()
