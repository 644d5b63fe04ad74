"""Outputs made to exhaust whoever reads them. Each is held, in bounded time, and none ends the judge."""

import gzip
import io
import json
import pickle
import zipfile

import pytest

from insitu.domain.outputs import OutputType, Verdict
from insitu.gate.judgement import JudgeLimits
from tests.unit.gate.gate_world import judge_one, model_folder

LIMITS = JudgeLimits(time_s=20, expansion_bytes=20_000_000, members=500)


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def nested(depth: int) -> bytes:
    data = b"\x00" * 1_000_000
    for _ in range(depth):
        data = zipped(**{f"m{number}": data for number in range(4)})
    return data


def deep_schema() -> bytes:
    return zipped(**{"schema.json": b'{"__loader__": "ListNode", "content": [' * 50_000})


def wide_schema() -> bytes:
    node = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "1"}
    content = [node] * 600_000
    schema = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": content}
    return zipped(**{"schema.json": json.dumps({**schema, "protocol": 2, "_skops_version": "0.1"}).encode()})


BOMBS = {
    "gzip": lambda: gzip.compress(b"\x00" * 200_000_000),
    "gzip of gzip": lambda: gzip.compress(gzip.compress(b"\x00" * 500_000_000)),
    "zip of zips": lambda: nested(6),
    "many members": lambda: zipped(**{f"m{number}": b"" for number in range(2000)}),
    "deep JSON": lambda: b"[" * 2_000_000,
    "deep schema": deep_schema,
    "wide schema": wide_schema,
    "pickle with a huge array that is not there": lambda: (
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8e\xff\xff\xff\xff\xff\xff\x00\x00"
    ),
    "pickle of nested tuples": lambda: b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "pickle that doubles": lambda: b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 100_000 + b".",
    "npy with a huge shape": lambda: (
        b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (281474976710655, 281474976710655)}".ljust(118)
    ),
    "long digits": lambda: b"[" + b"9" * 3_000_000 + b"]",
    "pickled long": lambda: pickle.dumps(7**500_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_held(tmp_path, bomb):
    data = BOMBS[bomb]()
    (tmp_path / "file.json").write_bytes(data)
    as_file = judge_one(tmp_path / "file.json", None, tmp_path / "out", type=OutputType.URI_FILE, limits=LIMITS)
    as_model = judge_one(model_folder(tmp_path / "m", data), None, tmp_path / "out", limits=LIMITS)
    assert as_file.verdict in (Verdict.HELD, Verdict.REFUSED)
    assert as_model.verdict in (Verdict.HELD, Verdict.REFUSED)
    assert not (tmp_path / "out" / "model").exists()


def test_a_large_file_is_refused_for_its_size(tmp_path):
    (tmp_path / "file.json").write_text(json.dumps(list(range(200_000))))
    decision = judge_one(tmp_path / "file.json", None, tmp_path / "out", type=OutputType.URI_FILE, limits=LIMITS)
    assert (decision.verdict, decision.rule) == (Verdict.REFUSED, "size")
