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
    rootfs: Path | None = None  # a base to run in; None: this process's own Python
    interpreter: str = sys.executable


def choose_compiler(
    python: str, *, rootfs: Path | None, interpreter: str, base_name: str, bwrap: str | None
) -> Compiler:
    """The base's Python where it can be run, else this one when it has the same minor version.

    Raises:
        UnavailableError: neither can be.
    """
    if rootfs is not None and bwrap is not None and _runs(bwrap, rootfs, interpreter):
        return Compiler(f"base {base_name}", rootfs, interpreter)
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Compiler(f"host {sys.implementation.cache_tag} {'.'.join(map(str, sys.version_info[:3]))}")
    raise UnavailableError(
        f"packages can't be compiled for Python {python}",
        why="the base's Python can't be run without bubblewrap, and this agent's Python is "
        f"{sys.version_info.major}.{sys.version_info.minor}",
        hint="apt install bubblewrap",
    )


def add_bytecode(
    site_packages: Path, lock: Lock, *, store: Path, compiler: Compiler, platform: str, prefix: str, bwrap: str | None
) -> int:
    """Put a `.pyc` beside each source in `site_packages`; returns how many wheels had to be compiled.

    Args:
        prefix: where the tree will be seen, e.g. "/opt/env/lib/python3.11/site-packages"; tracebacks show it.

    Raises:
        UnavailableError: the compiler didn't end well.
    """
    store.mkdir(parents=True, exist_ok=True)
    folders = installed_folders(site_packages)
    keys = {package.name: _key(package, compiler, platform) for package in lock.packages}
    present = {package.name: folders[n] for package in lock.packages if (n := normalised(package.name)) in folders}
    missing = {name: record for name, record in present.items() if not (store / keys[name] / "files").exists()}
    if missing:
        _compile(site_packages, {keys[n]: _sources(r) for n, r in missing.items()}, store, compiler, prefix, bwrap)
    for name in present:
        _link(store / keys[name], site_packages)
    return len(missing)


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
    bwrap: str | None,
) -> None:
    work = Path(tempfile.mkdtemp(prefix=".work-", dir=store))
    try:
        for key in sources:
            (work / key).mkdir()
        _run(site_packages, sources, work, compiler, prefix, bwrap)
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
    bwrap: str | None,
) -> None:
    parts = [
        {"folder": key, "files": list(names[start : start + _FILES_A_PART])}
        for key, names in sources.items()
        for start in range(0, len(names), _FILES_A_PART)
    ]
    seen_source, seen_target = str(site_packages), str(work)
    script = Path(compile_in_base.__file__).read_text(encoding="utf-8")
    python = [compiler.interpreter, "-s", "-S", "-W", "ignore", "-c", script]
    if compiler.rootfs is None:
        command = ["env", "-i", "PYTHONHASHSEED=0", *python]
    else:
        assert bwrap is not None, "a compiler in a base is chosen only where bubblewrap is"
        seen_source, seen_target = "/mnt", "/tmp"  # noqa: S108 - inside the base; every Debian has both
        mounts = ["--ro-bind", str(site_packages), seen_source, "--bind", str(work), seen_target]
        command = [*_bubblewrap(bwrap, compiler.rootfs), *mounts, *python]
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


def _bubblewrap(bwrap: str, rootfs: Path) -> list[str]:
    sealed = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--setenv", "PYTHONHASHSEED", "0"]
    return [bwrap, *sealed, "--ro-bind", str(rootfs), "/", "--chdir", "/"]


def _runs(bwrap: str, rootfs: Path, interpreter: str) -> bool:
    command = [*_bubblewrap(bwrap, rootfs), interpreter, "-I", "-S", "-c", ""]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


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


def _link(kept: Path, site_packages: Path) -> None:
    names = (kept / "files").read_text(encoding="utf-8").splitlines()
    for folder in {name.rpartition("/")[0] for name in names}:
        (site_packages / folder).mkdir(parents=True, exist_ok=True)
    source, target = f"{kept}/", f"{site_packages}/"
    try:
        for name in names:
            os.link(source + name, target + name)
    except FileExistsError as error:
        raise IntegrityError(
            f"two packages bring {error.filename2}", hint="remove one of them from the lock"
        ) from error
