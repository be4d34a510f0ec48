"""`hf://`: the Hugging Face Hub. Repositories are read as they are, of PEFT adapters, adaptr files and base models."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr.errors import ForeignError, Unsupported, shown
from adaptr.files.meter import Meter
from adaptr.foreign import formats
from adaptr.registry import card, glance, hub, pack, terms
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor
from adaptr.registry.reference import Reference
from adaptr.registry.remotes import Found, Info, Progress, Pushed, Remote
from adaptr.untrusted import MAX_DOCUMENT, json_object

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

    from adaptr.registry.hub import Listed, Snapshot
    from adaptr.registry.store import Store

#: Answers of a search.
MOST = 50
CONFIG = "adapter_config.json"

log = logging.getLogger("adaptr")


class HuggingFace(Remote):
    """The Hub at `HF_ENDPOINT`, as the account of `HF_TOKEN`."""

    name = "hf"
    whole = True

    def pull(self, reference: Reference, store: Store, progress: Progress | None = None) -> Digest:
        """Bring a repository's adapter or base model into the store, at the commit that the revision stands for now."""
        snapshot = hub.snapshot(reference.name, reference.tag)
        there = snapshot.files(reference.folder)
        chosen = {name: there[file] for name, file in pack.selected(there, str(reference)).items()}
        meter = Meter(sum(entry.size for entry in chosen.values()), "pulling", progress)
        layers = {}
        for name, entry in sorted(chosen.items(), key=lambda item: item[1].size):
            layers[name] = (_fetched(snapshot, entry, store, meter), entry.size)
        if card.NAME in layers and card.is_made(store.path(layers[card.NAME][0]).read_bytes()):
            del layers[card.NAME]  # made of the artifact, and no part of it
        manifest = pack.manifest(layers, store, {name: store.path(digest) for name, (digest, _) in layers.items()})
        return store.put(manifest, "", str(replace(reference, tag=snapshot.commit)))

    def push(
        self, store: Store, digest: Digest, reference: Reference, progress: Progress | None = None, force: bool = False
    ) -> Pushed:
        """Upload an artifact's files as one commit; the repository is made if it is not there. A branch moves."""
        if reference.tag and _is_commit(reference.tag):
            raise Unsupported(f"`{reference}` names a commit, which stays what it is", hint="push to a branch")
        manifest, where = store.manifest(digest), f"hf://{reference.name}"
        hub.asked(lambda: hub.api().create_repo(reference.name, exist_ok=True), where)
        if reference.tag:
            hub.asked(lambda: hub.api().create_branch(reference.name, branch=reference.tag, exist_ok=True), where)
        _require_card(store, digest, reference)
        meter = Meter(manifest.size, "pushing", progress)
        commit = hub.asked(lambda: _upload(store, digest, reference), where)
        meter.add(manifest.size)
        size = sum(layer.size for layer in manifest.files().values())
        return Pushed(replace(reference, tag=commit), digest, size, 0)

    def resolve(self, reference: Reference) -> str:
        """The commit that a revision stands for now."""
        return hub.snapshot(reference.name, reference.tag).commit

    def info(self, reference: Reference) -> Info:
        snapshot = hub.snapshot(reference.name, reference.tag)
        there = snapshot.files(reference.folder)
        chosen = {name: there[file] for name, file in pack.selected(there, str(reference)).items()}
        if card.NAME in chosen and not chosen[card.NAME].sha256 and card.is_made(snapshot.in_git(chosen[card.NAME])):
            del chosen[card.NAME]  # as `pull` leaves it
        weights = [entry for name, entry in chosen.items() if name.endswith(".safetensors")]
        file = snapshot.file(weights[0])
        header = glance.header(lambda count: file.start(count)[0], weights[0].size, weights[0].path)
        said = _said(snapshot, chosen)
        sizes = {name: entry.size for name, entry in chosen.items()}
        return Info(reference, "", None, header if len(weights) == 1 else b"", sizes, snapshot.commit, said)

    def search(self, where: Reference, words: Sequence[str]) -> list[Found]:
        """Repositories on the Hub that are tagged `peft` and fit the words; `hf://org` looks at one owner's only."""
        author = where.name.partition("/")[0] or None
        models = hub.asked(
            lambda: list(hub.api().list_models(filter="peft", search=" ".join(words), author=author, limit=MOST)),
            "hf://",
        )
        return [_answer(model) for model in models]


