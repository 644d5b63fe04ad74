"""Sizes and durations as people write them, and as programs count them.

`2MB` is 2,000,000 bytes and `2MiB` is 2,097,152: the SI and IEC prefixes mean
what their standards say (IEC 80000-13), never one for the other. A bare number
is a number of bytes, or of seconds. Anything else is an error, because a bound
that was read wrongly is no bound.
"""

from __future__ import annotations

import re

from insitu.domain.errors import InvalidInputError

_BYTE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SECOND_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"([0-9]{1,15})(\.[0-9]{1,6})?\s?([A-Za-z]*)", re.ASCII)

BYTES_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?$"
"""For JSON Schemas: what `parse_bytes` takes as text."""
SECONDS_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(s|m|h|d)?$"
"""For JSON Schemas: what `parse_seconds` takes as text."""


def parse_bytes(value: int | str) -> int:
    """A size such as `2MB`, `256kB`, `1GiB` or a plain number, in bytes.

    Raises:
        InvalidInputError: it is not a size, or not a whole number of bytes.
    """
    return _parse(value, _BYTE_UNITS, "size", "write 256kB, 2MB or 1GiB (kB is 1000 bytes, KiB is 1024)")


def parse_seconds(value: int | str) -> int:
    """A duration such as `90s`, `10m`, `6h`, `7d` or a plain number, in seconds.

    Raises:
        InvalidInputError: it is not a duration, or not a whole number of seconds.
    """
    return _parse(value, _SECOND_UNITS, "duration", "write 90s, 10m, 6h or 7d")


def format_bytes(size_bytes: int) -> str:
    """A size for people, in SI units, with at most one digit after the point: `1.4 MB`."""
    amount, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.95:  # what would print as 1000.0 belongs to the next unit
            break
        amount, unit = amount / 1000, larger
    text = f"{amount:.1f}".removesuffix(".0")
    return f"{text} {unit}"


def _parse(value: int | str, units: dict[str, int], what: str, hint: str) -> int:
    if isinstance(value, bool):
        raise InvalidInputError(f"{value!r} is not a {what}", hint=hint)
    if isinstance(value, int):
        if value < 0:
            raise InvalidInputError(f"a {what} can't be negative: {value}", hint=hint)
        return value
    # What comes from a file may be any type, whatever the signature promises.
    found = _FORM.fullmatch(value.strip()) if isinstance(value, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None or found[3] not in units:
        raise InvalidInputError(f"{str(value)[:40]!r} is not a {what}", hint=hint)
    scale, fraction = units[found[3]], (found[2] or ".0")[1:]
    # Integers throughout: 0.1GB must not become 100000000.00000001 bytes.
    parts, rest = divmod(int(fraction) * scale, 10 ** len(fraction))
    if rest:
        raise InvalidInputError(
            f"{value!r} is not a whole number of {'bytes' if what == 'size' else 'seconds'}", hint=hint
        )
    return int(found[1]) * scale + parts
