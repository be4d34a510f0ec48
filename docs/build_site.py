"""The documentation as a site, in `.cache/site/site`: `make site`.

Pages are laid out as the repository has them, so that a link that is right there is right here; zensical builds them,
strictly, in an environment of its own with what the extra `docs` names; and `check_site` looks at what came out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import check_site

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "benchmarks/*.md", "registry_spec/**/*.md")
STYLE = "docs/site.css"
#: In the navigation, all pages of a folder, by their names.
EVERY = re.compile(r'"(?P<folder>[\w/-]+)/\*\.md"')
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def pages() -> set[Path]:
    """What goes onto the site, by its path in the repository: the pages, and the files that they link to."""
    found = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    linked = {(page.parent / link).resolve() for page in found for link in LINK.findall(page.read_text("utf-8"))}
    return {
        path.relative_to(ROOT) for path in {*found, *linked, ROOT / STYLE} if path.is_file() and ROOT in path.parents
    }


def lay_out(work: Path) -> None:
    """The pages and the configuration, in an empty folder."""
    shutil.rmtree(work, ignore_errors=True)
    for path in pages():
        (work / "pages" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, work / "pages" / path)
    said = (ROOT / "docs" / "zensical.toml").read_text("utf-8")
    (work / "zensical.toml").write_text(spread(said).replace("{root}", str(ROOT)), "utf-8")


def spread(said: str) -> str:
    """The configuration with each page of a folder in the navigation where that says all of them."""

    def listed(one: re.Match[str]) -> str:
        found = sorted((ROOT / one["folder"]).glob("*.md"))
        pages = (f'{{ "{path.stem}" = "{path.relative_to(ROOT)}" }}' for path in found)
        return f"[{', '.join(pages)}]"

    return EVERY.sub(listed, said)


def zensical(cache: Path) -> Path:
    """The program, in an environment that is made once and again when the extra changes."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    wanted, ready = " ".join(extras["docs"]), cache / ".ready"
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", cache], check=True)
        pip = [cache / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *extras["docs"]], check=True)
        ready.write_text(wanted)
    return cache / "bin" / "zensical"


def main() -> int:
    cache = Path(os.environ.get("ADAPTR_CACHE", ROOT / ".cache"))
    work = cache / "site"
    lay_out(work)
    program = zensical(cache / "docs-env")
    built = subprocess.run([program, "build", "--strict", "--clean", "-f", work / "zensical.toml"], cwd=work)
    if built.returncode:
        return built.returncode
    wrong = check_site.faults(work / "site")
    print(
        "\n".join(wrong)
        or f"{work / 'site'}: every link and picture of {check_site.count(work / 'site')} pages is there"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
