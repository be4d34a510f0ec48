"""Every law of `adaptr.testing.CommandLaws` x every command. Where no line is known that works, those laws are skipped
with that reason: a new command needs no entry here to be held to the others.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adaptr import api
from adaptr.cli import listing
from adaptr.testing import CommandLaws
from adaptr.testing.terminals import piped
from cli.conftest import randomised
from registry.conftest import locked, own_home, plain  # noqa: F401
from registry.servers.registry import DockerRegistry
from registry.servers.token import ACCOUNTS
from registry.signers import key

#: A line that works, in a copy of `kit`. HERE is that folder.
WORKS = {
    "apply": "base a.safetensors --prompt w1 --max-new-tokens 2",
    "bake": "base p.safetensors -o out.safetensors",
    "chat": "base a.safetensors --max-new-tokens 2",
    "check": "a.safetensors --on vllm --base base",
    "compose": "a.safetensors=0.5 b.safetensors -o out.safetensors",
    "convert": "a.safetensors --to peft -o out",
    "copy": "file://HERE/layout#a file://HERE/other#a",
    "diff": "a.safetensors b.safetensors --html out.html",
    "doctor": "",
    "errors": "NotFound",
    "explain": "NotFound",
    "eval": "base a.safetensors --data records.jsonl --length 16 --resamples 20 --html out.html",
    "extract": "base merged --rank 2 -o out.safetensors",
    "gate": "train base a.safetensors b.safetensors --data d.tsv --steps 1 -o out.safetensors",
    "gc": "--dry-run",
    "info": "file://HERE/layout#a",
    "inspect": "a.safetensors",
    "list": "",
    "log": "merged",
    "merge": "base a.safetensors -o out",
    "methods": "lora",
    "pull": "file://HERE/layout#a -o out",
    "push": "a.safetensors file://HERE/other#a",
    "quantize": "a.safetensors --error 5% --by-rank -o out.safetensors",
    "drop": "a.safetensors --layers 0 -o out.safetensors",
    "resize": "a.safetensors --rank 1 -o out.safetensors",
    "rm": "a:1",
    "search": "lora",
    "sign": "a.safetensors --key k.key -o out.sig",
    "similar": "p.safetensors p.safetensors --k 1",
    "stack": "a.safetensors b.safetensors --base base -o out.safetensors",
    "tag": "a.safetensors a:1",
    "train": "base --data records.jsonl --length 16 --steps 1 --batch 2 -o out.safetensors",
    "unmerge": "merged -o out",
    "verify": "merged --base base --adapter a.safetensors",
}
#: One with bad input: where none is said, the first input of the line that works is a broken file.
FAILS = {
    "doctor": "more",
    "copy": "file://HERE/layout#nothing file://HERE/other#a",
    "errors": "Nothing",
    "explain": "Nothing",
    "gc": "--grace soon",
    "info": "file://HERE/nothing#a",
    "list": "more",
    "methods": "nothing",
    "pull": "file://HERE/layout#nothing -o out",
    "rm": "nothing:1",
    "search": "lora --in nowhere",
    "sign": "nothing --key k.key -o out.sig",
}


@pytest.fixture(scope="module")
def kit(llama: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("laws") / "kit"
    shutil.copytree(llama, here / "base")
    shutil.copyfile(lora, here / "a.safetensors")
    adapter = randomised(llama, "b")
    api.save(adapter.replace(tensors={k: 2 * t for k, t in adapter.tensors.items()}), here / "b.safetensors")
    api.save(randomised(llama, "p", "prompt", None), here / "p.safetensors")
    api.merge(here / "base", [here / "a.safetensors"], here / "merged")
    (here / "d.tsv").write_text("".join(f"w{i}\tw{i + 1}\n" for i in range(20)))
    records = [{"prompt": f"w{i} ", "completion": f"w{i + 1} w{i + 2}"} for i in range(12)]
    (here / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    (here / "broken").write_bytes(b"no adapter")
    key(here / "k.key", 256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTR_HOME", str(here.parent / "home"))
        api.push(here / "a.safetensors", f"file://{here}/layout#a")
    return here


class Kit(CommandLaws):
    """Of the table."""

    @pytest.fixture(autouse=True)
    def _kit(self, kit: Path) -> None:
        self.kit = kit

    def works(self, folder: Path) -> list[str]:
        return self.line(folder, WORKS.get(self.command))

    def fails(self, folder: Path) -> list[str]:
        if self.command in FAILS:
            return self.line(folder, FAILS[self.command])
        words = self.works(folder)
        first = next(word for word in words if (self.kit / word).exists())
        return ["broken" if word == first else word for word in words]

    def line(self, folder: Path, text: str | None) -> list[str]:
        if text is None:
            return super().works(folder)
        shutil.copytree(self.kit, folder, dirs_exist_ok=True)
        if self.command == "rm":
            piped(folder, ["tag", "a.safetensors", "a:1"])
        return text.replace("HERE", str(folder)).split()


class TestChat(Kit):
    command = "chat"
    given = "w1 w2\n/with a=0.5\nw3\n"


class TestLogin(CommandLaws):
    command = "login"
    given = f"{ACCOUNTS['alice']}\n"

    @pytest.fixture(autouse=True)
    def _served(self, locked: DockerRegistry, own_home: Path) -> None:  # noqa: F811
        self.host = locked.host

    def works(self, folder: Path) -> list[str]:
        return [self.host, "--user", "alice", "--password-stdin"]

    def fails(self, folder: Path) -> list[str]:
        return [self.host, "--user", "bob", "--password-stdin"]


class TestLogout(TestLogin):
    command = "logout"

    def works(self, folder: Path) -> list[str]:
        piped(folder, ["login", *super().works(folder)], self.given)
        return [self.host]

    def fails(self, folder: Path) -> list[str]:
        return ["nobody.example"]


class TestIndex(CommandLaws):
    command = "index"

    @pytest.fixture(autouse=True)
    def _served(self, plain: DockerRegistry) -> None:  # noqa: F811
        self.host = plain.host

    def works(self, folder: Path) -> list[str]:
        return ["build", f"oci://{self.host}/acme"]

    def fails(self, folder: Path) -> list[str]:
        return ["build", "hf://acme"]


_OWN = {one.command for one in (TestChat, TestLogin, TestLogout, TestIndex)}
for _name in sorted(set(listing.SORT.files()) - _OWN):
    _title = f"Test_{_name}"
    globals()[_title] = type(_title, (Kit,), {"command": _name})
