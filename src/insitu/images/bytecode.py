"""Bytecode for an environment: compiled once for each wheel, then hard-linked.

A job's environment is read-only, so Python can't keep what it compiles, and
importing a few large libraries from source costs seconds each time. Compiling
costs seconds too, so it is done once for each wheel and kept:

    <store>/<key>/files          relative paths, one a line, of …
    <store>/<key>/<path>.pyc     … what was compiled

where the key covers the wheel's hashes, the platform and the Python that
compiled. That Python is the base's own, in bubblewrap, without network: two
releases of one minor version may compile alike sources differently, and an
image's digest must not depend on the machine that built it. Where there is no
bubblewrap, this process's Python does it if it has the base's minor version.

Tests that libraries ship (`tests/`, `test/`) stay source: a fifth of the bytes,
imported by nobody's model. What is compiled is never run.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from insitu.domain.errors import IntegrityError, UnavailableError
from insitu.domain.images import Lock, LockedPackage
from insitu.images import compile_in_base

_FORMAT = "1"
_FILES_A_PART = 200  # a large library is compiled in several processes
_SKIPPED_FOLDERS = frozenset({"tests", "test"})


@dataclass(frozen=True)
class Compiler:
    """Which Python compiles, and how to start it. `name` is part of every key."""

    name: str
    bwrap: str = ""
    rootfs: Path | None = None  # a base to run in; None: this process's own Python
    interpreter: str = sys.executable

    def command(self, mounts: Sequence[str] = ()) -> list[str]:
        """How to start it; `mounts` are bubblewrap's arguments, for the base's alone."""
        if self.rootfs is None:
            return ["env", "-i", "PYTHONHASHSEED=0", self.interpreter]
        sealed = [
            "--unshare-all",
            "--die-with-parent",
            "--new-session",
            "--clearenv",
            "--setenv",
            "PYTHONHASHSEED",
            "0",
        ]
        return [self.bwrap, *sealed, "--ro-bind", str(self.rootfs), "/", "--chdir", "/", *mounts, self.interpreter]

    def can_run(self) -> bool:
        return subprocess.run([*self.command(), "-I", "-S", "-c", ""], capture_output=True, check=False).returncode == 0


def compilers(
    python: str, *, rootfs: Path | None, interpreter: str, base_name: str, bwrap: str | None
) -> tuple[Compiler, ...]:
    """Who may compile, the better one first: the base's Python, then this one if it has the same minor version.

    Raises:
        UnavailableError: nobody.
    """
    found: list[Compiler] = []
    if rootfs is not None and bwrap is not None:
        found.append(Compiler(f"base {base_name}", bwrap, rootfs, interpreter))
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        found.append(Compiler(f"host {sys.implementation.cache_tag} {'.'.join(map(str, sys.version_info[:3]))}"))
    if not found:
        raise _nobody_compiles(python)
    return tuple(found)


def _nobody_compiles(python: str) -> UnavailableError:
    return UnavailableError(
        f"packages can't be compiled for Python {python}",
        why="the base's Python can't be run without bubblewrap, and this agent's Python is "
        f"{sys.version_info.major}.{sys.version_info.minor}",
        hint="apt install bubblewrap",
    )


def add_bytecode(
    site_packages: Path, lock: Lock, *, store: Path, candidates: Sequence[Compiler], platform: str, prefix: str
) -> Compiler:
    """Put a `.pyc` beside each source in `site_packages`; returns who compiled.

    Args:
        candidates: as `compilers` gives them; the first that has, or can make, all of it is taken.
        prefix: where the tree will be seen, e.g. "/opt/env/lib/python3.11/site-packages"; tracebacks show it.

    Raises:
        UnavailableError: the compiler didn't end well.
    """
    store.mkdir(parents=True, exist_ok=True)
    folders = installed_folders(site_packages)
    present = [package for package in lock.packages if normalised(package.name) in folders]
    for compiler in candidates:
        keys = {package.name: _key(package, compiler, platform) for package in present}
        missing = [package.name for package in present if not (store / keys[package.name] / "files").exists()]
        # Asked only when there is something to compile: to start it costs more than all the rest.
        if not missing or compiler.can_run():
            break
    else:
        raise _nobody_compiles(candidates[0].interpreter)
    if missing:
        sources = {keys[name]: _sources(folders[normalised(name)]) for name in missing}
        _compile(site_packages, sources, store, compiler, prefix)
    linked: set[str] = set()
    for key in keys.values():
        _link(store / key, site_packages, linked)
    return compiler


def installed_folders(site_packages: Path) -> dict[str, Path]:
    """Normalised name of each installed package → its `.dist-info` folder."""
    found = (entry for entry in os.scandir(site_packages) if entry.name.endswith(".dist-info"))
    return {normalised(entry.name.split("-")[0]): Path(entry.path) for entry in found}


def normalised(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def _key(package: LockedPackage, compiler: Compiler, platform: str) -> str:
    # Of several wheels in a lock uv picks one by platform and Python: so these stand for the choice.
    parts = [_FORMAT, compiler.name, platform, *sorted(wheel.sha256 for wheel in package.wheels)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sources(dist_info: Path) -> list[str]:
    with (dist_info / "RECORD").open(newline="", encoding="utf-8") as stream:
        names = [row[0] for row in csv.reader(stream) if row]
    return sorted(name for name in names if _is_source(name))


def _is_source(name: str) -> bool:
    folders = name.split("/")[:-1]
    outside = name.startswith(("../", "/", "bin/")) or ".." in folders
    return name.endswith(".py") and not outside and _SKIPPED_FOLDERS.isdisjoint(folders)


def _compile(
    site_packages: Path,
    sources: Mapping[str, Sequence[str]],
    store: Path,
    compiler: Compiler,
    prefix: str,
) -> None:
    work = Path(tempfile.mkdtemp(prefix=".work-", dir=store))
    try:
        for key in sources:
            (work / key).mkdir()
        _run(site_packages, sources, work, compiler, prefix)
        for key in sources:
            _publish(work / key, store / key)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(
    site_packages: Path,
    sources: Mapping[str, Sequence[str]],
    work: Path,
    compiler: Compiler,
    prefix: str,
) -> None:
    parts = [
        {"folder": key, "files": list(names[start : start + _FILES_A_PART])}
        for key, names in sources.items()
        for start in range(0, len(names), _FILES_A_PART)
    ]
    seen_source, seen_target, mounts = str(site_packages), str(work), list[str]()
    if compiler.rootfs is not None:
        seen_source, seen_target = "/mnt", "/tmp"  # noqa: S108 - inside the base; every Debian has both
        mounts = ["--ro-bind", str(site_packages), seen_source, "--bind", str(work), seen_target]
    script = Path(compile_in_base.__file__).read_text(encoding="utf-8")
    command = [*compiler.command(mounts), "-s", "-S", "-W", "ignore", "-c", script]
    order = {
        "source": seen_source,
        "target": seen_target,
        "prefix": prefix,
        "jobs": os.cpu_count() or 1,
        "parts": parts,
    }
    done = subprocess.run(command, input=json.dumps(order).encode(), capture_output=True, cwd="/", check=False)
    if done.returncode != 0:
        why = done.stderr.decode(errors="replace").strip()[-500:]
        raise UnavailableError("the environment's packages could not be compiled", why=why, hint="is the disk full?")


def _publish(made: Path, kept: Path) -> None:
    names = sorted(str(path.relative_to(made)) for path in made.rglob("*.pyc"))
    for name in names:
        (made / name).chmod(0o444)
    (made / "files").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    try:
        made.rename(kept)
    except OSError:
        if not (kept / "files").exists():  # else another process was faster, with the same bytes
            raise


def _link(kept: Path, site_packages: Path, linked: set[str]) -> None:
    """Put one package's bytecode beside its sources; `linked` holds what packages before it brought."""
    names = (kept / "files").read_text(encoding="utf-8").splitlines()
    source, target = f"{kept}/", f"{site_packages}/"
    for folder in {name.rpartition("/")[0] for name in names}:
        with contextlib.suppress(FileExistsError):
            os.mkdir(target + folder)  # noqa: PTH102 - pathlib doubles the time of this loop and the next
    for name in names:
        try:
            os.link(source + name, target + name)
        except FileExistsError as error:
            if name in linked:
                raise IntegrityError(
                    f"two packages bring {target + name}", hint="remove one of them from the lock"
                ) from error
            # A wheel that ships bytecode of its own: ours was compiled from the source beside it.
            os.unlink(target + name)  # noqa: PTH108
            os.link(source + name, target + name)
    linked.update(names)
