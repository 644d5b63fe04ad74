"""Why a lock failed, for a person: which requirement, for which platform, and which versions would have fitted.

uv says which package it is; which versions have a wheel for that place is looked up in
the index, for the one or two that it names. An index that can't be asked costs the
suggestion, not the error.
"""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from insitu.domain.errors import InsituError, InvalidInputError
from insitu.images.wheel_choice import fits
from insitu.images.wheel_download import WheelDownload, WheelSource
from insitu.sdk.places import Place

_NAMED = (
    re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:[=<>!~]=?|===)[^ ]* (?:has|have) no (?:usable )?wheels"),
    re.compile(r"no version of ([A-Za-z0-9][A-Za-z0-9._-]*)(?:[=<>!~]|\b)"),
    re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*) was not found in the package registry"),
    re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==\S+ has no wheel for"),
    re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*) is locked without"),
    re.compile(r"available: ([A-Za-z0-9][A-Za-z0-9._-]*)[<>=]"),
)
_MOST_LOOKED_UP = 2
_TIMEOUT_S = 10.0


def explain_lock_failure(
    error: InvalidInputError, requirements: str, place: Place, index_url: str | None
) -> InvalidInputError:
    """`error` with the requirement, the place and what would fit."""
    wanted = _wanted(requirements)
    names = list(dict.fromkeys(_names(f"{error.what}\n{error.why}")))
    # Those that somebody wrote down come first: they can change them.
    names.sort(key=lambda name: name not in wanted)
    source = WheelSource(index_url=index_url or "", hosts=None, timeout_s=_TIMEOUT_S)
    download = WheelDownload(source)
    try:
        for name in names[:_MOST_LOOKED_UP]:
            fitting = _fitting(download, name, place)
            asked = wanted.get(name) or _locked(error.what, name)
            if fitting is not None and (asked is None or not any(asked.specifier.contains(one) for one in fitting)):
                return _told(error, str(asked.specifier) if asked else "", name, fitting, place)
    finally:
        download.close()
    what = error.what if str(place) in error.what else f"{error.what} for {place}"
    return _changed(error, what, error.hint)


def _told(error: InvalidInputError, asked: str, name: str, fitting: list[Version], place: Place) -> InvalidInputError:
    if not fitting and f"{name} was not found" in error.why:
        what = f"{name} is not in the package index"
        return _changed(
            error, what, "is it spelt as the index spells it? and is it the right index? (INSITU_INDEX_URL)"
        )
    what = f"{name}{asked} has no wheel for {place}"
    if not fitting:
        return _changed(error, what, f"no version of {name} has one: leave it out, or build one for your index")
    near = ", ".join(str(one) for one in _nearest(fitting, asked))
    return _changed(error, what, f"versions of {name} that have one: {near}")


def _changed(error: InvalidInputError, what: str, hint: str) -> InvalidInputError:
    return InvalidInputError(
        what,
        code="no-wheel" if "has no wheel" in what else error.code,
        why=error.why,
        hint=hint,
        rule="wheels-only",
        measure=error.measure,
        limit=error.limit,
    )


def _nearest(fitting: list[Version], asked: str) -> list[Version]:
    """The two on each side of what was asked for, or the newest three."""
    number = re.search(r"\d[^,*]*", asked)
    try:
        middle = Version(number[0].strip(".")) if number else None
    except InvalidVersion:
        middle = None
    if middle is None:
        return fitting[-3:]
    below = [one for one in fitting if one <= middle]
    above = [one for one in fitting if one > middle]
    return [*below[-2:], *above[:2]]


def _fitting(download: WheelDownload, name: str, place: Place) -> list[Version] | None:
    """Versions that have a wheel for the place, the oldest first; None: the index could not be asked."""
    try:
        files = download.versions(name)
    except InsituError as error:
        return [] if error.code == "wheel-not-at-index" else None
    found: set[Version] = set()
    for filename, yanked in files:
        if not yanked and filename.endswith(".whl") and fits(filename, python=place.python, platform=place.platform):
            try:
                found.add(parse_wheel_filename(filename)[1])
            except InvalidWheelFilename:
                continue
    return sorted(one for one in found if not one.is_prerelease)


def _names(text: str) -> list[str]:
    return [canonicalize_name(found) for pattern in _NAMED for found in pattern.findall(text)]


def _wanted(requirements: str) -> dict[str, Requirement]:
    found: dict[str, Requirement] = {}
    for line in requirements.splitlines():
        try:
            requirement = Requirement(line.partition(" #")[0].partition(" --")[0].strip())
        except InvalidRequirement:  # an option, a comment, an address: uv knows what to do with them
            continue
        found[canonicalize_name(requirement.name)] = requirement
    return found


def _locked(what: str, name: str) -> Requirement | None:
    found = re.search(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ]+) has no wheel", what)
    return Requirement(f"{name}=={found[2]}") if found and canonicalize_name(found[1]) == name else None
