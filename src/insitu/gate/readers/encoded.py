"""Finds encoded runs in text and reads what they decode to, also where one was cut into many pieces.

A run is taken for encoded when it decodes to something that tells itself: text,
or the magic of a known format. A long run is read as bytes in any case. Pieces
are put together again along the ways in which they are usually laid out: runs
one after the other, lines, columns of lines, items of a list; each piece
decoded by itself, or all of them joined and then decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from insitu.gate.contents import Place
from insitu.gate.readers.characters import text_of
from insitu.gate.readers.decode_text import DENSE, WIDE, Encoding, escaped_runs, unescaped
from insitu.gate.readers.signatures import has_signature

_LEAST = 24  # characters of a run: shorter ones hold less than three cells
_LEAST_PIECE = 16  # of a run among many
_LONG = 64  # of a run that is read whatever it decodes to
_LEAST_PIECES = 4
_SAMPLE = 120  # characters decoded to see whether it is worth decoding all: a multiple of every period
_MAX_RUNS = 20_000
_MAX_LINES = 50_000
_MAX_COLUMNS = 24
_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,6}")
_WIDE_TOKEN = re.compile(r"[!-~]{40,}")
_DIGITS = re.compile(r"(?<![\w.])[0-9]{24,4000}(?![\w.])")
_SEPARATORS = re.compile(r"[\s,;|:=\"']+")
_LEAST_TELLING = 16  # bytes
_LEAST_LETTERS = 8  # distinct ones
_LEAST_DISTINCT = 8  # pieces: a word that stands in every line is none
_MANY_ESCAPES = 0.75  # of the length is left, where most of the text is escapes
_MANY_LETTERS = 40  # distinct characters in a sample: prose and tables of numbers have fewer


def read_encoded(text: str, place: Place) -> None:
    """Read what stands encoded in `text`."""
    for plain in [] if place.noise else unescaped(text):
        if tells_itself(plain) or len(plain) < _MANY_ESCAPES * len(text):
            place.read(plain, "unescaped", guessed=True)
    for plain in escaped_runs(text):
        if tells_itself(plain) or (len(plain) >= _LONG and not place.noise):
            _hand_on(plain, place)
    tokens = list(dict.fromkeys(islice((found.group() for found in _TOKEN.finditer(text)), _MAX_RUNS)))
    for number, token in enumerate(tokens):
        if number % 256 == 0:
            place.effort.check_time()
        _read_run(token, place)
    read_pieces(tokens, place)
    for token in islice(_WIDE_TOKEN.findall(text), 1000):
        _read_wide(token, place)
    if text.count("\n") >= _LEAST_PIECES:
        _read_wide("".join(text.split()), place, long=False)
    for digits in islice(_DIGITS.findall(text), 1000):
        _read_number(int(digits), place)
    for column in _columns(text):
        read_pieces(column, place, joined_only=True)


def read_pieces(pieces: Sequence[str], place: Place, *, joined_only: bool = False) -> None:
    """Read `pieces`, which stand side by side, as one encoded run."""
    if len(pieces) < _LEAST_PIECES and sum(map(len, pieces)) < _LONG:
        return
    if not joined_only:
        parts = [part for piece in pieces for part in re.split(r"[_-]", piece.strip().rstrip("="))]
        for alike in _by_alphabet([part for part in parts if len(part) >= _LEAST_PIECE]):
            if alike != list(pieces):
                _join(alike, place)
    _join(pieces, place)


def _join(pieces: Sequence[str], place: Place) -> None:
    if len(pieces) < 2:
        return
    place.effort.check_time()
    stripped = [piece.strip().rstrip("=") for piece in pieces]
    whole = "".join(stripped)
    if whole.isdigit() or len(set(pieces)) < min(_LEAST_DISTINCT, len(pieces) / 2):
        return
    alike = len({len(piece) for piece in pieces[:-1]}) == 1 and _is_mixed(whole, least=3)
    for plain in unescaped("".join(pieces)):
        if tells_itself(plain):
            _hand_on(plain, place)
            return
    if _read_run(whole, place, long=alike) or _read_wide("".join(pieces), place, long=alike):
        return
    for encoding in (*DENSE, *WIDE):  # each piece with a padding of its own
        each = stripped if encoding in DENSE else pieces
        if all(not piece or encoding.alphabet.fullmatch(piece) for piece in each):
            decoded = b"".join(encoding.decode(piece) for piece in each if piece)
            if tells_itself(decoded):
                _hand_on(decoded, place)
                return


def _by_alphabet(pieces: Sequence[str]) -> Iterator[list[str]]:
    """The pieces of each alphabet, narrow ones first: a prefix or a word between them then does no harm."""
    for encoding in DENSE:
        alike = [piece for piece in pieces if encoding.alphabet.fullmatch(piece)]
        if len(alike) >= 2:
            yield alike


def _read_run(token: str, place: Place, *, long: bool = True) -> bool:
    """Read what a run decodes to, in the first encoding that makes something of it; a `long` one in any case."""
    run = token.rstrip("=")
    parts = dict.fromkeys([run, *re.split(r"[_-]", run)])  # `chunk_GE3S4OJZ…` hides behind a prefix
    for part in (part for part in parts if len(part) >= _LEAST and not part.isdigit()):
        for encoding in DENSE:
            if encoding.alphabet.fullmatch(part) and _read_as(encoding, part, place):
                return True
    if long and not place.noise and len(run) >= _LONG and _is_mixed(run):
        encoding = next((encoding for encoding in DENSE if encoding.alphabet.fullmatch(run)), None)
        if encoding is not None:
            place.read(encoding.decode(run), "decoded", noise=True)
    return False


def _read_as(encoding: Encoding, part: str, place: Place) -> bool:
    for offset in range(encoding.period):
        if tells_itself(encoding.decode(part[offset : offset + _SAMPLE]), whole=len(part) <= offset + _SAMPLE):
            decoded = encoding.decode(part[offset:])
            if tells_itself(decoded) or not place.noise:
                _hand_on(decoded, place)
                return True
    return False


def _read_wide(token: str, place: Place, *, long: bool = True) -> bool:
    """Base 85, whose alphabets most text fits: it must tell itself, or look like nothing that people write."""
    run = token.removeprefix("<~").removesuffix("~>").strip("\"'")
    for encoding in WIDE:
        sample = run[:_SAMPLE]
        if len(run) < _LEAST or not encoding.alphabet.fullmatch(sample):
            continue
        if tells_itself(encoding.decode(sample), whole=len(run) <= _SAMPLE):
            decoded = encoding.decode(run) or encoding.decode(_longest(encoding, run))
            _hand_on(decoded, place)
            return True
        if (
            long
            and not place.noise
            and len(run) >= _LONG
            and len(set(sample)) >= _MANY_LETTERS
            and encoding.alphabet.fullmatch(run)
        ):
            place.read(encoding.decode(run), "decoded", noise=True)
            break
    return False


def _longest(encoding: Encoding, run: str) -> str:
    found = encoding.alphabet.match(run)
    return found.group() if found else ""


def _read_number(value: int, place: Place) -> None:
    """A very long number may be bytes, read as one."""
    data = value.to_bytes(-(-value.bit_length() // 8), "big")
    for order in (data, data[::-1]):
        if tells_itself(order):
            _hand_on(order, place)


def _hand_on(decoded: bytes, place: Place) -> None:
    place.effort.spend_member()
    place.effort.spend_bytes(len(decoded))
    place.add_kind("encoded")
    place.read(decoded, "decoded", guessed=True)


def tells_itself(decoded: bytes, *, whole: bool = True) -> bool:
    """Whether the bytes are a known format's or text, which other bytes are by chance once in a million."""
    if len(decoded) < _LEAST_TELLING:
        return False
    if has_signature(decoded) or has_signature(decoded[::-1]):
        return True
    cuts = (0,) if whole else (0, 1, 2, 3)  # a sample may end within a character
    texts = (text_of(decoded[: len(decoded) - cut], latin=False) for cut in cuts)
    return any(text is not None and _is_written(text) for text in texts)


