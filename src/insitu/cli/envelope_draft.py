"""From a job and a few options to a run envelope that is ready to be signed.

It starts as what covers one job and nothing else; each option widens one thing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import parse_seconds
from insitu.wire.job_file import JobFile, load_job_file
from insitu.wire.names import did_you_mean, explain
from insitu.wire.run_envelopes import (
    DEFAULT_RUNS,
    DEFAULT_VALID_FOR,
    MAX_RUNS,
    Between,
    OneOf,
    RunEnvelopeDocument,
    allow_job,
)

_RANGE = re.compile(r"\s*(-?[0-9.eE+-]+?)\s*\.\.\s*(-?[0-9.eE+-]+)\s*")


@dataclass(frozen=True)
class Wider:
    """What the options say; what they leave out stays as the job has it."""

    params: Sequence[str] = ()  # NAME=VALUE, NAME=A,B or NAME=LOW..HIGH
    who: Sequence[str] = ()
    locks: Sequence[str] = ()  # digests, or "any"
    any_version: bool = False
    runs: int | None = None
    until: str = ""
    title: str = ""


def draft_from_file(path: Path, terms: Mapping[str, Any], wider: Wider) -> RunEnvelopeDocument:
    """What covers the job file at `path` as it is now.

    Raises:
        InvalidInputError: the file is not right, or it is not said whom it is for and on which packages.
    """
    from insitu.domain.digests import digest_of
    from insitu.sdk.snapshot import snapshot

    try:
        job = load_job_file(path.read_text())
    except OSError as exc:
        raise InvalidInputError(f"{path} can't be read", code="job-file", why=exc.strerror or "") from exc
    folder = (path.parent / job.code).resolve()
    now = datetime.fromisoformat(terms["now"])
    return allow_job(
        job,
        code=digest_of(snapshot(folder, without=path)),
        locks=_locks(wider.locks) or _pinned_lock(job, folder),
        versions={},
        site=terms["site"],
        site_key=terms["site_key"],
        who=_people(wider.who, terms["signers"]),
        runs=wider.runs or DEFAULT_RUNS,
        now=now,
        expires_at=now + DEFAULT_VALID_FOR,
    )


def _pinned_lock(job: JobFile, folder: Path) -> list[str]:
    from insitu.domain.digests import digest_of

    if job.environment.pylock is None:
        raise InvalidInputError(
            "a job file names requirements, and not the packages that they are locked to",
            code="no-lock",
            why="packages are part of what is approved",
            hint="--lock any, or --lock sha256:…; or name a job that ran, with --job JOB_ID",
        )
    return [digest_of((folder / job.environment.pylock).read_bytes())]


def widen(document: RunEnvelopeDocument, wider: Wider, terms: Mapping[str, Any]) -> RunEnvelopeDocument:
    """`document` with what the options say.

    Raises:
        InvalidInputError: an option is not right, or names what the job hasn't.
    """
    changes: dict[str, Any] = {}
    if wider.params:
        changes["params"] = {**document.params, **dict(_param(text, document) for text in wider.params)}
    if wider.who:
        changes["who"] = _people(wider.who, terms["signers"])
    if wider.locks:
        changes["locks"] = _locks(wider.locks)
    if wider.any_version:
        given = document.datasets.items()
        changes["datasets"] = {name: one.model_copy(update={"versions": "any"}) for name, one in given}
    if wider.runs is not None:
        changes["runs"] = _runs(wider.runs)
    if wider.until:
        changes["expires_at"] = _until(wider.until, datetime.fromisoformat(terms["now"]))
    if wider.title:
        changes["title"] = wider.title[:100]
    try:
        return RunEnvelopeDocument.model_validate({**document.model_dump(), **changes})
    except ValidationError as exc:
        raise explain(exc, RunEnvelopeDocument, what="run envelope", code="run-envelope-document") from exc


def _param(text: str, document: RunEnvelopeDocument) -> tuple[str, OneOf | Between]:
    name, mark, allowed = text.partition("=")
    if not mark:
        raise InvalidInputError(
            f"--param {text!r} is not name=values", code="envelope-param", hint="C=0.1..10, or kind=a,b"
        )
    if name not in document.params:
        raise InvalidInputError(
            f"the job has no parameter {name!r}",
            code="envelope-param",
            hint=did_you_mean(name, document.params) if document.params else "it has none",
        )
    found = _RANGE.fullmatch(allowed)
    if found is None:
        return name, OneOf(values=[_literal(part, name) for part in allowed.split(",")])
    try:
        low, high = float(found[1]), float(found[2])
        return name, Between(at_least=low, at_most=high)
    except ValueError as exc:
        raise InvalidInputError(
            f"--param {name}: {allowed!r} is not a range", code="envelope-param", hint="two numbers: C=0.1..10"
        ) from exc


def _literal(text: str, name: str) -> Any:
    """One value, read as a job file reads it: 1 is a number, "1" is text."""
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, str | bool | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidInputError(f"--param {name}: {text!r} is no value", code="envelope-param", hint="kind=a,b")
    return value


def _people(names: Sequence[str], signers: Mapping[str, str]) -> dict[str, str]:
    wanted = [word for text in names for word in text.split(",") if word]
    if not wanted:
        raise InvalidInputError(
            "it is not said whose jobs it is for", code="envelope-who", hint=f"--who {next(iter(signers), 'NAME')}"
        )
    strangers = [name for name in wanted if name not in signers]
    if strangers:
        raise InvalidInputError(
            f"the site's policy lists no signer {strangers[0]!r}",
            code="envelope-who",
            hint=did_you_mean(strangers[0], signers) if signers else "list people under `signers` in policy.yaml",
        )
    return {name: signers[name] for name in wanted}


def _locks(given: Sequence[str]) -> Any:
    return "any" if "any" in given else sorted(given)


def _runs(runs: int) -> int:
    if not 1 <= runs <= MAX_RUNS:
        raise InvalidInputError("a run envelope is for 1 to 100000 runs", code="envelope-runs", measure=str(runs))
    return runs


def _until(text: str, now: datetime) -> datetime:
    """The end of that day, UTC; or so long from now: 30d."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return datetime.combine(datetime.fromisoformat(text), time(23, 59, 59), UTC)
        return now + timedelta(seconds=parse_seconds(text))
    except ValueError as exc:
        raise InvalidInputError(
            f"--until {text!r} is no date", code="envelope-until", hint="2027-03-31, or 30d"
        ) from exc
