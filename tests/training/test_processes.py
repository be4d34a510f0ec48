"""Two processes over gloo: what one process gives, within rounding, written once and whole."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.training import sharded

RECIPE: dict[str, Any] = {"steps": 4, "rate": 0.02, "config": {"r": 4}, "samples": 0, "save_every": 2}


def together(count: int, work: Callable[[int], object]) -> None:
    """`work` in that many processes, which know each other as torchrun's do."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    children = []
    for rank in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the children do not use
            number = os.fork()
        if not number:
            code = 1
            try:
                _among(rank, count, port)
                work(rank)
                code = 0
            finally:
                os._exit(code)
        children.append(number)
    assert [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in children] == [0] * count


def _among(rank: int, count: int, port: int) -> None:
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in said.items()}, ACCELERATE_USE_CPU="true")


@pytest.mark.parametrize("method", ["lora", "adalora", "ladder"])
def test_two_processes_give_what_one_gives(base: Path, data: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "two" / "a.safetensors"
    recipe = {**RECIPE, "method": method, "config": {}}
    together(2, lambda rank: adaptr.fit(base, data, out, batch=2, **recipe))
    one = adaptr.fit(base, data, batch=4, **recipe).adapter
    two = adaptr.load(out)
    assert two.training["processes"] == 2
    assert two.training["steps"] == 4
    assert two.tensors.keys() == one.tensors.keys()
    apart = max(float((one.tensors[key] - two.tensors[key]).abs().max()) for key in one.tensors)
    assert 0 <= apart < 1e-5
    assert sorted(path.name for path in out.parent.iterdir()) == ["a.safetensors", "a.safetensors.run"]
    assert [path.name for path in Path(f"{out}.run").iterdir()] == ["report.json"]


def test_what_steps_leave_out_is_the_same_in_all_processes(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdapterDrop's robust training: layers that one step drops have no gradients, in neither process."""
    out = tmp_path / "two" / "a.safetensors"
    recipe = {**RECIPE, "method": "adapterdrop", "config": {"fields": {"m": 4}}, "steps": 6}
    method = plugins.method("adapterdrop")
    objective = type(method).objective

    def told(own: Any, session: Any, run: Any) -> Any:
        made = objective(own, session, run)
        at_work = sorted(path for path, state in session.states.items() if state.strength)
        with (tmp_path / f"{os.environ.get('RANK', 'one')}.txt").open("a") as file:
            file.write(f"{session.steps} {' '.join(at_work)}\n")
        return made

    monkeypatch.setattr(type(method), "objective", told)
    together(2, lambda rank: adaptr.fit(base, data, out, batch=2, **recipe))
    one, two = adaptr.fit(base, data, batch=4, **recipe).adapter, adaptr.load(out)
    drawn = [(tmp_path / f"{name}.txt").read_text().splitlines() for name in ("0", "1", "one")]
    assert drawn[0] == drawn[1] == drawn[2]
    assert len({line.partition(" ")[2] for line in drawn[0]}) == 2  # with the lower layer, and without
    assert max(float((one.tensors[key] - two.tensors[key]).abs().max()) for key in one.tensors) < 1e-5


def test_two_processes_go_on_to_the_same_bytes(base: Path, data: Path, tmp_path: Path) -> None:
    from adaptr.errors import Interrupted
    from adaptr.training.callbacks import Steps

    def stopped(out: Path) -> None:
        asked = Steps.on_step_begin

        def on_step_begin(self: Steps, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.stop = self.stop or (state.global_step == 1 and args.process_index == 1)  # one is asked, both stop
            asked(self, args, state, control, **more)

        Steps.on_step_begin = on_step_begin  # type: ignore[method-assign]
        with pytest.raises(Interrupted, match="step 2 of 4"):
            adaptr.fit(base, data, out, batch=2, **recipe)

    recipe = {**RECIPE, "config": {"r": 4, "dropout": 0.2}}
    paths = [tmp_path / name / "a.safetensors" for name in ("whole", "again")]
    together(2, lambda rank: adaptr.fit(base, data, paths[0], batch=2, **recipe))
    together(2, lambda rank: stopped(paths[1]))
    together(2, lambda rank: adaptr.fit(base, data, paths[1], batch=2, resume=True, **recipe))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_is_in_parts_learns_as_what_is_whole_and_is_whole_in_the_end() -> None:
    """By torch's own `fully_shard` on a gloo mesh: accelerate makes DDP of FSDP on a CPU without a word."""
    ids = torch.arange(28).reshape(4, 7) + 3
    wanted = _stepped(tiny.model("llama").train(), ids, lambda model: None)

    def work(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        found = _stepped(tiny.model("llama").train(), ids[rank * 2 : rank * 2 + 2], _sharded)
        assert max(float((found[key] - wanted[key]).abs().max()) for key in wanted) < 1e-6

    together(2, work)


def _stepped(model: Any, ids: Any, shard: Callable[[Any], None]) -> dict[str, Any]:
    """The adapter's tensors after one step."""
    session = adaptr.train(model, adaptr.create(model, "lora", r=4))
    shard(model)
    optimiser = torch.optim.SGD(session.parameters(), lr=0.1)
    session.objective(lambda: ((output := model(input_ids=ids, labels=ids)).loss, output)).backward()
    optimiser.step()
    session.after_step()
    return sharded.whole(session.finish().tensors)


def _sharded(model: Any) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    mesh = init_device_mesh("cpu", (2,))
    for part in (*model.model.layers, model):
        fully_shard(part, mesh=mesh)
    assert all(isinstance(p, DTensor) for p in model.parameters())
