"""Finds out about one output what the checks want to know.

1. Read what was written, as bytes.
2. Make the canonical copy: the only thing that may leave.
3. Read *the copy* (or what was written, where no copy can be made), decoding
   whatever is inside, and scan it for the datasets' rows.

What takes longer than its bounds, crashes or is not understood is noted as not
checked, never as clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

from insitu.domain.outputs import Finding, OutputContract, OutputType, ReleaseContract
from insitu.gate.canonical_skops import types_of
from insitu.gate.canonical_tables import rewrite_table
from insitu.gate.contents import Contents, FoundText
from insitu.gate.effort import Effort, OutOfEffortError
from insitu.gate.encoded_text import encoded_run
from insitu.gate.files import Written, read_written
from insitu.gate.judgement import Candidate
from insitu.gate.known_data import KnownData
from insitu.gate.models import MODEL_FILE, NotRebuiltError, rebuild_model
from insitu.gate.names import objection_to
from insitu.gate.policy_values import ModelRules
from insitu.gate.read_any import read_any
from insitu.gate.read_numpy import NotReadableError
from insitu.gate.rows import RowScan
from insitu.gate.subject import RowsSeen, Subject
from insitu.gate.text_evidence import LineScan, pieces

_OWN_NAMES = {"MLmodel", MODEL_FILE, "model.pkl", "conda.yaml", "python_env.yaml", "requirements.txt"}
_GENERATED = {"conda.yaml", "python_env.yaml", "requirements.txt"}  # written by us, from the signed lock
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
    return replace(subject, unread=(reason,), not_checked=("rows-in-model", "rows-in-text", "types", "pickles"))


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
    if subject.type is not OutputType.MLFLOW_MODEL:
        return _with_tables(subject, written.files)
    try:
        rebuilt = rebuild_model(
            written.files,
            columns=knowledge.columns,
            lock_packages=lock_packages,
            trusted_types=rules.trusted_types,
            effort=effort,
        )
    except NotRebuiltError as objection:
        return replace(subject, objections=(Finding(objection.rule, str(objection), "", objection.hint),))
    return replace(subject, canonical=rebuilt.files, format="skops", types=rebuilt.types, left_behind=rebuilt.dropped)


def _with_tables(subject: Subject, files: Mapping[str, bytes]) -> Subject:
    canonical: dict[str, bytes] = {}
    formats: set[str] = set()
    for path, data in files.items():
        try:
            format_, canonical[path] = rewrite_table(data)
        except NotReadableError as error:
            return replace(subject, objections=(Finding("kind", str(error), "", "write JSON or CSV"),))
        formats.add(format_)
    odd = sum(bool(objection_to(part)) for path in files for part in PurePosixPath(path).parts)
    return replace(subject, canonical=canonical, format=",".join(sorted(formats)), odd_names=odd)


# ── What is in it ───────────────────────────────────────────────────────────


def _with_contents(subject: Subject, written: Written, knowledge: Knowledge, effort: Effort) -> Subject:
    files = written.files if subject.canonical is None else subject.canonical
    contents = Contents(effort)
    types, loaders = subject.types, frozenset[str]()
    for number, (path, data) in enumerate(files.items(), start=1):
        if subject.is_model and path in (_NEVER_LEAVE if subject.canonical is None else _GENERATED):
            continue
        where = path if path in _OWN_NAMES else f"file {number}"
        read_any(data, where, contents)
        if subject.canonical is None and data[:2] == b"PK":
            types, loaders = _types(data, effort, types, loaders)
    rows, not_checked = _rows(contents, knowledge, effort)
    return replace(
        subject,
        kinds=contents.kinds,
        types=types,
        loaders=loaders,
        rows=rows,
        encoded=next((found.where for found in contents.texts if _is_encoded(found)), ""),
        unread=tuple(contents.unread),
        not_checked=not_checked,
    )


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
    return any(encoded_run(line, least=32) for line in found.text.splitlines())


def _rows(contents: Contents, knowledge: Knowledge, effort: Effort) -> tuple[tuple[RowsSeen, ...], tuple[str, ...]]:
    not_checked = ("rows-in-model", "rows-in-text") if knowledge.missing else ()
    seen: list[RowsSeen] = []
    for one, scan in zip(knowledge.known, knowledge.scans, strict=True):
        try:
            found = scan.find(contents.numbers, effort)
            seen.append(RowsSeen(found.count, one.rows, "; ".join(found.places[:2])))
            seen.append(_rows_in_texts(contents.texts, one, effort))
        except OutOfEffortError:
            not_checked = ("rows-in-model", "rows-in-text")
    return tuple(seen), not_checked


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
    return RowsSeen(min(count, known.rows), known.rows, where, in_text=True)
