"""May this job run here? Asked before code is fetched or data is touched.

Rules only, no I/O but what is passed in. Each refusal is a `DeniedError` with
rule, measure, limit and what to do; a site without a readable policy refuses all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from insitu.domain.digests import digest_of
from insitu.domain.errors import DeniedError
from insitu.domain.quantities import format_bytes
from insitu.gate.policy.loading import DatasetRules, Policy
from insitu.wire.deployments import VerifiedDeployment
from insitu.wire.jobs import NO_PACKAGES, Target, VerifiedJob


def check_may_run(
    job: VerifiedJob,
    policy: Policy,
    *,
    base: str,
    offered: Mapping[tuple[str, int], str],
    runs_of: Callable[[str], int],
    now: datetime,
) -> Target:
    """Raise unless the policy lets this job run here now.

    Args:
        job: verified: its signature is one that the policy lists.
        policy: the site's, as it is now.
        base: digest of the base that this site would run it on.
        offered: (dataset, version) → digest, of what this site has.
        runs_of: how many accepted jobs have used a dataset so far.
        now: the site's floored clock.

    Returns:
        The lock that was signed for this site's base.

    Raises:
        DeniedError: the first rule that says no.
    """
    if base not in policy.bases:
        raise DeniedError(
            "this site's policy accepts no such base",
            code="base-not-accepted",
            rule="bases",
            measure=base,
            limit=", ".join(policy.bases) or "none listed",
            hint="a steward lists the base's digest under `bases` in policy.yaml",
        )
    target = job.target_for(base)
    _check_image(job, target, policy)
    _check_resources(job, policy)
    for pin in job.document.datasets:
        _check_dataset_digest(pin.name, pin.version, pin.digest, offered)
        rules = policy.datasets.get(pin.name)
        if rules is None:
            raise DeniedError(
                f"no job may use dataset {pin.name!r}",
                code="dataset-not-granted",
                rule="datasets",
                measure=pin.name,
                limit=", ".join(policy.datasets) or "none granted",
                hint="a steward grants it under `datasets` in policy.yaml",
            )
        _check_grant(job, pin.name, rules, runs=runs_of(pin.name), now=now)
    declared = {given.name for given in job.job.datasets.values()}
    if declared - {pin.name for pin in job.document.datasets}:
        raise DeniedError(
            "the job uses a dataset whose digest was not signed",
            code="dataset-not-pinned",
            rule="datasets",
            hint="submit it again with `insitu run`, which pins each dataset's version",
        )
    return target


def _check_image(job: VerifiedJob, target: Target, policy: Policy) -> None:
    """An image is let in by its digest alone: where it came from is something that nobody here could check."""
    in_image = target.image is not None
    if (job.job.environment.image is not None) != in_image or (target.lock == digest_of(NO_PACKAGES)) < in_image:
        raise DeniedError(
            "the job's environment is not what was signed for this site",
            code="image-not-signed",
            rule="images",
            hint="submit it again with `insitu run`, which signs the image's digest",
        )
    if target.image is not None and target.image.digest not in policy.images:
        raise DeniedError(
            "this site's policy does not let jobs run in that image",
            code="image-not-accepted",
            rule="images",
            measure=target.image.digest,
            limit=", ".join(policy.images) or "none listed",
            hint="a steward who has looked at it lists its digest under `images` in policy.yaml; or name packages instead",
        )


def _check_dataset_digest(name: str, version: int, digest: str, offered: Mapping[tuple[str, int], str]) -> None:
    here = offered.get((name, version))
    if here is None or (digest and here != digest):
        raise DeniedError(
            f"dataset {name}@{version} is not here as it was signed",
            code="dataset-digest",
            rule="dataset-version",
            measure=digest or "named without a digest",
            limit=here or "not at this site",
            hint="see `insitu data list`, and submit again",
        )


def _check_grant(job: VerifiedJob, name: str, rules: DatasetRules, *, runs: int, now: datetime) -> None:
    purpose = job.job.tags.get("purpose", "")
    checks = (
        (job.signer_name in rules.who, "who", job.signer_name, ", ".join(rules.who) or "nobody"),
        (purpose == rules.purpose, "purpose", purpose or "(no tag `purpose`)", rules.purpose),
        (now.date() <= rules.until, "until", f"{now:%Y-%m-%d}", f"{rules.until:%Y-%m-%d}"),
        (runs < rules.runs, "runs", f"{runs} runs so far", f"{rules.runs} runs"),
    )
    for holds, rule, measure, limit in checks:
        if not holds:
            raise DeniedError(
                f"the policy does not let this job use dataset {name!r}",
                code="dataset-grant",
                rule=f"datasets.{name}.{rule}",
                measure=measure,
                limit=limit,
                hint="ask the site's steward for a grant, or change the job to fit it",
            )


def _check_resources(job: VerifiedJob, policy: Policy) -> None:
    asked, most = job.job, policy.sandbox
    checks = (
        (asked.resources.memory <= most.memory_bytes, "memory", asked.resources.memory, most.memory_bytes),
        (asked.resources.cpus <= most.cpus, "cpus", asked.resources.cpus, most.cpus),
        (asked.limits.timeout <= most.timeout_s, "timeout", asked.limits.timeout, most.timeout_s),
    )
    for holds, rule, measure, limit in checks:
        if not holds:
            raise DeniedError(
                f"the job asks for more {rule} than the site gives",
                code="resources",
                rule=f"sandbox.{rule}",
                measure=_quantity(rule, measure),
                limit=_quantity(rule, limit),
                hint="ask for less in the job file",
            )


def _quantity(rule: str, value: float) -> str:
    return format_bytes(int(value)) if rule == "memory" else f"{value:g}"


def check_may_deploy(
    deployment: VerifiedDeployment,
    policy: Policy,
    *,
    site: str,
    running: Mapping[str, int],
    entry_of_release: Callable[[str], int | None],
    entry_of_resident: Callable[[str], int | None],
) -> None:
    """Raise unless the policy lets this deployment run here.

    Args:
        running: deployments that this site has: name → revision.
        entry_of_release: the ledger entry under which a model was released here, if it was.
        entry_of_resident: the ledger entry under which a model's card left, if it may be used here only.

    Raises:
        DeniedError: the first rule that says no.
    """
    asked = deployment.document
    rules = policy.deployments
    may_stay = entry_of_resident(asked.model.digest) is not None
    has_left = entry_of_release(asked.model.digest) is not None
    others = len([name for name in running if name != asked.name])
    checks = (
        (asked.site == site, "site", asked.site, site, "it was signed for another site"),
        (asked.base in policy.bases, "bases", asked.base, ", ".join(policy.bases), "a steward lists bases"),
        (
            asked.lock != digest_of(NO_PACKAGES),
            "image-serving",
            "a model of a job in an image of its own",
            "models whose packages a lock names",
            "train it once more with the packages named",
        ),
        (others < rules.max, "deployments.max", f"{others + 1} deployments", f"{rules.max}", "delete another one"),
        (
            asked.resources.memory_bytes <= rules.memory_bytes,
            "deployments.memory",
            format_bytes(asked.resources.memory_bytes),
            format_bytes(rules.memory_bytes),
            "ask for less",
        ),
        (
            asked.revision >= running.get(asked.name, 0),
            "revision",
            str(asked.revision),
            f"at least {running.get(asked.name, 0)}",
            "an older revision is never brought back by the hub",
        ),
        (
            may_stay or has_left,
            "model",
            asked.model.digest,
            "models that this site released, or that are resident here",
            "not released here: deploy a version whose tag `insitu.site` names this site",
        ),
        (
            may_stay or asked.image is not None,
            "image",
            "no image",
            "an image, of all models but resident ones",
            "deploy with `insitu deploy`, which builds it",
        ),
        (
            has_left or asked.image is None,
            "resident",
            "an image that was not built here",
            "the image that this site builds itself, since nothing of the model has left it",
            "deploy with `insitu deploy`, which names none",
        ),
    )
    for holds, rule, measure, limit, hint in checks:
        if not holds:
            raise DeniedError(
                f"deployment {asked.name!r} may not run at site {site!r}",
                code="deployment-denied",
                rule=rule,
                measure=measure,
                limit=limit,
                hint=hint,
            )
    if asked.port is not None and not rules.ports.first <= asked.port <= rules.ports.last:
        raise DeniedError(
            f"deployment {asked.name!r} may not listen on port {asked.port}",
            code="deployment-denied",
            rule="deployments.ports",
            measure=str(asked.port),
            limit=f"{rules.ports.first}-{rules.ports.last}",
            hint="leave the port out, or take one of these",
        )
