"""Write all vectors: `python registry_spec/vectors/make.py`. The same bytes every time; a test compares them."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import invalid  # noqa: E402
import valid  # noqa: E402


def main(out: Path) -> None:
    for folder, vectors in (("valid", valid.vectors()), ("invalid", invalid.vectors())):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for old in (out / folder).glob("*.safetensors"):
            old.unlink()
        for name, content in vectors.items():
            (out / folder / f"{name}.safetensors").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
