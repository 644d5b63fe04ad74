"""Rows that were written in disguise: what the readers decode them to, the scan finds."""

import base64
import bz2
import gzip
import io
import json
import lzma
import pickle
import quopri
import re
import zlib

import numpy as np
import pytest
import yaml
from backports import zstd

from insitu.gate.readers.decode_text import DENSE, WIDE, unescaped
from tests.unit.gate.canaries import (
    HEADER,
    contents_of,
    index_people,
    people,
    people_csv,
    people_numbers,
    rows_in_numbers,
    rows_in_texts,
)
from tests.unit.gate.layers import array_file, picture, tarred, zipped

CSV = people_csv()


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return index_people(tmp_path_factory.mktemp("people"))


def in_pieces(encoded: bytes, size: int) -> list[str]:
    text = encoded.decode().replace("\n", "")
    return [text[at : at + size] for at in range(0, len(text), size)]


def z85(data: bytes) -> bytes:
    """Python has it from 3.13 on."""
    table = bytes.maketrans(
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~",
        b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#",
    )
    return base64.b85encode(data + b" " * (-len(data) % 4)).translate(table)


ENCODINGS = {
    "hex": base64.b16encode,
    "small hex": lambda data: data.hex().encode(),
    "base32": base64.b32encode,
    "small base32": lambda data: base64.b32encode(data).lower(),
    "base32hex": base64.b32hexencode,
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "base64 in lines": base64.encodebytes,
    "ascii85": base64.a85encode,
    "adobe's ascii85": lambda data: base64.a85encode(data, adobe=True, wrapcol=60),
    "base85": base64.b85encode,
    "z85": z85,
    "percent": lambda data: "".join(f"%{byte:02x}" for byte in data).encode(),
    "quoted-printable": lambda data: "".join(f"={byte:02X}" for byte in data).encode(),
    "quoted-printable in lines": lambda data: quopri.encodestring(data.replace(b"e", b"=")).replace(b"=3D", b"=65"),
    "backslashes": lambda data: "".join(f"\\u{byte:04x}" for byte in data).encode(),
    "character references": lambda data: "".join(f"&#{byte};" for byte in data).encode(),
    "UTF-16 with a mark": lambda data: data.decode().encode("utf-16"),
    "UTF-16 without": lambda data: data.decode().encode("utf-16-be"),
    "UTF-32 with a mark": lambda data: data.decode().encode("utf-32"),
    "UTF-32 without": lambda data: data.decode().encode("utf-32-be"),
    "backwards": lambda data: data[::-1],
    "UTF-16 backwards": lambda data: data.decode().encode("utf-16")[::-1],
    "base64 backwards": lambda data: base64.b64encode(data)[::-1],
    "packed, then backwards": lambda data: gzip.compress(data)[::-1],
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_rows_in_any_encoding_are_found(name, known):
    contents = contents_of(ENCODINGS[name](CSV))
    assert rows_in_texts(contents, known) >= 38


SPLIT = ["hex", "base32", "base32hex", "base64", "base64url", "ascii85", "base85", "z85"]


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("packed", [False, True])
def test_an_encoded_run_in_pieces_is_put_together(name, packed, known):
    encoded = ENCODINGS[name](gzip.compress(CSV) if packed else CSV)
    as_list = json.dumps({"notes": in_pieces(encoded, 9)}).encode()
    assert rows_in_texts(contents_of(as_list), known) >= 38
    as_lines = "\n".join(in_pieces(encoded, 11)).encode()
    assert rows_in_texts(contents_of(as_lines), known) >= 38


def test_pieces_in_names_and_in_a_column_of_lines_are_put_together(known):
    names = {f"m_{at}_" + base64.b32encode(CSV[at : at + 20]).decode().strip("="): 0.5 for at in range(0, 2000, 20)}
    assert rows_in_texts(contents_of(json.dumps(names).encode()), known) >= 20
    pieces = in_pieces(base64.b64encode(gzip.compress(CSV)), 10)
    log = "\n".join(f"step {number} loss 0.{number} id {piece}" for number, piece in enumerate(pieces))
    assert rows_in_texts(contents_of(log.encode()), known) >= 38


@pytest.mark.parametrize("name", ["percent", "quoted-printable", "character references"])
@pytest.mark.parametrize("packed", [False, True])
def test_escapes_that_were_cut_into_cells_are_put_together(name, packed, known):
    text = ENCODINGS[name](bz2.compress(CSV) if packed else CSV).decode()
    escapes = re.findall(r"&#[0-9]+;|[%=][0-9a-fA-F]{2}", text)
    pieces = ["".join(escapes[at : at + 12]) for at in range(0, len(escapes), 12)]
    table = "number,note\n" + "\n".join(f"{number},{piece}" for number, piece in enumerate(pieces))
    assert rows_in_texts(contents_of(table.encode()), known) >= 38
    assert rows_in_texts(contents_of(json.dumps(pieces).encode()), known) >= 38


def test_letters_with_gaps_between_them_are_put_together(known):
    cells = [" ".join(cell) for row in people()[:20] for cell in row]
    assert rows_in_texts(contents_of("\n".join(" | ".join(people()[at]) for at in range(3)).encode()), known) == 3
    lines = [",".join(cells[at : at + len(HEADER)]) for at in range(0, len(cells), len(HEADER))]
    assert rows_in_texts(contents_of("\n".join(lines).encode()), known) >= 18


def test_letters_of_a_strange_alphabet_are_read_as_the_bytes_that_they_may_be(known):
    strange = "".join(chr(0x100 + byte) for byte in CSV)
    assert rows_in_texts(contents_of(json.dumps({"note": strange}, ensure_ascii=False).encode()), known) >= 38


def test_keys_on_the_way_to_a_leaf_are_cells_of_one_row(known):
    for form in ("{cell}", "{name}_{cell}"):
        document: dict = {}
        for row in people()[:20]:
            place = document
            for name, cell in zip(HEADER[2:], row[2:], strict=False):
                place = place.setdefault(form.format(name=name, cell=cell), {})
            place["people"] = 12
        assert rows_in_texts(contents_of(json.dumps(document).encode()), known) >= 20
    lists = [[row[2], [row[3], [float(row[4]), [float(row[5]), [float(row[6]), 12]]]]] for row in people()[:20]]
    assert rows_in_texts(contents_of(json.dumps(lists).encode()), known) >= 18


def test_floats_behind_base64_are_found(known):
    data = base64.b64encode(people_numbers().tobytes())
    assert rows_in_numbers(contents_of(data), known) >= 38


CONTAINERS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zlib": zlib.compress,
    "zstd": zstd.compress,
    "zip": zipped,
    "tar": tarred,
    "behind another stream": lambda data: gzip.compress(b"nothing") + gzip.compress(data),
    "a zip behind a program": lambda data: b"\x7fELF" + bytes(range(256)) * 4 + zipped(data),
    "a zip without its directory": lambda data: zipped(data)[: zipped(data).index(b"PK\x01\x02")],
    "a member that the directory does not list": lambda data: zipped(b"x", before=zipped(data)[:-60]),
    "the comment of a zip": lambda data: zipped(b"x", comment=data),
    "between members": lambda data: zipped(b"x", before=data),
    "the name in a tar": lambda data: tarred(b"x", name=data.decode()),
    "the pax header of a tar": lambda data: tarred(b"x", pax={"comment": data.decode()}),
    "behind a tar": lambda data: tarred(b"x") + data,
    "the text of a picture": lambda data: picture(note=data.decode()),
    "the packed text of a picture": lambda data: picture(znote=data.decode()),
    "behind a picture": lambda data: picture() + gzip.compress(data),
    "an unknown chunk of a picture": lambda data: picture(chunk=data),
    "behind an array": lambda data: array_file(np.zeros(3)) + data,
    "a gzip's fields": lambda data: (
        b"\x1f\x8b\x08\x1c\0\0\0\0\0\xff" + len(data).to_bytes(2, "little") + data + b"n\0" + b"c\0" + EMPTY
    ),
    "a zstd's skippable frame": lambda data: b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data,
    "the strings of a pickle": lambda data: pickle.dumps({"model": [1.0, {"note": data.decode()}]}),
    "bytes in a pickle": lambda data: pickle.dumps({"model": {"state": gzip.compress(data)}}),
    "YAML's binary": lambda data: yaml.safe_dump({"blob": gzip.compress(data)}).encode(),
    "numbers as bytes": lambda data: json.dumps(list(data)).encode(),
    "a very long number": lambda data: str(int.from_bytes(data[:1500], "big")).encode(),
}
EMPTY = zlib.compressobj(wbits=-15).flush() + b"\0" * 8


