"""Kinds of place that a job may run at: what a lock is for."""

from __future__ import annotations

from dataclasses import dataclass

from insitu.domain.errors import InvalidInputError
from insitu.images.locks import UV_PLATFORMS


@dataclass(frozen=True)
class Place:
    """The Python and the platform of a base."""

    python: str  # e.g. "3.11"
    platform: str  # e.g. "x86_64-linux"

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform}"


def place_of(text: str) -> Place:
    """`3.11/x86_64-linux` as a kind of place.

    Raises:
        InvalidInputError: it has another form, or names a platform that we don't know.
    """
    python, slash, platform = text.partition("/")
    good = slash and python.startswith("3.") and python[2:].isdecimal() and platform in UV_PLATFORMS
    if not good:
        raise InvalidInputError(
            f"{text[:60]!r} is not a Python and a platform",
            code="place",
            hint=f"e.g. 3.11/x86_64-linux; platforms are {', '.join(UV_PLATFORMS)}",
        )
    return Place(python, platform)
