"""Which wheel of a lock a place uses: one for each package, the same wherever it is asked. Pure.

A lock may name several wheels of a package, for several platforms or for one. Hub
and site must not differ in their choice, or what serves would not be what was
trained: so both ask here, and uv is only given what was chosen. Tags and their order
are PyPA's (packaging.python.org, "Platform compatibility tags"; PEP 425, PEP 600),
for glibc 2.28 and older; markers are those of lock files (PEP 751).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from insitu.domain.errors import InvalidInputError
from insitu.domain.images import Lock, LockedPackage, LockedWheel
from insitu.images.locks import parse_lock

_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}  # 2.5 and 2.17: no older manylinux exists for these
_NEWEST_GLIBC = 28  # as `locks.UV_PLATFORMS` asks uv for
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def chosen_wheels(lock: Lock, *, python: str, platform: str) -> tuple[tuple[LockedPackage, LockedWheel], ...]:
    """What of a lock is installed at a place: a wheel for each package that its markers want there.

    Args:
        python: "3.11".
        platform: "x86_64-linux".

    Raises:
        InvalidInputError: a package has none that fits; it is named, with what it has. Or a marker can't be read.
    """
    wanted = [package for package in lock.packages if is_wanted(package.marker, package.name, python, platform)]
    return tuple((package, _best(package, python, platform)) for package in wanted)


def narrowed(raw: bytes, *, python: str, platform: str) -> bytes:
    """A lock for many places as a lock for one: the wheels that it would use there, and nothing else.

    The same lock gives the same bytes.

    Raises:
        InvalidInputError: as `parse_lock` and `chosen_wheels`.
    """
    lock = parse_lock(raw, only=lambda marker, name: is_wanted(marker, name, python, platform))
    lines = ['lock-version = "1.0"', 'created-by = "insitu"', f'requires-python = "=={python}.*"']
    for package, wheel in chosen_wheels(lock, python=python, platform=platform):
        size = f", size = {wheel.size_bytes}" if wheel.size_bytes is not None else ""
        address = f"url = {json.dumps(wheel.url)}" if wheel.url else f"name = {json.dumps(wheel.filename)}"
        file = f'{{ {address}{size}, hashes = {{ sha256 = "{wheel.sha256}" }} }}'
        lines += ["", "[[packages]]", f'name = "{package.name}"', f'version = "{package.version}"']
        lines += [f"wheels = [{file}]"]
    return ("\n".join(lines) + "\n").encode()


def fits(filename: str, *, python: str, platform: str) -> bool:
    """Whether a wheel of this name can be used there."""
    return _rank(filename, python, platform) is not None


def _best(package: LockedPackage, python: str, platform: str) -> LockedWheel:
    ranked = [
        (rank, wheel) for wheel in package.wheels if (rank := _rank(wheel.filename, python, platform)) is not None
    ]
    if not ranked:
        raise no_wheel(package.name, package.version, [wheel.filename for wheel in package.wheels], python, platform)
    return min(ranked, key=lambda found: (found[0], found[1].filename))[1]


def no_wheel(name: str, version: str, filenames: Sequence[str], python: str, platform: str) -> InvalidInputError:
    """The error of a package that has wheels, and none for this place."""
    tags = sorted({"-".join(filename.removesuffix(".whl").split("-")[-3:]) for filename in filenames})
    more = f" and {len(tags) - 4} more" if len(tags) > 4 else ""
    return InvalidInputError(
        f"{name}=={version} has no wheel for Python {python} on {platform}",
        code="no-wheel",
        rule="wheels-only",
        measure=f"wheels for {', '.join(tags[:4])}{more}",
        limit=f"a wheel for Python {python} on {platform}",
        hint=f"choose a version of {name} that has one",
    )


def _rank(filename: str, python: str, platform: str) -> tuple[int, int] | None:
    """How good a wheel is there, less is better: place of its best tag, then the newest build. None: it doesn't fit."""
    try:
        _, _, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    order = _order(python, platform)
    places = [order[tag] for tag in tags if tag in order]
    return (min(places), -(build[0] if build else 0)) if places else None


@cache
def _order(python: str, platform: str) -> dict[Tag, int]:
    version = tuple(int(part) for part in python.split("."))
    interpreter = "cp" + "".join(python.split("."))
    platforms = list(_platforms(platform.removesuffix("-linux")))
    tags = [
        *cpython_tags(version, abis=[interpreter], platforms=platforms),
        *compatible_tags(version, interpreter=interpreter, platforms=platforms),
    ]
    return {tag: place for place, tag in reversed(list(enumerate(tags)))}


def _platforms(machine: str) -> Iterator[str]:
    for minor in range(_NEWEST_GLIBC, _OLDEST_GLIBC.get(machine, _NEWEST_GLIBC) - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _OLD_NAMES:
            yield f"{_OLD_NAMES[minor]}_{machine}"
    yield f"linux_{machine}"


def is_wanted(marker: str, name: str, python: str, platform: str) -> bool:
    """Whether a package with this marker is installed at a place. Empty: always.

    Raises:
        InvalidInputError: the marker can't be read; `name` is the package's.
    """
    if not marker:
        return True
    try:
        # Without extras and groups: an environment is all that the lock installs by itself.
        return Marker(marker).evaluate(marker_environment(python, platform), context="lock_file")
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName) as error:
        raise InvalidInputError(f"the lock's marker for {name} can't be read", why=str(error)) from error


def marker_environment(python: str, platform: str) -> dict[str, str | set[str]]:
    """PEP 508's variables at a place. Nothing of this machine comes in."""
    full = python if python.count(".") > 1 else f"{python}.0"  # as uv takes it, when only the minor version is known
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": platform.removesuffix("-linux"),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": ".".join(full.split(".")[:2]),
        "sys_platform": "linux",
        "extras": set(),
        "dependency_groups": set(),
    }
