"""Decides which waiting job goes to which site, and says why the others wait. Pure.

First in, first out, over sites that offer every dataset version by digest, offer a
base that the job was locked for, are in reach and have room. A job that fits
nowhere does not hold up those behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from insitu.domain.jobs import QueueReason


@dataclass(frozen=True)
class WaitingJob:
    """What placement needs to know of a job."""

    id: str
    bases: tuple[str, ...]  # that it was locked for, best first
    datasets: frozenset[tuple[str, int, str]]  # name, version, digest; no digest: none was known at signing
    compute: str | Mapping[str, str] | None  # a site's name, or labels that it has; None: any
    cpus: float
    memory_bytes: int


@dataclass(frozen=True)
class SiteRoom:
    """What placement needs to know of a site."""

    name: str
    bases: tuple[str, ...]
    datasets: frozenset[tuple[str, int, str]]
    slots: int
    cpus: float
    memory_bytes: int
    online: bool
    has_policy: bool = True
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Placed:
    job_id: str
    site: str
    base: str


@dataclass(frozen=True)
class Waits:
    job_id: str
    reason: QueueReason
    what: str
    hint: str


def place(jobs: Iterable[WaitingJob], sites: Sequence[SiteRoom]) -> list[Placed | Waits]:
    """One answer for each of `jobs`, which come in the order of their acceptance."""
    rooms = {site.name: site for site in sites}
    answers: list[Placed | Waits] = []
    for job in jobs:
        answer = _place_one(job, list(rooms.values()))
        if isinstance(answer, Placed):
            rooms[answer.site] = _less(rooms[answer.site], job)
        answers.append(answer)
    return answers


def _place_one(job: WaitingJob, sites: list[SiteRoom]) -> Placed | Waits:
    """Narrow the sites step by step; the step that leaves none is the reason."""
    named = [site for site in sites if _is_meant(job, site)]
    if job.compute is not None and not named:
        whom = f"no site {job.compute!r}" if isinstance(job.compute, str) else f"no site labelled {dict(job.compute)}"
        return _waits(
            job, QueueReason.NO_SUCH_SITE, f"{whom} has joined", "see `insitu site list` for names and labels"
        )
    having = [site for site in named if _offers(site, job)]
    if not having:
        return _no_dataset(job, named)
    based = [site for site in having if _base_for(job, site)]
    if not based:
        names = ", ".join(site.name for site in having)
        return _waits(
            job,
            QueueReason.NO_SITE_HAS_BASE,
            f"{names} offers none of the bases that the job was locked for",
            "submit it again: the client locks for the bases that the sites offer now, where the packages have wheels",
        )
    online = [site for site in based if site.online]
    if not online:
        names = ", ".join(site.name for site in based)
        return _waits(
            job, QueueReason.SITE_AWAY, f"{names} is out of reach", "it is placed when the site's agent is back"
        )
    fitting = [site for site in online if _fits(job, site)]
    if not fitting:
        return _no_room(job, online)
    # The emptiest first, so that jobs spread; the name decides a tie, so that the answer does not depend on luck.
    best = min(fitting, key=lambda site: (-site.slots, -site.cpus, site.name))
    return Placed(job.id, best.name, _base_for(job, best))


def _is_meant(job: WaitingJob, site: SiteRoom) -> bool:
    if job.compute is None or isinstance(job.compute, str):
        return job.compute in (None, site.name)
    return job.compute.items() <= site.labels.items()


def _offers(site: SiteRoom, job: WaitingJob) -> bool:
    """Every dataset version, with the digest that was signed where one was."""
    versions = {(name, version) for name, version, _ in site.datasets}
    return all(
        (name, version, digest) in site.datasets if digest else (name, version) in versions
        for name, version, digest in job.datasets
    )


def _no_dataset(job: WaitingJob, sites: list[SiteRoom]) -> Waits:
    wanted = sorted(job.datasets)
    offered = {(name, version) for site in sites for name, version, _ in site.datasets}
    other = [f"{name}@{version}" for name, version, _ in wanted if (name, version) in offered]
    absent = [f"{name}@{version}" for name, version, _ in wanted if (name, version) not in offered]
    where = f"{job.compute} does not offer" if isinstance(job.compute, str) else "no site offers"
    if absent:
        what, hint = f"{where} {', '.join(absent)}", "see `insitu data list`; it is placed when a site offers it"
    elif len(wanted) > 1 and job.compute is None:
        what, hint = f"no one site offers {', '.join(other)} together", "see `insitu data list`"
    else:
        what = f"{where} {', '.join(other)} with the digest that was signed"
        hint = "the dataset was changed since: submit the job again"
    return _waits(job, QueueReason.NO_SITE_HAS_DATASET, what, hint)


def _no_room(job: WaitingJob, sites: list[SiteRoom]) -> Waits:
    names = ", ".join(site.name for site in sites)
    if not any(site.has_policy for site in sites):
        what = f"{names} has no policy that can be read, so nothing runs there"
        return _waits(job, QueueReason.NO_ROOM, what, "its steward runs `insitu policy check`")
    if all(site.slots > 0 for site in sites):
        hint = f"it asks for {job.cpus:g} CPUs and {job.memory_bytes} bytes of memory; ask for less, or wait"
    else:
        hint = "it is placed when another job there ends"
    return _waits(job, QueueReason.NO_ROOM, f"{names} has no room", hint)


def _waits(job: WaitingJob, reason: QueueReason, what: str, hint: str) -> Waits:
    return Waits(job.id, reason, what, hint)


def _base_for(job: WaitingJob, site: SiteRoom) -> str:
    return next((base for base in job.bases if base in site.bases), "")


def _fits(job: WaitingJob, site: SiteRoom) -> bool:
    return site.slots >= 1 and site.cpus >= job.cpus and site.memory_bytes >= job.memory_bytes


def _less(site: SiteRoom, job: WaitingJob) -> SiteRoom:
    return replace(
        site, slots=site.slots - 1, cpus=site.cpus - job.cpus, memory_bytes=site.memory_bytes - job.memory_bytes
    )
