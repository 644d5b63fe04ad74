"""Canonical is what RFC 8785 says, whichever way it was found out."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from insitu.wire.canonical import read_canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", "\x7f", "\x00\x1f", '"\\/', "é", "\U0001f600", "ﬀ"]
)
NUMBERS = (
    st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 2**53 - 1, 2**53, 10**15, 10**16, 1.0, 1e21])
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def is_canonical(data: bytes) -> bool:
    """As RFC 8785's own writer says it."""
    try:
        return rfc8785.dumps(json.loads(data)) == data
    except ValueError:
        return False


def written(document: Any) -> list[bytes]:
    """A document in several ways, of which one is canonical, if any can be."""
    ways: list[dict[str, Any]] = [
        {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False},
        {"sort_keys": True, "separators": (",", ":")},
        {"separators": (",", ":"), "ensure_ascii": False},
        {"sort_keys": True},
    ]
    found = [json.dumps(document, **way).encode() for way in ways]
    try:
        return [*found, rfc8785.dumps(document)]
    except ValueError:
        return found


@given(DOCUMENTS)
@example({"ﬀ": 1, "\U0001f600": 2})
@example([1.0, 1e16, 0.5, 1e-7])
@example([math.nan])
@example([2**53])
@example({"a": "é\x7f"})
def test_a_document_is_taken_in_its_canonical_form_alone(document: Any):
    for data in written(document):
        if is_canonical(data):
            assert read_canonical(data) == json.loads(data)
        else:
            with pytest.raises(ValueError, match=r".*"):
                read_canonical(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b"-0",
        b"[1.0]",
        b"[NaN]",
        b"[Infinity]",
        b'"\\u00e9"',
        b'"\\/"',
        b"1 ",
        b"[9007199254740992]",
    ],
)
def test_other_forms_are_refused(data: bytes):
    with pytest.raises(ValueError, match=r".*"):
        read_canonical(data)


def test_a_float_that_is_written_alike_both_ways_is_read_as_it_is():
    assert read_canonical(b'{"a":0.5,"b":1e-7,"c":1e+21}') == {"a": 0.5, "b": 1e-7, "c": 1e21}
