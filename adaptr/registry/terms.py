"""Media types and annotation keys, each in one place. See registry_spec/artifacts.md."""

from __future__ import annotations

#: Reverse DNS of a name that the project owns: the one place where it is chosen.
PREFIX = "dev.adaptr"

SPEC_VERSION = f"{PREFIX}.spec.version"
KIND = f"{PREFIX}.kind"
METHOD = f"{PREFIX}.method"
RANK = f"{PREFIX}.rank"
FORMAT = f"{PREFIX}.format"
BASE_MODEL = f"{PREFIX}.base.model"
BASE_STRUCTURE = f"{PREFIX}.base.structure"
BASE_CONTENT = f"{PREFIX}.base.content"
PARENTS = f"{PREFIX}.parents"
WEIGHTS = f"{PREFIX}.weights"
#: In the local index only: where an artifact was pulled from.
REFERENCE = f"{PREFIX}.reference"
REPOSITORY = f"{PREFIX}.repository"
#: In the local index only: every place that an artifact is known to have come from, separated by blanks.
ORIGINS = f"{PREFIX}.origins"

#: The version of the artifact specification that this adaptr writes; readers refuse another major.
SPEC = "1.0"
ADAPTER, STACK, MODEL, INDEX = "adapter", "stack", "model", "index"

TITLE = "org.opencontainers.image.title"
FILEPATH = "org.cncf.model.filepath"
REF_NAME = "org.opencontainers.image.ref.name"
VERSION = "org.opencontainers.image.version"
LICENSES = "org.opencontainers.image.licenses"
DESCRIPTION = "org.opencontainers.image.description"

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCTETS = "application/octet-stream"

#: ModelPack: so that modctl, KitOps and Docker's runner carry it.
MODEL_ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHTS_LAYER = "application/vnd.cncf.model.weight.v1.raw"
CONFIG_LAYER = "application/vnd.cncf.model.weight.config.v1.raw"
DOC_LAYER = "application/vnd.cncf.model.doc.v1.raw"

INDEX_ARTIFACT = f"application/vnd.{PREFIX.rpartition('.')[2]}.index.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

#: The tag under which a namespace publishes what it holds.
INDEX_TAG = "adaptr-index"
