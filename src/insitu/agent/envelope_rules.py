"""Does a run envelope cover this job? Rules only: no file, no clock, no network.

Every rule is asked, and each that says no names itself, what it saw and what would
be allowed, so that a data scientist reads "C = 30, allowed 0.1 to 10". Equal or
narrower is inside; whatever can't be shown to be narrower is outside.

What may differ freely: names, descriptions and tags, and the resources and limits
that a job asks for, which the site's policy bounds for every job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from insitu.agent.review import same_person
from insitu.domain.digests import Digest
from insitu.domain.quantities import format_bytes
from insitu.gate.policy.loading import Policy
from insitu.wire.job_file import DatasetInput, JobFile, Literals, Output
from insitu.wire.jobs import DatasetPin, VerifiedJob
from insitu.wire.run_envelopes import AllowedDataset, AllowedOutput, Between, OneOf, RunEnvelopeDocument

_WILD = frozenset("*?[")
_LONGEST = 60  # characters of a value that are worth showing


@dataclass(frozen=True)
class Approval:
    """A run envelope as it stands at this site now."""

    digest: Digest
    document: RunEnvelopeDocument
    signed_by: Mapping[str, str]
    """Name → key of those who signed it and whom the policy lists as reviewers now."""
    runs: int
    """Jobs that it has covered."""
    revoked: bool


@dataclass(frozen=True)
class Mismatch:
    """One rule by which a job is outside."""

    rule: str
    measure: str
    limit: str

    def __str__(self) -> str:
        return f"{self.measure}, allowed {self.limit}"


@dataclass(frozen=True)
class Place:
    """What is fixed where the job would run: the site's key, its policy, and the lock or image signed for its base."""

    site_key: str
    policy: Policy
    lock: str
    image: str = ""


def why_not(approval: Approval, job: VerifiedJob, place: Place, *, now: datetime) -> tuple[Mismatch, ...]:
    """Why `approval` does not cover `job`, if it were accepted now; empty when it does."""
    first_acceptance = _while_it_lasts(approval, now)
    return (*first_acceptance, *why_not_any_more(approval, job, place))


def why_not_any_more(approval: Approval, job: VerifiedJob, place: Place) -> tuple[Mismatch, ...]:
    """As `why_not`, for a job that it covered when it was accepted: time and number of runs are settled then."""
    document = approval.document
    return (
        *_standing(approval, job, place),
        *_what_runs(document, job, place),
        *_params(document, job.job),
        *_datasets(document, job),
        *_outputs(document, job.job),
        *_metrics(document, job.job),
    )


# -- the approval itself -----------------------------------------------------------------------------------------------


def _while_it_lasts(approval: Approval, now: datetime) -> Iterator[Mismatch]:
    document = approval.document
    if now >= document.expires_at:
        yield Mismatch("expiry", f"it is {now:%Y-%m-%d}", f"until {document.expires_at:%Y-%m-%d %H:%M} UTC")
    if approval.runs >= document.runs:
        yield Mismatch("runs", f"{approval.runs} runs so far", f"{document.runs} runs")


def _standing(approval: Approval, job: VerifiedJob, place: Place) -> Iterator[Mismatch]:
    document, policy = approval.document, place.policy
    if approval.revoked:
        yield Mismatch("revoked", "it was revoked", "only what stands")
    if document.site_key != place.site_key:
        yield Mismatch("site", f"made for site {document.site}", "this site alone")
    if job.signer not in document.who.values():
        yield Mismatch("who", job.signer_name, ", ".join(document.who))
    others = [
        name
        for name, key in approval.signed_by.items()
        if not same_person(job.signer, job.signer_name, key, name, policy)
    ]
    if len(others) < policy.review.needed:
        what = f"approved by {', '.join(others) or 'nobody else whom the policy names'}"
        yield Mismatch("review", what, f"{policy.review.needed} reviewers, none of them the job's signer")


# -- what runs ---------------------------------------------------------------------------------------------------------


def _what_runs(document: RunEnvelopeDocument, job: VerifiedJob, place: Place) -> Iterator[Mismatch]:
    if job.document.code != document.code:
        yield Mismatch("code", f"code {_short(job.document.code)}", _short(document.code))
    if job.job.command != document.command:
        yield Mismatch("command", f"command {_brief(job.job.command)}", _brief(document.command))
    if place.image:  # what runs is whatever stands in it, which nobody who approves code has read
        yield Mismatch("image", f"image {_short(place.image)}", "packages of a lock")
    if document.locks != "any" and place.lock not in document.locks:
        yield Mismatch("locks", f"packages {_short(place.lock)}", ", ".join(_short(known) for known in document.locks))


def _params(document: RunEnvelopeDocument, job: JobFile) -> Iterator[Mismatch]:
    given = {name: value for name, value in job.inputs.items() if not isinstance(value, DatasetInput)}
    for name in sorted(document.params.keys() - given.keys()):
        yield Mismatch(f"params.{name}", f"no {name}", allowed_text(document.params[name]))
    for name, value in given.items():
        allowed = document.params.get(name)
        if allowed is None:
            yield Mismatch(f"params.{name}", f"{name} = {_shown(value)}", "no such parameter")
        elif not _lies_in(value, allowed):
            yield Mismatch(f"params.{name}", f"{name} = {_shown(value)}", allowed_text(allowed))