def _fetched(snapshot: Snapshot, entry: Listed, store: Store, meter: Meter) -> Digest:
    """A file's digest, once it is in the store."""
    if not entry.sha256:
        data = snapshot.in_git(entry)
        meter.add(entry.size)
        return store.add_bytes(data)
    digest = Digest(f"sha256:{entry.sha256}")
    store.fetch(Descriptor(terms.OCTETS, digest, entry.size), snapshot.file(entry).read, meter.add)
    return digest


def _upload(store: Store, digest: Digest, reference: Reference) -> str:
    """Send the artifact's files; returns the commit."""
    done = hub.api().upload_folder(
        repo_id=reference.name,
        folder_path=store.view(digest),
        path_in_repo=reference.folder or None,
        revision=reference.tag or None,
        commit_message="Published with adaptr",
        commit_description=str(digest),
    )
    return str(done.oid)


def _require_card(store: Store, digest: Digest, reference: Reference) -> None:
    """Give the repository a card where it and the artifact have none, after saying what it says."""
    files = {name: store.path(layer.digest) for name, layer in store.manifest(digest).files().items()}
    where = f"hf://{reference.name}"
    if reference.folder or card.NAME in files or (found := pack.adapter_in(files)) is None:
        return
    there = hub.snapshot(reference.name, reference.tag).files()
    if card.NAME in there:
        return
    text = card.made(*found, reference.name, digest)
    log.warning("`%s` has no card; this one is put there:\n%s", where, text)
    hub.asked(lambda: _put_card(text, reference), where)


def _put_card(text: str, reference: Reference) -> None:
    hub.api().upload_file(
        path_or_fileobj=text.encode(),
        path_in_repo=card.NAME,
        repo_id=reference.name,
        revision=reference.tag or None,
        commit_message="A card, made by adaptr of the adapter",
    )


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and set(revision) <= set("0123456789abcdef")


def _said(snapshot: Snapshot, chosen: Mapping[str, Listed]) -> dict[str, str]:
    """What the repository says of itself: PEFT's configuration and the card's licence."""
    said = {terms.KIND: terms.MODEL if "config.json" in chosen and CONFIG not in chosen else terms.ADAPTER}
    if snapshot.license:
        said[terms.LICENSES] = snapshot.license
    if CONFIG not in chosen:
        return said
    config = _config(snapshot, chosen[CONFIG])
    form = formats.configured(config)
    about = form.about(config) if form is not None else {}
    given = {
        terms.FORMAT: form.name if form is not None else "",
        terms.METHOD: about.get("method", ""),
        terms.RANK: about.get("rank", ""),
        terms.BASE_MODEL: about.get("base", ""),
    }
    return {**said, **{key: value for key, value in given.items() if value}}


def _config(snapshot: Snapshot, entry: Listed) -> Mapping[str, Any]:
    data = snapshot.in_git(entry) if not entry.sha256 else snapshot.file(entry).whole(min(entry.size, MAX_DOCUMENT))
    return json_object(data, f"`{shown(entry.path)}` in `hf://{snapshot.name}`", ForeignError)


def _answer(model: ModelInfo) -> Found:
    """A repository as search tells it. Tags such as `base_model:adapter:org/name` say what it is for."""
    tags = [tag for tag in model.tags or () if isinstance(tag, str)]
    base = next((tag.rpartition(":")[2] for tag in tags if tag.startswith("base_model:adapter:")), "")
    license = next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), "")
    said = {terms.KIND: terms.ADAPTER, terms.FORMAT: "peft", terms.BASE_MODEL: base, terms.LICENSES: license}
    return Found(f"hf://{model.id}", "", "", {key: value for key, value in said.items() if value})
