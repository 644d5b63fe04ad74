"""Reads a file by what its bytes are, never by its name, and what is in it, and in that.

    bytes ─► zip/skops/npz · tar · gzip/bzip2/xz/zstd/zlib · npy · safetensors · ONNX · parquet · PNG · pickle
          ─► text: JSON · YAML · CSV · lines ─► encoded runs, pieces joined, backwards
          ─► else: whatever begins inside, letters, raw numbers, backwards
               └──────────────── each part again, to a bounded depth ────────────────┘
    numbers ─► bit planes ─► what decodes, again

Nothing here executes what it reads, imports what a file names, or trusts a size
that a file states. What can't be read as what it claims to be is `unread`, and
is looked at as bytes of no known form all the same.
"""

from __future__ import annotations

import re

from insitu.gate.contents import Contents, Data, NotReadableError, Place
from insitu.gate.readers.characters import text_of
from insitu.gate.readers.compressed import is_compressed, may_be_compressed, read_compressed, read_weakly_marked
from insitu.gate.readers.embedded import read_embedded, read_strings
from insitu.gate.readers.numpy import MAGIC as NPY_MAGIC
from insitu.gate.readers.numpy import read_npy
from insitu.gate.readers.onnx import is_onnx, read_onnx
from insitu.gate.readers.planes import read_planes
from insitu.gate.readers.png import MAGIC as PNG_MAGIC
from insitu.gate.readers.png import read_png
from insitu.gate.readers.raw import read_bits, read_raw
from insitu.gate.readers.safetensors import is_safetensors, read_safetensors
from insitu.gate.readers.signatures import UNREAD, has_signature
from insitu.gate.readers.skops import is_skops, read_skops
from insitu.gate.readers.sparse import read_sparse
from insitu.gate.readers.tar import is_tar, read_tar
from insitu.gate.readers.text import read_text
from insitu.gate.readers.zip import read_beside_members, read_members, read_without_directory

_PICKLE_START = re.compile(rb"\x80[\x00-\x05]")
_OLD_PICKLE = re.compile(
    rb"[(\]}c]|\[(?![\"\[0-9 \r\n-])|\{(?![\" \r\n])"
)  # protocols 0 and 1 have no magic; JSON is none
_PARQUET = (b"PAR1", b"PARE")
_MAX_BACKWARDS = 64 << 20


def read_any(data: Data, where: str, contents: Contents, depth: int = 0) -> None:
    """Take everything that the readers know how to find in `data`.

    Raises:
        OutOfEffortError: a bound of the judgement was reached.
    """
    before = len(contents.numbers)
    place = Place(where, contents, depth, _read)
    _read(data, place)
    found = contents.numbers[before:]
    read_planes(found, place)
    read_bits(found, contents)


def _read(data: Data, place: Place) -> None:
    place.effort.check_depth(place.depth, place.guesses)
    place.effort.check_time()
    if not len(data):
        return
    place.contents.watch(place.where, data)
    try:
        _dispatch(data, place)
    except NotReadableError as error:
        place.add_unread(str(error))
        _read_unknown(data, place)


def _dispatch(data: Data, place: Place) -> None:
    head = bytes(data[:16])
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        _read_archive(bytes(data), place)
    elif head[:6] == NPY_MAGIC:
        read_npy(data, place)
    elif head[:8] == PNG_MAGIC:
        read_png(data, place)
    elif is_compressed(data):
        read_compressed(data, place)
    elif is_safetensors(data):
        read_safetensors(data, place)
    elif head[:4] in _PARQUET:
        from insitu.gate.readers.parquet import read_parquet  # noqa: PLC0415 - most judgements meet none of these two

        read_parquet(data, place)
    elif _PICKLE_START.match(head) or _OLD_PICKLE.match(head):
        from insitu.gate.readers.pickle import is_pickle, read_pickle  # noqa: PLC0415

        if is_pickle(data):
            read_pickle(data, place)
        else:
            _dispatch_unmarked(data, place)
    else:
        _dispatch_unmarked(data, place)


def _dispatch_unmarked(data: Data, place: Place) -> None:
    """Formats without a magic of their own at the beginning, text, and what is nothing known."""
    if is_tar(data):
        read_tar(data, place)
    elif may_be_compressed(data) and read_weakly_marked(data, place):
        return
    elif is_onnx(data):
        read_onnx(data, place)
    elif (text := text_of(data)) is not None:
        place.add_kind("text")
        read_text(text, place)
    else:
        place.add_kind("binary")
        _read_unknown(data, place)


def _read_archive(data: bytes, place: Place) -> None:
    try:
        members = read_members(data, place.effort)
    except NotReadableError:
        read_without_directory(data, place)
        raise
    if is_skops(members):
        place.add_kind("skops")
        read_skops(members, place)
    else:
        place.add_kind("zip")
    read_sparse(members, place)
    for number, member in enumerate(members, start=1):
        if not (member.name == "schema.json" and is_skops(members)):
            place.read(member.data, f"member {number}")
    read_beside_members(data, place)


def _read_unknown(data: Data, place: Place) -> None:
    """Bytes of no known form: what begins in them, letters, numbers, and what they are backwards."""
    for magic, what in UNREAD.items():
        if bytes(data[: len(magic)]) == magic:
            place.add_unread(f"{what}, which is not read here")
    if not read_embedded(data, place):
        read_strings(data, place)
    read_raw(data, place.where, place.contents, aligned=False)
    if len(data) <= _MAX_BACKWARDS and has_signature(bytes(data[: -65 if len(data) > 64 else None : -1])):
        place.read(bytes(data[::-1]), "backwards", guessed=True)
