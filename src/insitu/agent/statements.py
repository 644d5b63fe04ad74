"""A release's signed statement, kept beside the frozen copy and checked before that copy is served.

The ledger says that something left; the statement says what it was, under which
rule, and that this site's key said so. A model whose files, statement and ledger
entry don't agree is not started.
"""

from __future__ import annotations

import os
from pathlib import Path

from insitu.agent.review_queue import ItemRow
from insitu.agent.site import Site
from insitu.domain.errors import DeniedError, InsituError
from insitu.wire.envelopes import Envelope
from insitu.wire.releases import open_release

_HINT = "run the job again, so that the model is released again; keep the site's `held` folder as evidence"


def keep_statement(site: Site, item: ItemRow, envelope: Envelope) -> None:
    """On disk before it is sent; the same again after a crash."""
    path = _path(site, item)
    work = path.with_suffix(".making")
    with work.open("w") as stream:
        stream.write(envelope.model_dump_json())
        stream.flush()
        os.fsync(stream.fileno())
    work.replace(path)


def check_statement(site: Site, item: ItemRow) -> None:
    """Raise unless this site signed that exactly these files were released, and its ledger says so too.

    Raises:
        DeniedError: there is no such statement, or it is about something else.
    """
    try:
        envelope = Envelope.model_validate_json(_path(site, item).read_bytes())
        release = open_release(envelope, site_key=site.key.fingerprint).document
    except (OSError, ValueError, InsituError) as exc:
        raise _denied("there is no valid statement of its release", "missing or altered") from exc
    if release.digest != item.digest:
        raise _denied("the statement is about other files", release.digest)
    entry = site.ledger.output_entry("file", release.job_id, release.attempt, release.output)
    if entry is None or (entry.seq, entry.digest) != (release.entry, release.digest):
        raise _denied("the ledger has no such release", f"entry {release.entry}")


def _path(site: Site, item: ItemRow) -> Path:
    return site.folder.held / f"{item.id}.statement.json"


def _denied(why: str, measure: str) -> DeniedError:
    return DeniedError(
        "the model may not be served",
        code="release-statement",
        why=why,
        rule="release-statement",
        measure=measure,
        limit="signed by this site, over these files, as in its ledger",
        hint=_HINT,
    )
