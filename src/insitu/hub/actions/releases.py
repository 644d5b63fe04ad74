"""Admits what a site released: verified first, kept once, then a model version."""

from __future__ import annotations

from insitu.domain.digests import Digest
from insitu.domain.errors import ConflictError, DeniedError, InsituError, InvalidInputError, NotFoundError
from insitu.domain.outputs import OutputType, Verdict
from insitu.hub.access import Actor, JoinedSite, Permission, check_can
from insitu.hub.actions import jobs as job_actions
from insitu.hub.actions import residency
from insitu.hub.actions.recording import ensure_run, one_at_a_time
from insitu.hub.parts import Parts
from insitu.hub.store import blobs, jobs, outputs
from insitu.hub.store.session import ReadSession
from insitu.hub.tracking import RegisteredRelease, ResidentModel
from insitu.wire.cards import CardDocument
from insitu.wire.envelopes import Envelope
from insitu.wire.people import ReleaseView
from insitu.wire.releases import ReleasedFile, ReleaseDocument, open_release
from insitu.wire.sync import ReleaseReply

_MODELS = frozenset({OutputType.MLFLOW_MODEL.value, OutputType.CUSTOM_MODEL.value})


def admit_release(parts: Parts, site: JoinedSite, envelope: Envelope) -> ReleaseReply:
    """Take in a released output. The same release again gets the same answer.

    Raises:
        SignatureError: it is not what the site's key signed.
        DeniedError: it is not what the signed job says may leave, or of another site's job.
        ConflictError: another attempt is current, or the files are not all here.
        UnavailableError: MLflow is not up: it is kept, and registered when it is sent again or by a loop.
    """
    # 1. The site's signature, before anything of it is believed.
    release = open_release(envelope, site_key=site.fingerprint)
    document = release.document
    with parts.store.write() as session:
        # 2. Of a job of this site, and of its current attempt.
        job = jobs.facts(session, document.job_id)
        if job is None:
            raise NotFoundError(f"there is no job {document.job_id[:40]!r}", code="no-such-job")
        check_current(site, job, document)
        # 3. What the signed job says may leave, made of what was signed.
        check_contract(job, document)
        # 4. Every file is here, shown by this site, with its size.
        _check_files(session, site, document)
        # 5. Kept: from here on it is the hub's.
        admitted = outputs.admit(session, release, site.name, now=parts.clock())
    # 6. Recorded, outside of the transaction.
    version = register(parts, admitted)
    return ReleaseReply(
        output=admitted.output, digest=admitted.digest, model=admitted.register_as or "", version=version
    )


def check_current(site: JoinedSite, job: jobs.JobFacts, document: ReleaseDocument | CardDocument) -> None:
    """Raise unless the document is of the current attempt of a job that this site has.

    Raises:
        ConflictError: another attempt is current.
        DeniedError: it is another site's job.
    """
    if job.fence > document.fence or job.attempt > document.attempt:
        raise ConflictError(
            f"attempt {document.attempt} of {job.id} is over",
            code="fenced",
            why="another attempt was given out since",
            hint="drop this release; nothing is to be done",
            rule="fence",
            measure=str(document.fence),
            limit=str(job.fence),
        )
    if job.site != site.name or (job.attempt, job.fence) != (document.attempt, document.fence):
        raise DeniedError(f"{job.id} is not this site's", code="not-your-job", rule="site")


def check_contract(job: jobs.JobFacts, document: ReleaseDocument | CardDocument) -> None:
    """Raise unless the document is of an output that the signed job declared, made of what it was signed for.

    Raises:
        DeniedError: it isn't.
    """
    declared = job.outputs.get(document.output)
    if declared is None:
        raise _not_declared(job, document, "output", document.output, ", ".join(sorted(job.outputs)) or "none")
    if (declared["type"], declared["register"]) != (document.type.value, document.register_as):
        found = f"{document.type.value}, registered as {document.register_as}"
        raise _not_declared(job, document, "type", found, f"{declared['type']}, registered as {declared['register']}")
    pins = {f"{pin['name']}@{pin['version']}": pin["digest"] for pin in job.datasets}
    made_of = {"code": job.code, "lock": job.lock, "base": job.base, "datasets": pins}
    for what, signed in made_of.items():
        if getattr(document, what) != signed:
            raise _not_declared(job, document, what, str(getattr(document, what))[:100], str(signed)[:100])


def _not_declared(
    job: jobs.JobFacts, document: ReleaseDocument | CardDocument, what: str, measure: str, limit: str
) -> DeniedError:
    return DeniedError(
        f"the release of {document.output!r} is not what {job.id} was signed for",
        code="not-in-contract",
        why=f"its {what} is another",
        rule="contract",
        measure=measure,
        limit=limit,
    )


