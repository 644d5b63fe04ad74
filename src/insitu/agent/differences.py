"""What differs between two frozen outputs, and between the code that made them: for a reviewer, at the site.

Arrays are counted by the gate's confined reader (`gate.inventory`); code is compared as
text, bounded, and never run. Nothing of this leaves the site.
"""

from __future__ import annotations

import difflib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insitu.gate.inventory import TIME_S, Array, Inventory, parse_inventory
from insitu.sandbox.confine import confined_argv

_MEMORY_BYTES = 2 << 30
_MAX_CODE_BYTES = 200_000  # of one file
_MAX_DIFF_LINES = 2_000
_MAX_CODE_FILES = 2_000


# -- what a copy holds -------------------------------------------------------------------------------------------------


def inventory_of(folder: Path, *, site: Path, gate_gid: int | None) -> Inventory:
    """The arrays of a frozen copy, counted by a confined process. What can't be counted says so."""
    uid = gate_gid or os.getuid() or 1
    argv = confined_argv(
        [sys.executable, "-P", "-m", "insitu.gate.inventory"],
        uid=uid,
        gid=gate_gid or os.getgid() or 1,
        memory_bytes=_MEMORY_BYTES,
        cpu_s=int(2 * TIME_S),
        folders=(site,),
    )
    try:
        done = subprocess.run(argv, input=_as_tar(folder), capture_output=True, timeout=3 * TIME_S, check=True)
        return parse_inventory(done.stdout.decode())
    except (subprocess.SubprocessError, ValueError, OSError):
        return Inventory((), ended="the confined reader ended without an answer")


def _as_tar(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                tar.add(path, arcname=path.relative_to(folder).as_posix())
    return out.getvalue()


def compare_arrays(before: Inventory, after: Inventory) -> dict[str, Any]:
    """Counts of what stayed, changed, came and went, by place."""
    old = {array.where: array for array in before.arrays}
    new = {array.where: array for array in after.arrays}
    both = old.keys() & new.keys()
    return {
        "same": sum(old[where].digest == new[where].digest for where in both),
        "changed": sum(old[where].digest != new[where].digest for where in both),
        "reshaped": sum(_form(old[where]) != _form(new[where]) for where in both),
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "numbers_before": before.numbers,
        "numbers_after": after.numbers,
        "not_counted": before.ended or after.ended,
    }


def _form(array: Array) -> tuple[str, tuple[int, ...]]:
    return array.type, array.shape


def compare_files(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each path that is in either: its sizes, and whether it is new, gone, changed or the same."""
    old, new = ({file["path"]: file for file in files} for files in (before, after))
    found: list[dict[str, Any]] = []
    for path in sorted(old.keys() | new.keys()):
        was, now = old.get(path), new.get(path)
        same = was is not None and now is not None and was["digest"] == now["digest"]
        change = "new" if was is None else "gone" if now is None else "same" if same else "changed"
        sizes = {"before": was["size_bytes"] if was else None, "after": now["size_bytes"] if now else None}
        found.append({"path": path, "change": change, **sizes})
    return found


# -- the code that made it ---------------------------------------------------------------------------------------------


@dataclass
class CodeDiff:
    """`lines` is a unified diff; `files` the paths that differ."""

    lines: list[str] = field(default_factory=list[str])
    files: list[str] = field(default_factory=list[str])
    cut: str = ""  # what was left out, if anything


def compare_code(before: Path | None, after: Path) -> CodeDiff:
    """A unified diff between two code snapshots; without a former one, everything is new."""
    old, new = _sources(before), _sources(after)
    diff = CodeDiff()
    for path in sorted(old.keys() | new.keys()):
        was, now = old.get(path), new.get(path)
        if was == now:
            continue
        diff.files.append(path)
        diff.lines += _file_diff(path, was, now)
    if len(diff.lines) > _MAX_DIFF_LINES:
        diff.cut = f"{len(diff.lines) - _MAX_DIFF_LINES} more lines; compare the folders themselves"
        del diff.lines[_MAX_DIFF_LINES:]
    return diff


def _sources(folder: Path | None) -> dict[str, bytes]:
    if folder is None:
        return {}
    return dict(_read(folder))


def _read(folder: Path) -> Iterator[tuple[str, bytes]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for path in paths[:_MAX_CODE_FILES]:
        with path.open("rb") as stream:
            yield path.relative_to(folder).as_posix(), stream.read(_MAX_CODE_BYTES + 1)


def _file_diff(path: str, was: bytes | None, now: bytes | None) -> list[str]:
    old, new = _text(was), _text(now)
    if old is None or new is None:
        return [f"--- {path}", f"+++ {path}", "(differs; not text, or too long to show)"]
    names = (path if was is not None else "/dev/null", path if now is not None else "/dev/null")
    return list(difflib.unified_diff(old, new, *names, lineterm=""))


def _text(data: bytes | None) -> list[str] | None:
    if data is None:
        return []
    if len(data) > _MAX_CODE_BYTES:
        return None
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError:
        return None
