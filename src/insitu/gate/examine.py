"""Finds out about one output what the checks want to know.

1. Read what was written, as bytes.
2. Make the canonical copy: the only thing that may leave, with what it could carry.
3. Read *the copy* (or what was written, where no copy can be made), decoding
   whatever is inside, and scan it for the datasets' rows. A model's arrays are
   scanned as they were written as well, before rounding blurred them.

What takes longer than its bounds, crashes or is not understood is noted as not
checked, never as clean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from insitu.domain.digests import digest_of
from insitu.domain.outputs import Finding, OutputContract, ReleaseContract
from insitu.gate.canonical.copies import make_copy
from insitu.gate.canonical.form import ObjectionError
from insitu.gate.canonical.skops import types_of
from insitu.gate.contents import Contents, FoundNumbers, FoundText
from insitu.gate.effort import Effort, OutOfEffortError
from insitu.gate.encoded_text import encoded_run
from insitu.gate.files import Written, read_written
from insitu.gate.judgement import Candidate
from insitu.gate.known.content import ContentFound, ContentScan
from insitu.gate.known.data import KnownData
from insitu.gate.models import MODEL_FILES
from insitu.gate.policy.values import ModelRules
from insitu.gate.readers.any import read_any
from insitu.gate.readers.numpy import NotReadableError
from insitu.gate.rows.in_text import MANY_NAMES, LineScan, pieces
from insitu.gate.rows.scan import RowScan
from insitu.gate.small_groups import small_groups
from insitu.gate.structures import hashed_in, structures_in
from insitu.gate.subject import RowsSeen, Subject
from insitu.gate.tree_shapes import leaf_tables

_OWN_NAMES = {"MLmodel", *MODEL_FILES, "model.pkl", "conda.yaml", "python_env.yaml", "requirements.txt"}
_GENERATED = {"conda.yaml", "python_env.yaml", "requirements.txt"}  # written by us, from the signed lock
_SAID_PLACES = 50
_NEVER_LEAVE = {"MLmodel", "input_example.json", "serving_input_example.json", *_GENERATED}  # not as they were written


@dataclass
class Knowledge:
    """The datasets that a job read. Prepared once for all of its outputs."""

    known: Sequence[KnownData]
    missing: int = 0  # indexes that could not be opened

    @cached_property
    def scans(self) -> list[RowScan]:
        return [RowScan(one.table, cells=one.cells) for one in self.known]

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(name for one in self.known for name in one.column_names)


def examine(
    candidate: Candidate,
    contract: ReleaseContract,
    rules: ModelRules,
    knowledge: Knowledge,
    lock_packages: Sequence[tuple[str, str]],
    effort: Effort,
) -> Subject:
    """All that is known of one output, whatever happens on the way."""
    subject = Subject(candidate.output, candidate.type, _declared(contract, candidate.output), 0)
    try:
        written = read_written(candidate.path, effort)
    except OutOfEffortError as reason:
        return _unknown(subject, str(reason))
    subject = replace(subject, written_bytes=sum(len(data) for data in written.files.values()))
    try:
        subject = _with_copy(subject, written, rules, knowledge, lock_packages, effort)
        return _with_contents(subject, written, knowledge, effort)
    except OutOfEffortError as reason:
        return _unknown(subject, str(reason))
    except (ArithmeticError, LookupError, MemoryError, OSError, RecursionError, TypeError, ValueError) as error:
        # A reader that fails on what a job wrote has found nothing out. Its message may hold data: only the type stays.
        return _unknown(subject, f"reading failed: {type(error).__name__}")


def _declared(contract: ReleaseContract, name: str) -> OutputContract | None:
    return next((output for output in contract.outputs if output.name == name), None)


def _unknown(subject: Subject, reason: str) -> Subject:
    return replace(
        subject, unread=(reason,), not_checked=("rows-in-model", "rows-in-text", "known-content", "types", "pickles")
    )


# ── The canonical copy ──────────────────────────────────────────────────────


def _with_copy(
    subject: Subject,
    written: Written,
    rules: ModelRules,
    knowledge: Knowledge,
    lock_packages: Sequence[tuple[str, str]],
    effort: Effort,
) -> Subject:
    if written.not_plain:
        what = Finding("kind", "entries that are not plain files", "", "write plain files, no links or pipes")
        return replace(subject, objections=(what,))
    if not written.files:
        return replace(subject, objections=(Finding("kind", "nothing was written", "", "write the output"),))
    try:
        copy = make_copy(subject.type, written.files, rules, knowledge.columns, lock_packages, effort)
    except ObjectionError as objection:
        return replace(subject, objections=(Finding(objection.rule, str(objection), "", objection.hint),))
    return replace(
        subject,
        canonical=copy.files,
        format=copy.format,
        sources=copy.sources,
        ceiling_bytes=copy.ceiling_bytes,
        types=copy.types,
        leaves=copy.leaves,
        left_behind=copy.dropped,
        odd_names=copy.odd_names,
    )


# ── What is in it ───────────────────────────────────────────────────────────


def _with_contents(subject: Subject, written: Written, knowledge: Knowledge, effort: Effort) -> Subject:
    files = written.files if subject.canonical is None else subject.canonical
    scans = [ContentScan(one, effort) for one in knowledge.known]
    contents = Contents(effort, watch=lambda where, data: [scan.look_at_bytes(where, data) for scan in scans])
    types, loaders = subject.types, frozenset[str]()
    for number, (path, data) in enumerate(files.items(), start=1):
        if subject.is_model and path in (_NEVER_LEAVE if subject.canonical is None else _GENERATED):
            continue
        where = path if path in _OWN_NAMES else f"file {number}"
        if data[:1] in (b"{", b"["):
            _add_leaves(where, data, contents)
        read_any(data, where, contents)
        if subject.canonical is None and data[:2] == b"PK":
            types, loaders = _types(data, effort, types, loaders)
    before = _before_rounding(subject, written, contents, effort)
    rows, not_checked = _rows(contents, before, knowledge, effort)
    content, content_not_checked = _content(contents, before, scans)
    return replace(
        subject,
        kinds=contents.kinds,
        types=types,
        loaders=loaders,
        rows=rows,
        content=content,
        structures=structures_in(
            [*contents.numbers, *before], contents.texts, knowledge.known, knowledge.columns, effort
        ),
        small_groups=_small_groups(subject, knowledge),
        encoded=next((found.where for found in contents.texts if _is_encoded(found)), ""),
        unread=tuple(contents.unread),
        not_checked=not_checked + content_not_checked,
        passed_over=_passed_over(contents),
    )


def _add_leaves(where: str, data: bytes, contents: Contents) -> None:
    """The rows that a tree's leaves may be, of all trees together."""
    try:
        tables = list(leaf_tables(json.loads(data)))
    except (ValueError, RecursionError):
        return  # no JSON, or too deep: the readers have said so
    for width in {len(table[0]) for table in tables}:
        rows = [row for table in tables for row in table if len(row) == width]
        contents.add_numbers(f"{where}: leaves", np.array(rows, dtype=np.float64))


