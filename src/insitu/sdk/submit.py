"""From a job file to a signed job: what runs, on what, with what, where.

The client resolves packages, because whoever resolves picks what runs; it pins
datasets and bases by the digests that sites offer now, and signs the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import InsituError, InvalidInputError, NotFoundError, UnavailableError
from insitu.images.registry import RegistrySettings
from insitu.sdk.environment_files import Locker
from insitu.sdk.images import TakenImage, take_image
from insitu.sdk.places import Place
from insitu.sdk.snapshot import snapshot
from insitu.wire.envelopes import Envelope
from insitu.wire.job_file import Environment, JobFile, Labels, load_job_file
from insitu.wire.jobs import NO_PACKAGES, DatasetPin, Target, sign_job
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
    files: Mapping[str, Path] = field(default_factory=dict[str, Path], repr=False)
    """Parts of an image, which are too large to be held: digest → where it lies."""
    sites: tuple[str, ...] = ()
    """Sites that could run it as things are."""
    left_out: Mapping[str, InsituError] = field(default_factory=dict[str, InsituError])
    """Sites that could, had its packages wheels for them; and what is lacking."""

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
    registry: RegistrySettings | None = None,
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
    pins = _pins(job, datasets)
    candidates = [site for site in sites if site.bases and _fits(job, site, pins, datasets)]
    bases = _bases(candidates or sites)
    folder = (path.parent / job.code).resolve()
    progress("reading the code folder")
    code = snapshot(folder, without=path)
    blobs: dict[str, bytes] = {digest_of(code): code}
    targets: list[Target] = []
    if job.environment.image is not None:
        images, failed = _images(job.environment.image, bases, cache, registry, progress)
        locks = dict.fromkeys(images, NO_PACKAGES)
        job = _without_path(job, images)
    else:
        images = {}
        locks, failed = _locks(job, folder, bases, Locker(cache, index_url, progress))
    for base, python, platform in sorted(bases):
        place = Place(python, platform)
        if place in locks:
            lock = digest_of(locks[place])
            blobs[lock] = locks[place]
            image = images[place].pin if images else None
            targets.append(Target(base=base, python=python, platform=platform, lock=lock, image=image))
    locked = {target.base for target in targets}
    return PreparedJob(
        job=job,
        code=digest_of(code),
        targets=tuple(targets),
        pins=pins,
        blobs=blobs,
        files={digest: path for image in images.values() for digest, path in image.files.items()},
        sites=tuple(site.name for site in candidates if any(base.digest in locked for base in site.bases)),
        left_out={
            site.name: failed[Place(site.bases[0].python, site.bases[0].platform)]
            for site in candidates
            if not any(base.digest in locked for base in site.bases)
        },
    )


def places_for(job: JobFile, sites: Sequence[SiteView], datasets: Sequence[DatasetView]) -> list[Place]:
    """The kinds of place that a job would be locked for.

    Raises:
        UnavailableError: no site has joined.
    """
    pins = _pins(job, datasets)
    candidates = [site for site in sites if site.bases and _fits(job, site, pins, datasets)]
    return sorted({Place(python, platform) for _, python, platform in _bases(candidates or sites)}, key=str)


def _bases(sites: Sequence[SiteView]) -> set[tuple[str, str, str]]:
    bases = {(base.digest, base.python, base.platform) for site in sites for base in site.bases}
    if not bases:
        raise UnavailableError(
            "no site has joined this hub, so there is nothing to lock the environment for",
            code="no-site",
            hint="a steward joins one with `insitu site create` and `insitu agent init`",
        )
    return bases


def _pins(job: JobFile, datasets: Sequence[DatasetView]) -> tuple[DatasetPin, ...]:
    return tuple(_pin(name, given.name, given.version, datasets) for name, given in job.datasets.items())


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


def _images(
    reference: str,
    bases: Iterable[tuple[str, str, str]],
    cache: Path,
    registry: RegistrySettings | None,
    progress: Progress,
) -> tuple[dict[Place, TakenImage], dict[Place, InsituError]]:
    """The image for each kind of place, and why there is none for the others.

    Raises:
        InsituError: there is none at all; the error is the first place's.
    """
    taken: dict[str, TakenImage] = {}
    wrong: dict[str, InsituError] = {}
    places = sorted({Place(python, platform) for _, python, platform in bases}, key=str)
    for platform in sorted({place.platform for place in places}):
        try:
            progress(f"reading the image for {platform}")
            taken[platform] = take_image(reference, cache / "images", platform, registry)
        except (InvalidInputError, NotFoundError) as error:
            wrong[platform] = error
    if not taken:
        raise next(iter(wrong.values()))
    found = {place: taken[place.platform] for place in places if place.platform in taken}
    return found, {place: wrong[place.platform] for place in places if place.platform in wrong}


def _without_path(job: JobFile, images: Mapping[Place, TakenImage]) -> JobFile:
    """The job as it is signed: where an image lay on this machine is nobody's business."""
    reference = job.environment.image or ""
    if not reference.startswith("oci:"):
        return job
    signed = Environment(image=next(iter(images.values())).pin.digest)
    return job.model_copy(update={"environment": signed})


def _locks(
    job: JobFile, folder: Path, bases: Iterable[tuple[str, str, str]], locker: Locker
) -> tuple[dict[Place, bytes], dict[Place, InsituError]]:
    """A lock for each kind of place, and why there is none for the others.

    Raises:
        InvalidInputError: there is none at all; the error is the first place's.
    """
    locks: dict[Place, bytes] = {}
    failed: dict[Place, InsituError] = {}
    for place in sorted({Place(python, platform) for _, python, platform in bases}, key=str):
        try:
            locks[place] = locker.lock(job.environment, folder, place)
        except InvalidInputError as error:
            failed[place] = error
    if not locks:
        raise next(iter(failed.values()))
    return locks, failed
