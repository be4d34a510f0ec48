"""What this machine asks of artifacts before they are used: `policy.yaml` under `ADAPTR_HOME`, or at `ADAPTR_POLICY`.

- scope: "oci://ghcr.io/acme/*"      # `*` also stands for `/`; the first entry that fits decides
  keys: [acme.pub, 8f14e45f...]      # files, from the policy's folder, or fingerprints of what is in its folder `keys`
  certificates: [acme-ca.pem]        # certificates that issue others
  mode: enforce                      # or warn
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import InputError, PolicyError, RegistryError, SignatureError, shown
from adaptr.files.home import home, require_kept, require_own
from adaptr.registry import remotes
from adaptr.registry.signing import artifact, certificates, keys, scopes
from adaptr.registry.signing.bundle import Trust
from adaptr.untrusted import whole

if TYPE_CHECKING:
    from adaptr.registry.manifest import Manifest
    from adaptr.registry.reference import Reference
    from adaptr.registry.store import Store

log = logging.getLogger("adaptr")
FILE, KEYS = "policy.yaml", "keys"
MAX = 1 << 20
FIELDS = frozenset({"scope", "keys", "certificates", "mode"})
MODES = ("enforce", "warn")
_FINGERPRINT = re.compile(r"(?:sha256:)?[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Rule:
    """For references that fit `scope`: a signature by one of these, or a refusal (`enforce`) or a warning."""

    scope: str
    keys: tuple[str, ...]
    certificates: tuple[str, ...]
    mode: str


def require(reference: Reference, manifest: Manifest, store: Store) -> None:
    """Hold an artifact against the policy of this machine: as what it is asked for, and as all that it came as.

    What it is called here changes nothing. Raises `PolicyError`, `InputError` for a wrong policy, `StoreUnsafe` for one
    that others may write.
    """
    path = place()
    if path is None:
        return
    held: set[Rule] = set()
    for one in (reference, *store.references_of(manifest.digest)):
        rule = _rule_for(one, path)
        if rule is not None and rule not in held:
            held.add(rule)
            _hold(one, rule, path, manifest, store)


def _hold(reference: Reference, rule: Rule, path: Path, manifest: Manifest, store: Store) -> None:
    trust = _trust(rule, path)
    try:
        if not _is_signed(manifest, store, trust):
            _refresh(reference, manifest, store)
            artifact.proved(manifest, store, trust)
    except SignatureError as error:
        said = f"the policy `{path}` wants `{reference}` signed: {error.fact}"
        refused = PolicyError(said, hint=error.hint)
        if rule.mode == "enforce":
            raise refused from None
        log.warning("%s", refused)


def _is_signed(manifest: Manifest, store: Store, trust: Trust) -> bool:
    try:
        return bool(artifact.proved(manifest, store, trust))
    except SignatureError:
        return False


def _refresh(reference: Reference, manifest: Manifest, store: Store) -> None:
    """Ask for signatures that came after the artifact did."""
    if reference.scheme == "oci":
        with suppress(RegistryError):
            remotes.of(reference.scheme).pull(reference.at(manifest.digest), store)


def place() -> Path | None:
    """The policy of this machine, None without one. Raises `InputError` for one that is named and not there."""
    named = os.environ.get("ADAPTR_POLICY")
    path = Path(named).expanduser() if named else home() / FILE
    if named and not path.is_file():
        raise InputError(f"`ADAPTR_POLICY` names `{path}`, and there is no such file", hint="correct it, or unset it")
    require_kept(path.parent)
    if not os.path.lexists(path):
        return None
    for one in (path.parent, path):
        require_own(one)
    return path


def asks(reference: Reference) -> bool:
    """Whether the policy says something of this reference, so that its signatures are needed."""
    path = place()
    return path is not None and _rule_for(reference, path) is not None


def read(path: Path) -> list[Rule]:
    """The rules of a policy file. Raises `InputError`: a policy that is not understood protects nothing."""
    import yaml

    from adaptr.untrusted.plain_yaml import Plain

    try:
        document = Plain(whole(path, MAX).decode()).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"the policy `{path}` can't be read: {shown(' '.join(str(error).split()), 200)}",
            hint="mend it: nothing is opened without it",
        ) from None
    if not isinstance(document, list):
        raise InputError(
            f"the policy `{path}` must be a list of rules", hint="give each a `scope`, `keys` and a `mode`"
        )
    return [_rule(entry, path) for entry in document]


def _rule(entry: object, path: Path) -> Rule:
    if not isinstance(entry, dict) or not entry.keys() <= FIELDS:
        more = sorted(map(str, entry.keys() - FIELDS)) if isinstance(entry, dict) else entry
        raise InputError(
            f"the policy `{path}` has a rule with `{shown(more)}`", hint=f"known: {', '.join(sorted(FIELDS))}"
        )
    scope, mode = entry.get("scope"), entry.get("mode", "enforce")
    if not isinstance(scope, str) or not scope or mode not in MODES:
        raise InputError(
            f"the policy `{path}`: a rule needs a `scope` and a `mode`", hint=f"the mode is {' or '.join(MODES)}"
        )
    rule = Rule(scope, _texts(entry, "keys", path), _texts(entry, "certificates", path), mode)
    if not (rule.keys or rule.certificates):
        raise InputError(
            f"the policy `{path}`: the rule for `{scope}` names no keys and no certificates",
            hint="name whom it trusts by `keys` or `certificates`",
        )
    return rule


def _texts(entry: Mapping[str, Any], field: str, path: Path) -> tuple[str, ...]:
    found = entry.get(field, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f"the policy `{path}`: `{field}` is no list", want="a list of texts")
    return tuple(found)


def _rule_for(reference: Reference, path: Path) -> Rule | None:
    """The first rule that fits: names with and without tag and digest are the same artifact's."""
    names = scopes.names(reference)
    return next((rule for rule in read(path) if scopes.fits(names, rule.scope)), None)


def _own(file: Path) -> Path:
    """A file of keys or certificates, which only its owner may have written, in a folder of theirs."""
    for one in (file.parent, file):
        if one.exists():  # what is not there is said by who reads it
            require_own(one)
    return file


def _trust(rule: Rule, path: Path) -> Trust:
    """Who a rule believes. Fingerprints stand for keys in the folder `keys` beside the policy, and in certificates."""
    named = frozenset(one.removeprefix("sha256:") for one in rule.keys if _FINGERPRINT.match(one))
    given = [keys.public(_own(path.parent / one)) for one in rule.keys if not _FINGERPRINT.match(one)]
    known = [keys.public(_own(file)) for file in sorted((path.parent / KEYS).glob("*"))] if named else []
    roots = [one for name in rule.certificates for one in certificates.read(_own(path.parent / name))]
    return Trust((*given, *(key for key in known if keys.fingerprint(key) in named)), tuple(roots), named)
