"""What other tools push is readable, what adaptr pushes is theirs too, and digests stay what they are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from adaptr.registry.reference import parse
from adaptr.registry.remotes import Remote
from adaptr.registry.store import Store
from registry.conftest import Made, safetensors
from registry.servers.registry import DockerRegistry

needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="`skopeo` is not installed")


def skopeo(*arguments: str) -> str:
    command = ["skopeo", "--insecure-policy", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@needs_skopeo
def test_skopeo_carries_our_artifacts(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, other: Store, made: Made
) -> None:
    """Out of our store into the registry, from there to another repository, and into our other store."""
    digest = made(store, 5000)
    store.put(store.manifest(digest), "mine:1")
    first, second = f"{plain.host}/{repository}", f"{plain.host}/{repository}-b"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{store.root}:mine:1", f"docker://{first}:1")
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{first}:1", f"docker://{second}:1")
    assert oci.pull(parse(f"oci://{second}:1"), other) == digest


@needs_skopeo
def test_skopeo_gets_what_we_push(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, made: Made, tmp_path: Path
) -> None:
    digest = made(store, 5000)
    oci.push(store, digest, parse(f"oci://{plain.host}/{repository}:1"))
    layout = tmp_path / "layout"
    skopeo("copy", "--src-tls-verify=false", f"docker://{plain.host}/{repository}:1", f"oci:{layout}:x")
    assert json.loads((layout / "index.json").read_text())["manifests"][0]["digest"] == digest
    for blob in store.manifest(digest).blobs:
        assert (layout / "blobs" / "sha256" / blob.digest.hex).read_bytes() == store.path(blob.digest).read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_what_oras_pushes_is_readable(
    oci: Remote, plain: DockerRegistry, repository: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("oras.client", reason="`oras` is not installed")
    (tmp_path / "adapter_model.safetensors").write_bytes(safetensors(5000))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    monkeypatch.chdir(tmp_path)
    pusher = client.OrasClient(hostname=plain.host, insecure=True)
    files = ["adapter_model.safetensors", "adapter_config.json"]
    pusher.push(files=files, target=f"{plain.host}/{repository}:1")
    digest = oci.pull(parse(f"oci://{plain.host}/{repository}:1"), store)
    view = store.view(digest)
    for name in files:
        assert (view / name).read_bytes() == (tmp_path / name).read_bytes()