def _lies_in(value: Literals, allowed: OneOf | Between) -> bool:
    if isinstance(allowed, OneOf):
        return any(_same(value, one) for one in allowed.values)
    if isinstance(value, bool | str):  # text that looks like a number is text to the command
        return False
    return allowed.at_least <= value <= allowed.at_most


def _same(value: Literals, other: Literals) -> bool:
    """Equal, and of one kind: true is not 1, and "1" is neither. 1 and 1.0 are one number in a signed job (RFC 8785)."""
    kinds = {bool: "truth", str: "text"}
    return kinds.get(type(value), "number") == kinds.get(type(other), "number") and value == other


def _datasets(document: RunEnvelopeDocument, job: VerifiedJob) -> Iterator[Mismatch]:
    """Of the pins, since they are what is shown to the job; and of the file, which must name the same inputs."""
    pins = {pin.input: pin for pin in job.document.datasets}
    for name in sorted(document.datasets.keys() | pins.keys() | job.job.datasets.keys()):
        allowed, pin, declared = document.datasets.get(name), pins.get(name), job.job.datasets.get(name)
        measure = f"{name}: {_label(pin)}" if pin else f"{name}: none"
        if allowed is None or pin is None or declared is None or len(pins) != len(job.document.datasets):
            yield Mismatch(f"datasets.{name}", measure, dataset_text(allowed) if allowed else "no such input")
        elif pin.name != allowed.name or declared.name != allowed.name or not _allows_version(allowed, pin.version):
            yield Mismatch(f"datasets.{name}", measure, dataset_text(allowed))


def _allows_version(allowed: AllowedDataset, version: int) -> bool:
    return allowed.versions == "any" or version in allowed.versions


def _label(pin: DatasetPin) -> str:
    return f"{pin.name}@{pin.version}"


# -- what may leave ----------------------------------------------------------------------------------------------------


def _outputs(document: RunEnvelopeDocument, job: JobFile) -> Iterator[Mismatch]:
    for name, output in job.outputs.items():
        allowed = document.outputs.get(name)
        if allowed is None or not _is_narrower(output, allowed):
            shown = output_text(
                AllowedOutput(type=output.type, register_as=output.register_as, max_bytes=output.max_bytes)
            )
            yield Mismatch(f"outputs.{name}", f"{name}: {shown}", output_text(allowed) if allowed else "no such output")


def _is_narrower(output: Output, allowed: AllowedOutput) -> bool:
    same_name = output.register_as in (None, allowed.register_as)
    within = allowed.max_bytes is None or (output.max_bytes is not None and output.max_bytes <= allowed.max_bytes)
    return output.type is allowed.type and same_name and within


def _metrics(document: RunEnvelopeDocument, job: JobFile) -> Iterator[Mismatch]:
    outside = [name for name in job.metrics if not any(_is_within(name, allowed) for allowed in document.metrics)]
    if outside:
        yield Mismatch("metrics", f"metrics {_brief(', '.join(outside))}", ", ".join(document.metrics) or "none")


def _is_within(pattern: str, allowed: str) -> bool:
    """Whether every name that `pattern` matches is matched by `allowed`. False where that is not plain to see."""
    if pattern == allowed:
        return True
    if not _WILD & set(pattern):
        return fnmatchcase(pattern, allowed)
    prefix = allowed.removesuffix("*")
    return allowed.endswith("*") and not _WILD & set(prefix) and pattern.startswith(prefix)


# -- as text -----------------------------------------------------------------------------------------------------------


def allowed_text(allowed: OneOf | Between) -> str:
    """What a parameter may be, for people."""
    if isinstance(allowed, OneOf):
        return " or ".join(_shown(value) for value in allowed.values)
    return f"{allowed.at_least:g} to {allowed.at_most:g}"


def dataset_text(allowed: AllowedDataset) -> str:
    if allowed.versions == "any":
        return f"{allowed.name}, any version"
    return " or ".join(f"{allowed.name}@{version}" for version in allowed.versions)


def output_text(allowed: AllowedOutput) -> str:
    size = f", at most {format_bytes(allowed.max_bytes)}" if allowed.max_bytes else ""
    return f"{allowed.type.value}{f', registered as {allowed.register_as}' if allowed.register_as else ''}{size}"


def _shown(value: Literals) -> str:
    return _brief(str(value).lower() if isinstance(value, bool) else str(value))


def _brief(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _short(digest: str) -> str:
    return digest[:19]


def nearest(found: Sequence[tuple[Approval, tuple[Mismatch, ...]]]) -> tuple[Approval, tuple[Mismatch, ...]] | None:
    """Of approvals that don't cover a job, the one that objects to least; of equals the newest."""
    return min(found, key=lambda one: (len(one[1]), -one[0].document.signed_at.timestamp()), default=None)
