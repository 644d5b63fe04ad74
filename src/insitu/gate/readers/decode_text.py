"""Turns encoded text back into bytes: base 16, 32, 64 and 85 in every alphabet that is in use, and escapes.

| encoding | source |
|---|---|
| base 16, 32, 32hex, 64, 64url | RFC 4648 |
| Ascii85 | Adobe, PostScript Language Reference (also with `<~ ~>`) |
| base 85 of Python and git | RFC 1924's alphabet |
| Z85 | ZeroMQ RFC 32 |
| percent, quoted-printable | RFC 3986, RFC 2045 |
| backslashes, character references | JSON, Python, HTML |

Pure: text in, bytes out, empty bytes where the text is not that encoding.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_A85 = "".join(chr(code) for code in range(33, 118))
_BAD = 255


@dataclass(frozen=True)
class Encoding:
    """`period`: after so many characters the encoding begins anew, so a piece cut out may begin at any of them."""

    name: str
    alphabet: re.Pattern[str]
    period: int
    decode: Callable[[str], bytes]


def _hex(text: str) -> bytes:
    return bytes.fromhex(text[: len(text) // 2 * 2])


def _base32(text: str) -> bytes:
    return _padded(text.upper(), 8, base64.b32decode)


def _base32_hex(text: str) -> bytes:
    return _padded(text.upper(), 8, base64.b32hexdecode)


def _base64(text: str) -> bytes:
    return _padded(text.replace("-", "+").replace("_", "/"), 4, base64.b64decode)


def _padded(text: str, period: int, decode: Callable[[str], bytes]) -> bytes:
    """Decode with the padding that is due; one character more than the encoding can make is left out."""
    for cut in range(4):
        part = text[: len(text) - cut]
        try:
            return decode(part + "=" * (-len(part) % period))
        except (ValueError, binascii.Error):
            continue
    return b""


def _base85(alphabet: str) -> Callable[[str], bytes]:
    table = np.full(256, _BAD, dtype=np.uint8)
    table[np.frombuffer(alphabet.encode(), dtype=np.uint8)] = np.arange(85, dtype=np.uint8)

    def decode(text: str) -> bytes:
        missing = -len(text) % 5
        codes = table[np.frombuffer((text + alphabet[-1] * missing).encode("latin-1"), dtype=np.uint8)]
        if not len(codes) or codes.max() == _BAD:
            return b""
        powers = np.array([85**4, 85**3, 85**2, 85, 1], dtype=np.uint64)
        words = codes.reshape(-1, 5).astype(np.uint64) @ powers
        if words.max() > 0xFFFF_FFFF:
            return b""
        data = words.astype(">u4").tobytes()
        return data[: len(data) - missing]

    return decode


def _ascii85(text: str) -> bytes:
    return _PLAIN_A85(text.replace("z", "!!!!!").replace("y", "+<VdL"))


_PLAIN_A85 = _base85(_A85)


def _of(characters: str) -> re.Pattern[str]:
    return re.compile(f"[{re.escape(characters)}]+")


DENSE = (  # alphabets of letters and digits: a run of them stands out in text
    Encoding("base 16", re.compile(r"[0-9a-f]+|[0-9A-F]+"), 2, _hex),
    Encoding("base 32", re.compile(r"[A-Z2-7]+|[a-z2-7]+"), 8, _base32),
    Encoding("base 32", re.compile(r"[0-9A-V]+|[0-9a-v]+"), 8, _base32_hex),
    Encoding("base 64", re.compile(r"[A-Za-z0-9+/]+|[A-Za-z0-9_-]+"), 4, _base64),
)
WIDE = (  # alphabets of nearly everything that can be printed
    Encoding("base 85", _of(_B85), 5, _base85(_B85)),
    Encoding("base 85", _of(_Z85), 5, _base85(_Z85)),
    Encoding("base 85", _of(_A85 + "zy"), 5, _ascii85),
)

# ── Escapes ─────────────────────────────────────────────────────────────────

_LEAST_ESCAPES = 4
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_QUOTED = re.compile(r"=[0-9A-F]{2}")
_BACKSLASH = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-3][0-7]{2}))")
_REFERENCE = re.compile(r"&#(?:x([0-9A-Fa-f]{1,6})|([0-9]{1,7}));")
_RUNS = tuple(
    re.compile(rf"(?:{escape}){{{_LEAST_ESCAPES},}}")
    for escape in (
        r"%[0-9A-Fa-f]{2}",
        r"=[0-9A-F]{2}",
        r"\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[0-3][0-7]{2}",
        r"&#(?:x[0-9A-Fa-f]{1,6}|[0-9]{1,7});",
    )
)


def unescaped(text: str) -> list[bytes]:
    """`text` with its escapes undone, once for each kind that it is full of."""
    found: list[bytes] = []
    if _many(_PERCENT, text):
        found.append(_PERCENT.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1", "replace"))
    if _many(_QUOTED, text):
        found.append(binascii.a2b_qp(text.encode(errors="replace")))
    if _many(_BACKSLASH, text):
        found += _bytes_of(_BACKSLASH.sub(lambda match: _character(match, (16, 16, 16, 8)), text))
    if _many(_REFERENCE, text):
        found += _bytes_of(_REFERENCE.sub(lambda match: _character(match, (16, 10)), text))
    return found


def _bytes_of(text: str) -> list[bytes]:
    """Characters as UTF-8; where none is above 255 and some are no ASCII, also as the bytes that they may be."""
    plain = text.encode(errors="replace")
    if text.isascii() or max(text) > "\xff":
        return [plain]
    return [plain, text.encode("latin-1")]


def escaped_runs(text: str) -> list[bytes]:
    """What stands in runs of nothing but escapes, put together: commas, numbers and line ends between them are left out."""
    return [data for run in _RUNS if len(runs := run.findall(text)) > 1 and runs for data in unescaped("".join(runs))]


def _many(pattern: re.Pattern[str], text: str) -> bool:
    return sum(1 for _ in zip(pattern.finditer(text), range(_LEAST_ESCAPES), strict=False)) >= _LEAST_ESCAPES


def _character(match: re.Match[str], bases: tuple[int, ...]) -> str:
    code = next(int(digits, base) for digits, base in zip(match.groups(), bases, strict=True) if digits)
    return chr(code) if code <= 0x10FFFF else "\ufffd"