def _check_files(session: ReadSession, site: JoinedSite, document: ReleaseDocument) -> None:
    wanted = {file.digest: file.size_bytes for file in document.files}
    held = blobs.held_by(session, blobs.site(site.name), wanted)
    missing = sorted(wanted.keys() - held.keys())
    if missing:
        raise job_actions.MissingBlobsError(missing)
    wrong = [digest for digest, size in wanted.items() if held[digest] != size]
    if wrong:
        raise InvalidInputError("a released file has another size than its document says", code="release-size")


def register(parts: Parts, release: outputs.AdmittedRelease) -> int | None:
    """Make an admitted release a model version, or an artifact of its run. Repeating it changes nothing.

    Raises:
        UnavailableError: MLflow is not up.
    """
    if release.model_version is not None:
        return release.model_version
    run_id = ensure_run(parts, release.job_id)
    if release.is_resident:
        return _register_resident(parts, release, run_id)
    with parts.blobs.folder_of(release.files) as folder:
        if release.register_as is None or release.type not in _MODELS:
            parts.tracking.store_output(run_id, release.output, folder)
            return None
        with parts.store.read() as session:
            submitter = job_actions.existing_facts(session, release.job_id).submitter
            image = jobs.image_of(session, release.job_id)
        with one_at_a_time(parts, f"model:{release.register_as}"):
            version = parts.tracking.register_model(
                RegisteredRelease(
                    name=release.register_as,
                    job_id=release.job_id,
                    run_id=run_id,
                    output=release.output,
                    folder=folder,
                    digest=release.digest,
                    tags=_lineage(release, submitter, image),
                    is_mlflow=release.type == OutputType.MLFLOW_MODEL.value,
                )
            )
    with parts.store.write() as session:
        outputs.set_model_version(session, release.id, version)
    return version


def _register_resident(parts: Parts, release: outputs.AdmittedRelease, run_id: str) -> int | None:
    """A version that says what the model is and where it may be used, and has no files."""
    if release.register_as is None:
        return None
    with parts.store.read() as session:
        submitter = job_actions.existing_facts(session, release.job_id).submitter
        image = jobs.image_of(session, release.job_id)
    with one_at_a_time(parts, f"model:{release.register_as}"):
        version = parts.tracking.register_resident(
            ResidentModel(
                name=release.register_as,
                job_id=release.job_id,
                run_id=run_id,
                output=release.output,
                site=release.site,
                digest=release.digest,
                size_bytes=release.size_bytes,
                tags=_lineage(release, submitter, image),
            )
        )
    with parts.store.write() as session:
        outputs.set_model_version(session, release.id, version)
    return version


def _lineage(release: outputs.AdmittedRelease, submitter: str, image: str) -> dict[str, str]:
    """Where a model came from, as tags that nobody may change."""
    tags = {
        "insitu.type": release.type,
        "insitu.site": release.site,
        "insitu.submitter": submitter,
        "insitu.code": release.code,
        "insitu.image": image,  # the job's environment is an image, or the packages of a lock
        "insitu.lock": release.lock,
        "insitu.base": release.base,
        "insitu.policy_version": str(release.policy_version),
        "insitu.rule": release.rule,
        "insitu.reviewer": release.reviewer,
        "insitu.ledger_entry": str(release.entry),
        "insitu.datasets": "; ".join(f"{name} {digest}" for name, digest in sorted(release.datasets.items())),
    }
    return {key: value for key, value in tags.items() if value}


def list_releases(
    actor: Actor, session: ReadSession, *, verdicts: tuple[Verdict, ...], limit: int
) -> list[ReleaseView]:
    """What is held at sites, and what they let out or refused."""
    check_can(actor, Permission.LOOK)
    return outputs.held_and_released(session, verdicts=verdicts, limit=limit)


def released_files(actor: Actor, session: ReadSession, job_id: str, output: str) -> tuple[ReleasedFile, ...]:
    """The files of a job's output, as far as it was released."""
    check_can(actor, Permission.LOOK)
    job_actions.existing_facts(session, job_id)
    found = outputs.of_job(session, job_id, output)
    if not found:
        raise NotFoundError(
            f"{job_id} has no released output {output[:60]!r}",
            code="not-released",
            hint=f"see `insitu job show {job_id}` for what became of its outputs",
        )
    residency.check_left(found[0])
    return found[0].files


def file_among(files: tuple[ReleasedFile, ...], path: str) -> Digest:
    """The digest of one of these files.

    Raises:
        NotFoundError: none has this path.
    """
    for file in files:
        if file.path == path:
            return Digest(file.digest)
    raise NotFoundError(
        f"there is no file {path[:120]!r} here", code="no-such-file", hint=", ".join(file.path for file in files[:20])
    )


def is_temporary(error: InsituError) -> bool:
    """Whether registering may work later, without anybody doing anything."""
    return not isinstance(error, InvalidInputError | DeniedError)