@pytest.mark.parametrize("name", CONTAINERS)
def test_rows_in_any_container_are_found(name, known):
    assert rows_in_texts(contents_of(CONTAINERS[name](CSV)), known) >= 18


def test_three_layers_deep_rows_are_found(known):
    zip_in_gzip = base64.b64encode(gzip.compress(zipped(CSV))).decode()
    assert rows_in_texts(contents_of(picture(note=zip_in_gzip)), known) >= 38
    base32_in_json = json.dumps({"notes": [base64.b32encode(CSV).decode()]}).encode()
    assert rows_in_texts(contents_of(tarred(base32_in_json)), known) >= 38
    out = io.BytesIO()
    np.savez(out, weights=np.frombuffer(CSV.decode().encode("utf-16")[::-1], dtype=np.uint8))
    assert rows_in_texts(contents_of(out.getvalue()), known) >= 38


TABLES = {
    "CSV": lambda rows: "\n".join(";".join(row) for row in rows).encode(),
    "JSON rows": lambda rows: json.dumps(rows, indent=1).encode(),
    "JSON objects": lambda rows: json.dumps([dict(zip(HEADER, row, strict=True)) for row in rows]).encode(),
    "JSON columns": lambda rows: json.dumps(dict(zip(HEADER, zip(*rows, strict=True), strict=True))).encode(),
    "JSON lines": lambda rows: "\n".join(json.dumps(row) for row in rows).encode(),
    "YAML objects": lambda rows: yaml.safe_dump([dict(zip(HEADER, row, strict=True)) for row in rows]).encode(),
    "YAML columns": lambda rows: yaml.safe_dump(
        {name: list(column) for name, column in zip(HEADER, zip(*rows, strict=True), strict=True)}
    ).encode(),
    "pickled rows": pickle.dumps,
    "pickled columns": lambda rows: pickle.dumps(
        {name: list(column) for name, column in zip(HEADER, zip(*rows, strict=True), strict=True)}
    ),
    "an array of objects": lambda rows: pickle.dumps(np.array(rows, dtype=object).T.copy()),
    "an array of text": lambda rows: array_file(np.array(rows)),
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_text_in_any_table_are_found(name, known):
    assert rows_in_texts(contents_of(TABLES[name](people()[:40])), known) >= 38


def test_numbers_spelled_as_hexadecimal_floats_or_backwards_are_found(known):
    values = people_numbers()
    spelled = json.dumps([value.hex() for value in values.reshape(-1).tolist()]).encode()
    assert rows_in_numbers(contents_of(spelled), known) >= 38
    assert rows_in_numbers(contents_of(json.dumps(values.tolist()).encode()[::-1]), known) >= 38


def test_a_repeated_key_hides_nothing():
    contents = contents_of(b'{"a": [1.5, 2.5, 3.5], "a": [4.5, 5.5, 6.5]}')
    assert {tuple(found.values.reshape(-1).tolist()) for found in contents.numbers} >= {
        (1.5, 2.5, 3.5),
        (4.5, 5.5, 6.5),
    }


@pytest.mark.parametrize("encoding", [*DENSE, *WIDE], ids=lambda encoding: encoding.name)
def test_text_that_is_no_encoding_decodes_to_nothing(encoding):
    for text in ("", "\u00e9", "~~~~~~", "A"):
        if encoding.alphabet.fullmatch(text):
            assert isinstance(encoding.decode(text), bytes)


def test_escapes_are_undone_where_there_are_many():
    assert unescaped("100% of 5% is 5") == []
    assert unescaped(r"\x41\x42\x43\104") == [b"ABCD"]
    assert unescaped("&#65;&#x42;&#67;&#68;") == [b"ABCD"]
    assert unescaped("&#65;&#x42;&#67;&#9999999;") == ["ABC\ufffd".encode()]


HONEST = {
    "metrics": json.dumps(
        {
            "loss": [round(1 / (at + 1), 6) for at in range(200)],
            "accuracy": [round(1 - 1 / (at + 2), 6) for at in range(200)],
        }
    ).encode(),
    "a table": b"epoch,loss,accuracy\n"
    + b"".join(b"%d,0.%06d,0.%06d\n" % (at, 9**at % 999983, 7**at % 999979) for at in range(200)),
    "log lines": b"".join(
        b"epoch %d/200: loss=0.%04d lr=1e-3 time=12s path /job/out/model-%d.bin\n" % (at, at, at) for at in range(200)
    ),
    "configuration": b"model:\n  layers: [64, 32, 1]\n  activation: relu\n  learning_rate: 0.001\n  name: baseline_classifier_v2\n",
    "prose": b"The model was trained on the site's data. It converged after 40 epochs, and was not tuned (see the notes).",
}


@pytest.mark.parametrize("name", HONEST)
def test_what_honest_jobs_write_is_not_taken_for_encoded(name):
    contents = contents_of(HONEST[name])
    assert not {"encoded", "hidden stream", "pickle"} & set(contents.kinds)
    assert not contents.unread