def _is_written(text: str) -> bool:
    """Not the same few characters again and again, which is what padding decodes to."""
    plain = sum(character.isascii() or character.isalpha() for character in text)
    return len(set(text)) >= _LEAST_LETTERS and plain >= 0.9 * len(text)


def _is_mixed(run: str, least: int = 2) -> bool:
    """Not a long word, a path or a number; of pieces that were put together, no codes or dates either."""
    kinds = (str.isdigit, str.isupper, str.islower)
    return sum(any(kind(character) for character in run) for kind in kinds) >= least


def _columns(text: str) -> Iterable[list[str]]:
    """First, second, third… field of all lines, where the lines have equally many."""
    lines = [_SEPARATORS.split(line.strip()) for line in islice(text.splitlines(), _MAX_LINES)]
    fields = [line for line in lines if line != [""]]
    if len(fields) < _LEAST_PIECES:
        return []
    width = max(len(line) for line in fields[1:3])
    if width > _MAX_COLUMNS:
        return []
    body = [line for line in fields if len(line) == width]
    if len(body) < len(fields) // 2:
        return []
    return [column for at in range(width) if not _are_numbers(column := [line[at] for line in body])]


def _are_numbers(column: Sequence[str]) -> bool:
    """Fractions: whole numbers may be pieces of base 16."""
    return sum("." in cell for cell in column[:50]) > len(column[:50]) / 2
