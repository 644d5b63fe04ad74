"""From a job file to a signed job: what runs, on what, with what, where.

The client resolves packages, because whoever resolves picks what runs; it pins
datasets and bases by the digests that sites offer now, and signs the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import InvalidInputError, UnavailableError
from insitu.images.locks import IndexSettings, lock_requirements, parse_lock
from insitu.sdk.snapshot import snapshot
from insitu.wire.envelopes import Envelope
from insitu.wire.job_file import JobFile, Labels, load_job_file
from insitu.wire.jobs import DatasetPin, Target, sign_job
from insitu.wire.keys import SigningKey
from insitu.wire.people import DatasetView, SiteView

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PreparedJob:
    """A job that is ready to be signed, and the bytes that go with it."""

    job: JobFile
    code: Digest
    targets: tuple[Target, ...]
    pins: tuple[DatasetPin, ...]
    blobs: Mapping[str, bytes] = field(repr=False)
    sites: tuple[str, ...] = ()
    """Sites that could run it as things are."""

    def sign(self, *, submitter: str, key: SigningKey, now: datetime) -> Envelope:
        return sign_job(
            self.job,
            code=self.code,
            targets=self.targets,
            datasets=self.pins,
            submitter=submitter,
            key=key,
            now=now,
        )


def prepare_job(
    path: Path,
    *,
    changes: Mapping[str, str],
    sites: Sequence[SiteView],
    datasets: Sequence[DatasetView],
    cache: Path,
    index_url: str | None = None,
    progress: Progress = lambda _: None,
) -> PreparedJob:
    """Read a job file and put together everything that its signature covers.

    Raises:
        InvalidInputError: the file, the code folder or the requirements are not right.
        UnavailableError: no site has joined, so there is nothing to lock for.
    """
    try:
        text = path.read_text()
    except OSError as exc:
        raise InvalidInputError(f"{path} can't be read", code="job-file", why=exc.strerror or "") from exc
    job = load_job_file(text, changes=changes)
    pins = tuple(_pin(name, given.name, given.version, datasets) for name, given in job.datasets.items())
    candidates = [site for site in sites if site.bases and _fits(job, site, pins, datasets)]
    bases = {(base.digest, base.python, base.platform) for site in (candidates or sites) for base in site.bases}
    if not bases:
        raise UnavailableError(
            "no site has joined this hub, so there is nothing to lock the environment for",
            code="no-site",
            hint="a steward joins one with `insitu site create` and `insitu agent init`",
        )
    folder = (path.parent / job.code).resolve()
    progress("reading the code folder")
    code = snapshot(folder, without=path)
    blobs: dict[str, bytes] = {digest_of(code): code}
    targets: list[Target] = []
    for base, python, platform in sorted(bases):
        lock = _lock(job, folder, python, platform, cache, index_url, progress)
        blobs[digest_of(lock)] = lock
        targets.append(Target(base=base, python=python, platform=platform, lock=digest_of(lock)))
    return PreparedJob(
        job=job,
        code=digest_of(code),
        targets=tuple(targets),
        pins=pins,
        blobs=blobs,
        sites=tuple(site.name for site in candidates),
    )


def _pin(input_name: str, name: str, version: int | None, datasets: Sequence[DatasetView]) -> DatasetPin:
    known = [found for found in datasets if found.name == name and version in (None, found.version)]
    newest = max(known, key=lambda found: found.version, default=None)
    if newest is None:
        # Nobody offers it now. The job waits, and says so.
        return DatasetPin(input=input_name, name=name, version=version or 1, digest="")
    digests = {found.digest for found in known if found.version == newest.version}
    # Each site keys its digests, so one name at several sites has several: then the version alone is signed.
    return DatasetPin(
        input=input_name, name=name, version=newest.version, digest=digests.pop() if len(digests) == 1 else ""
    )


def _fits(job: JobFile, site: SiteView, pins: Sequence[DatasetPin], datasets: Sequence[DatasetView]) -> bool:
    if isinstance(job.compute, str) and job.compute != site.name:
        return False
    if isinstance(job.compute, Labels) and not job.compute.labels.items() <= site.labels.items():
        return False
    offered = {(found.name, found.version) for found in datasets if found.site == site.name}
    return all((pin.name, pin.version) in offered for pin in pins)


def _lock(
    job: JobFile, folder: Path, python: str, platform: str, cache: Path, index_url: str | None, progress: Progress
) -> bytes:
    path = folder / job.environment.path
    try:
        text = path.read_text()
    except OSError as exc:
        raise InvalidInputError(
            f"the environment file {path} can't be read", code="environment-file", why=exc.strerror or ""
        ) from exc
    if job.environment.pylock is not None:
        parse_lock(text.encode())
        return text.encode()
    key = hashlib.sha256("\n".join([text, python, platform, index_url or ""]).encode()).hexdigest()
    kept = cache / "locks" / f"{key}.toml"
    if kept.exists():
        return kept.read_bytes()
    progress(f"locking {job.environment.path} for Python {python} on {platform}")
    index = IndexSettings(index_url=index_url) if index_url else None
    lock = lock_requirements(text, python=python, platform=platform, folder=folder, index=index)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(lock)
    return lock
