"""What a folder links to is not in it: never published, pulled or named, in whatever form."""

from __future__ import annotations

from pathlib import Path

import pytest

import adaptr
from adaptr.artifacts import handling
from adaptr.errors import InputError
from adaptr.registry.store import Store
from registry.test_local import file


@pytest.mark.parametrize("name", ["README.md", "notes.txt", "adapter_config.json", "data", "gone"])
@pytest.mark.parametrize("form", ["as-is", "adaptr"])
def test_a_link_in_a_folder_is_never_followed(tmp_path: Path, name: str, form: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"peft_type": "LORA", "canary": 1}')
    adaptr.convert(file(tmp_path / "a.adaptr.safetensors"), tmp_path / "p", "peft")
    (tmp_path / "p" / name).unlink(missing_ok=True)
    (tmp_path / "p" / name).symlink_to({"data": tmp_path, "gone": tmp_path / "nowhere"}.get(name, secret))
    layout = tmp_path / "layout"
    for publish in (
        lambda: adaptr.push(tmp_path / "p", f"file://{layout}#x", form),
        lambda: handling.copy(f"file://{tmp_path}/p", f"file://{layout}#x"),
        lambda: handling.tag(str(tmp_path / "p"), "p"),
        lambda: adaptr.pull(f"file://{tmp_path}/p"),
    ):
        with pytest.raises(InputError, match=f"`{tmp_path}/p/{name}` is a link"):
            publish()
    assert not layout.exists()
    blobs = (Store.default().root / "blobs/sha256").iterdir()
    assert not any(b"canary" in blob.read_bytes() for blob in blobs)


def test_a_link_that_is_named_itself_is_what_it_leads_to(tmp_path: Path) -> None:
    a = file(tmp_path / "a.adaptr.safetensors")
    (tmp_path / "latest").symlink_to(a)
    assert handling.tag(str(tmp_path / "latest"), "x").digest == handling.tag(str(a), "y").digest
