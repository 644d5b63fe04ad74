"""Bytecode stands beside its source once, whoever brought it."""

from __future__ import annotations

from pathlib import Path

import pytest

from insitu.domain.errors import IntegrityError
from insitu.images import bytecode

NAME = "numbers/__pycache__/table.cpython-311.pyc"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    (folder / NAME).parent.mkdir(parents=True)
    (folder / NAME).write_bytes(b"compiled here")
    (folder / "files").write_text(f"{NAME}\n")
    return folder


def test_bytecode_that_a_wheel_ships_gives_way_to_ours(tmp_path: Path, kept: Path) -> None:
    shipped = tmp_path / "site" / NAME
    shipped.parent.mkdir(parents=True)
    shipped.write_bytes(b"shipped")
    bytecode._link(kept, tmp_path / "site", set())
    assert shipped.read_bytes() == b"compiled here"


def test_two_packages_with_one_module_are_refused(tmp_path: Path, kept: Path) -> None:
    linked: set[str] = set()
    (tmp_path / "site" / "numbers").mkdir(parents=True)
    bytecode._link(kept, tmp_path / "site", linked)
    with pytest.raises(IntegrityError, match="two packages"):
        bytecode._link(kept, tmp_path / "site", linked)
