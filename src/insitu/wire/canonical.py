"""Canonical JSON (RFC 8785) on the way in: whether bytes are in that form, and what they say.

Writing it is `rfc8785`'s work, which is plain Python and takes several times as long
as all else in opening an envelope. Most documents hold nothing in which the standard
library's encoder, keys sorted, differs from RFC 8785; of those it tells the same.
"""

from __future__ import annotations

import json
import re
from typing import Any

import rfc8785

_LONG_NUMBER = re.compile(rb"[0-9]{16}")
"""Numbers from 2^53 on can't be written in that form; here also what only looks like one."""


def read_canonical(data: bytes) -> Any:
    """What canonical JSON says.

    Raises:
        ValueError: it is JSON in another form, or none.
    """
    others: list[str] = []

    def note(text: str) -> float:
        others.append(text)
        return float(text)

    document: Any = json.loads(data, parse_float=note, parse_constant=note)
    # Where both agree: no fractions, which ECMAScript writes otherwise; no number that it can't hold; and letters that
    # sort alike as code points and as UTF-16 (RFC 8785, 3.2.3).
    both_agree = not others and data.isascii() and not _LONG_NUMBER.search(data)
    if (_sorted(document) if both_agree else rfc8785.dumps(document)) != data:
        raise ValueError("this is not canonical JSON")
    return document


def _sorted(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