def _passed_over(contents: Contents) -> tuple[str, ...]:
    """Each place once, and no more than a person would read."""
    places = tuple(dict.fromkeys(contents.passed_over))
    more = len(places) - _SAID_PLACES
    return places if more <= 0 else (*places[:_SAID_PLACES], f"and {more} places more")


def _before_rounding(subject: Subject, written: Written, copied: Contents, effort: Effort) -> list[FoundNumbers]:
    """A model's arrays as they were written, if rounding changed any: it blurs a row, and hides none from who reads it."""
    if not subject.is_model or subject.canonical is None:
        return []
    contents = Contents(effort)
    for number, path in enumerate(subject.sources, start=1):
        read_any(written.files[path], f"file {number} as written", contents)
    found = [one for one in contents.numbers if not one.raw]
    same = {_content_of(one) for one in copied.numbers}
    return found if any(_content_of(one) not in same for one in found) else []


def _content_of(found: FoundNumbers) -> tuple[str, tuple[int, ...], bytes]:
    return found.values.dtype.str, found.values.shape, digest_of(found.values.tobytes()).encode()


def _small_groups(subject: Subject, knowledge: Knowledge) -> int:
    """Counts of a few rows in the tables that would leave."""
    if subject.is_model or subject.canonical is None:
        return 0
    cells = [(one, one.words[0]) for one in knowledge.known]

    def is_cell(word: str) -> bool:
        return any(len(words) and hashed_in(words, one.hash_of(word)) for one, words in cells)

    return sum(small_groups(data, is_cell) for data in subject.canonical.values())


def _types(
    data: bytes, effort: Effort, types: frozenset[str], loaders: frozenset[str]
) -> tuple[frozenset[str], frozenset[str]]:
    try:
        found, by = types_of(data, effort)
    except NotReadableError:
        return types, loaders
    return types | found, loaders | by


def _is_encoded(found: FoundText) -> bool:
    # Schemas name their parts; what is long and mixed in them is a digest or worse.
    return not found.guessed and any(encoded_run(line, least=32) for line in found.text.splitlines())


def _rows(
    contents: Contents, before: Sequence[FoundNumbers], knowledge: Knowledge, effort: Effort
) -> tuple[tuple[RowsSeen, ...], tuple[str, ...]]:
    not_checked: tuple[str, ...] = ("rows-in-model", "rows-in-text", "known-content") if knowledge.missing else ()
    seen: list[RowsSeen] = []
    for one, scan in zip(knowledge.known, knowledge.scans, strict=True):
        try:
            for numbers in (contents.numbers, before):
                found = scan.find(list(numbers), effort)
                seen.append(RowsSeen(found.count, one.rows, "; ".join(found.places[:2])))
                if not found.complete and not found.count:
                    not_checked += ("rows-in-model: scaled copies",)
            seen.append(_rows_in_texts(contents.texts, one, effort))
        except OutOfEffortError:
            not_checked = ("rows-in-model", "rows-in-text")
    return tuple(seen), not_checked


def _content(
    contents: Contents, before: Sequence[FoundNumbers], scans: Sequence[ContentScan]
) -> tuple[tuple[ContentFound, ...], tuple[str, ...]]:
    try:
        for scan in scans:
            scan.look_at_texts(contents.texts)
            scan.look_at_numbers([*contents.numbers, *before])
    except OutOfEffortError:
        return tuple(scan.found for scan in scans), ("known-content",)
    return tuple(scan.found for scan in scans), ()


def _rows_in_texts(texts: Sequence[FoundText], known: KnownData, effort: Effort) -> RowsSeen:
    scan = LineScan([known])
    count, where = 0, ""
    for found in texts:
        for line in found.text.splitlines():
            effort.check_time()
            rows = sum(scan.rows_in(piece) for piece in pieces(line))
            if rows and not count:
                where = found.where
            count += rows
            if scan.names >= MANY_NAMES and scan.names > count:
                count, where = scan.names, where or found.where
    return RowsSeen(min(count, known.rows), known.rows, where, in_text=True)
