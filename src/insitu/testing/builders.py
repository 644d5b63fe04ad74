"""Builders: a thing of our domain with sensible values, of which a test changes what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from insitu.domain.digests import Digest, digest_of
from insitu.wire.deployments import DeployedModel, ServingResources, sign_deployment
from insitu.wire.envelopes import Envelope
from insitu.wire.job_file import parse_job_document
from insitu.wire.jobs import DatasetPin, Target, sign_job
from insitu.wire.keys import SigningKey
from insitu.wire.run_envelopes import RunEnvelopeDocument, allow_job, sign_run_envelope

A_BASE = digest_of(b"a base")
A_LOCK = digest_of(b"a lock")
A_CODE = digest_of(b"code")
A_DATASET = digest_of(b"wdbc@1")
AN_IMAGE = digest_of(b"an image")
A_MODEL = digest_of(b"a model")
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def a_job_document(**changes: Any) -> dict[str, Any]:
    """A job file's content."""
    document: dict[str, Any] = {
        "type": "command",
        "display_name": "wdbc-logistic",
        "experiment_name": "breast-cancer",
        "command": "python train.py --data ${{inputs.patients}}",
        "environment": {"requirements": "requirements.txt"},
        "inputs": {"patients": {"type": "dataset", "dataset": "wdbc@1"}},
        "outputs": {"model": {"type": "mlflow_model", "register": "breast-cancer", "max_bytes": 2_000_000}},
        "metrics": ["training_*", "auc"],
        "tags": {"purpose": "screening"},
    }
    return document | changes


def a_signed_job(
    key: SigningKey,
    *,
    document: dict[str, Any] | None = None,
    now: datetime = NOON,
    base: Digest = A_BASE,
    dataset_digest: str = A_DATASET,
    target: Target | None = None,
) -> Envelope:
    return sign_job(
        parse_job_document(document or a_job_document()),
        code=A_CODE,
        targets=[target or Target(base=base, python="3.11", platform="x86_64-linux", lock=A_LOCK)],
        datasets=[DatasetPin(input="patients", name="wdbc", version=1, digest=dataset_digest)],
        submitter="alice",
        key=key,
        now=now,
    )


def a_run_envelope(
    site_key: SigningKey, signer: SigningKey, *, document: dict[str, Any] | None = None, **changes: Any
) -> RunEnvelopeDocument:
    """What covers the job of `a_signed_job(signer, document=document)` at the site with that key. `changes` replace fields."""
    allowed = allow_job(
        parse_job_document(document or a_job_document()),
        code=A_CODE,
        locks=[A_LOCK],
        versions={"wdbc": 1},
        site="leeds",
        site_key=site_key.fingerprint,
        who={"alice": signer.fingerprint},
        runs=20,
        now=NOON,
        expires_at=NOON + timedelta(days=30),
    )
    return RunEnvelopeDocument.model_validate({**allowed.model_dump(), **changes})


def a_signed_run_envelope(
    site_key: SigningKey,
    signer: SigningKey,
    reviewer: SigningKey,
    *,
    document: dict[str, Any] | None = None,
    **changes: Any,
) -> Envelope:
    return sign_run_envelope(a_run_envelope(site_key, signer, document=document, **changes), reviewer)


def a_signed_deployment(key: SigningKey, *, now: datetime = NOON, **changes: Any) -> Envelope:
    fields: dict[str, Any] = {
        "name": "screening",
        "site": "leeds",
        "revision": 1,
        "model": DeployedModel(name="breast-cancer", version=1, digest=A_MODEL),
        "image": AN_IMAGE,
        "base": A_BASE,
        "lock": A_LOCK,
        "port": None,
        "resources": ServingResources(),
        "submitter": "alice",
    }
    return sign_deployment(**(fields | changes), key=key, now=now)


def a_policy_text(signer: SigningKey, *, reviewer: SigningKey | None = None, **changes: str) -> str:
    """A policy that lets `alice` train on `wdbc`. `changes` replace whole top-level sections."""
    sections = {
        "version": "7",
        "signers": f'{{alice: "{signer.fingerprint}"}}',
        "bases": f'["{A_BASE}"]',
        "datasets": "{wdbc: {who: [alice], purpose: screening, until: 2027-06-30, runs: 50}}",
        "sandbox": "{memory: 4GiB, cpus: 2, gpus: 0, timeout: 6h, processes: 256}",
        "release": (
            "{metrics: {digits: 4, max_count: 5000, per_second: 5000}, params: {max_bytes: 8kB}, "
            "logs: {mode: scanned, max_bytes: 256kB}, errors: type-and-frames, "
            "models: {formats: [skops, safetensors, onnx, json], trusted_types: [], known_rows: 0, max_bytes: 5MB, "
            "ceiling: 256kB, free_ceiling: 64kB, otherwise: held}, "
            "files: {formats: [csv, json], max_bytes: 1MB, otherwise: held}}"
        ),
        "budget": "{per_job: 5MB, per_dataset_per_month: 100MB, per_submitter_per_month: 50MB}",
        "review": f'{{reviewers: {{jo: "{reviewer.fingerprint}"}}, needed: 1, own: never}}' if reviewer else "{}",
        "deployments": "{signers: [alice], max: 3, ports: 8000-8010, memory: 2GiB}",
    } | changes
    return "\n".join(f"{key}: {value}" for key, value in sections.items()) + "\n"
