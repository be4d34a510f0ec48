"""An output is never an input, by whatever name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from adaptr.errors import OutputExists
from adaptr.files import place
from files.outputs import output


def refused(out: Path, read: Path) -> bool:
    for require in (place.require_file, place.require_folder):
        try:
            require(out, True, [read])
        except OutputExists as error:
            if str(read) not in str(error):
                return False
        else:
            return False
    return True


def test_an_output_that_holds_another_name_of_an_input(tmp_path: Path) -> None:
    """A hard link to it, or a folder that is mounted twice, has no name in common with it."""
    out, base = output(tmp_path / "out"), tmp_path / "base"
    base.mkdir()
    os.link(out / "config.json", base / "config.json")
    assert refused(out, base)
    assert refused(out, base / "config.json")


@pytest.mark.parametrize("require", [place.require_file, place.require_folder])
def test_a_way_over_a_folder_that_is_not_there_yet_leads_to_what_is(tmp_path: Path, require) -> None:
    """`new/..` is nothing until something makes `new`: what lies there is seen before the work, not after it."""
    (tmp_path / "f").write_text("mine")
    with pytest.raises(OutputExists, match="exists"):
        require(tmp_path / "new" / ".." / "f", False, [])


def test_folders_beside_an_input_are_free(tmp_path: Path) -> None:
    base = output(tmp_path / "base")
    (base / "data").symlink_to(tmp_path)  # a link to a folder takes nothing in
    for out in (tmp_path / "new", tmp_path / "base2", output(tmp_path / "old")):
        place.require_folder(out, True, [base, base / "config.json", tmp_path / "nothing"])
        place.require_file(out / "f", True, [base, base / "config.json"])


def test_the_same_disk_mounted_twice(tmp_path: Path) -> None:
    base, alias = output(tmp_path / "models/base"), tmp_path / "alias"
    alias.mkdir()
    ran = subprocess.run(["mount", "--bind", tmp_path / "models", alias], capture_output=True, text=True)
    if ran.returncode:
        pytest.skip(f"nothing can be mounted here: {ran.stderr.strip()}")
    try:
        assert refused(alias, base)
        assert refused(alias / "base", base)
        assert refused(alias / "base/new", base)
        assert refused(base, alias / "base")
        assert refused(tmp_path / "models", alias / "base")
    finally:
        subprocess.run(["umount", "-l", alias], check=True)


def test_names_in_other_letters_where_they_are_the_same(tmp_path: Path) -> None:
    base = output(tmp_path / "base")
    if not (tmp_path / "BASE").exists():
        pytest.skip("this file system takes `BASE` for another name than `base`")
    assert refused(tmp_path / "BASE", base)
