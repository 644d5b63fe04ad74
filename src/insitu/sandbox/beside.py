"""Our own programs in a root that is not ours: the base's, run from beside it by the base's own loader.

A job's image may hold anything under any name: a `cat` or a `python3` of its own would
run before the guards are tested, and could answer for them. So where the root is an image,
the base is mounted at `TOOLS_TARGET`, read-only, and what of ours has to start inside is
started by the base's dynamic loader, with the base's libraries:

    /run/insitu/base/lib/…/ld-linux.so --library-path … /run/insitu/base/usr/bin/python3.11 …

What the image could still make a loader read, `/etc/ld.so.preload`, no image has: such a
one is refused when it is unpacked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from insitu.domain.errors import InvalidInputError

TOOLS_TARGET = "/run/insitu/base"

_MAX_LINKS = 40
_LIBRARIES = ("usr/local/lib", "usr/lib64", "usr/lib", "lib64", "lib")
_INTERPRETER = 3  # PT_INTERP, of the System V ABI's program headers


def command_beside(base: Path, program: str, *arguments: str) -> tuple[str, ...]:
    """How `program` of the base is started where the base is mounted at `TOOLS_TARGET`.

    Args:
        base: the base's root file system, on this machine.
        program: as a path inside of it, e.g. "/usr/bin/python3".

    Raises:
        InvalidInputError: the base has no such program, or it is not one for Linux on 64 bits.
    """
    found = _resolved(base, program)
    loader = _loader_of(base / found)
    if not loader:  # it stands by itself
        return (f"{TOOLS_TARGET}/{found}", *arguments)
    loaded_by = _resolved(base, loader)
    folders = ":".join(f"{TOOLS_TARGET}/{folder}" for folder in _library_folders(base, found, loaded_by))
    return (f"{TOOLS_TARGET}/{loaded_by}", "--library-path", folders, f"{TOOLS_TARGET}/{found}", *arguments)


def _library_folders(base: Path, program: PurePosixPath, loader: PurePosixPath) -> Iterator[PurePosixPath]:
    wanted = (loader.parent, program.parent.parent / "lib", *(PurePosixPath(name) for name in _LIBRARIES))
    yield from (folder for folder in dict.fromkeys(wanted) if (base / folder).is_dir())


def _resolved(base: Path, name: str) -> PurePosixPath:
    """Where `name` lies when `base` is `/`, with all links followed in there."""
    at = PurePosixPath()
    pending = [part for part in name.split("/") if part not in ("", ".")][::-1]
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            at = at.parent
            continue
        following = at / part
        if (base / following).is_symlink() and links < _MAX_LINKS:
            links += 1
            target = str((base / following).readlink())
            at = PurePosixPath() if target.startswith("/") else at
            pending += [step for step in target.split("/") if step not in ("", ".")][::-1]
        else:
            at = following
    if not (base / at).is_file() or (base / at).is_symlink():
        raise InvalidInputError(f"the base has no {name}", code="bad-base", hint="make it with `make base-image`")
    return at


def _loader_of(program: Path) -> str:
    """What an ELF file asks to be loaded by; empty when nothing (ELF-64, "Program header")."""
    with program.open("rb") as stream:
        head = stream.read(64)
        if head[:6] != b"\x7fELF\x02\x01":
            raise InvalidInputError(f"the base's {program.name} is no program for this machine", code="bad-base")
        at, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        for number in range(count):
            stream.seek(at + number * size)
            kind, _, offset, _, _, length = struct.unpack("<IIQQQQ", stream.read(40))
            if kind == _INTERPRETER:
                stream.seek(offset)
                return stream.read(length).rstrip(b"\0").decode()
    return ""
