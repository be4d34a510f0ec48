"""`python -m adaptr.playground [FOLDER] [images]`"""

from __future__ import annotations

import sys
from pathlib import Path


def main(words: list[str]) -> int:
    from adaptr.playground import images, language

    folder = Path(next((word for word in words if word != "images"), "."))
    folder.mkdir(parents=True, exist_ok=True)
    made = images.make(folder) if "images" in words else language.make(folder)
    print("made " + ", ".join(path.name + "/" * path.is_dir() for path in made))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
