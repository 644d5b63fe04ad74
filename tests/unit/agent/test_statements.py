"""A released model is served only where its files, its statement and the ledger agree."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from insitu.agent.folder import SiteFolder
from insitu.agent.ledger import Ledger
from insitu.agent.statements import check_statement, keep_statement
from insitu.domain.digests import digest_of
from insitu.domain.errors import DeniedError
from insitu.domain.outputs import OutputType
from insitu.testing.builders import NOON
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import GENESIS, LedgerEntry
from insitu.wire.releases import ReleasedFile, ReleaseDocument, files_digest, seal_release

FILES = [ReleasedFile(path="model.skops", digest=digest_of(b"weights"), size_bytes=7)]
OTHERS = [ReleasedFile(path="model.skops", digest=digest_of(b"others"), size_bytes=6)]


@pytest.fixture
def site(tmp_path: Path) -> Any:
    folder = SiteFolder(tmp_path)
    folder.make()
    ledger = Ledger(folder.ledger)
    entry = {"seq": 0, "at": NOON, "kind": "file", "job_id": "j-1", "attempt": 1, "name": "model", "prev": GENESIS}
    ledger.append(LedgerEntry.model_validate({**entry, "decision": "released", "digest": files_digest(FILES)}))
    yield SimpleNamespace(folder=folder, ledger=ledger, key=SigningKey.generate())
    ledger.close()


ITEM: Any = SimpleNamespace(id="r-1", digest=files_digest(FILES))


def statement(key: SigningKey, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "job_id": "j-1",
        "attempt": 1,
        "fence": 1,
        "output": "model",
        "type": OutputType.MLFLOW_MODEL,
        "register_as": "m",
        "files": FILES,
        "digest": files_digest(FILES),
        "datasets": {},
        "code": digest_of(b"code"),
        "lock": digest_of(b"lock"),
        "base": digest_of(b"base"),
        "policy_version": 7,
        "rule": "clean",
        "entry": 0,
        "released_at": NOON,
    }
    return seal_release(ReleaseDocument.model_validate(fields | changes), key)


def test_what_this_site_released_may_be_served(site: Any) -> None:
    keep_statement(site, ITEM, statement(site.key))
    check_statement(site, ITEM)


def test_what_has_no_statement_may_not(site: Any) -> None:
    with pytest.raises(DeniedError) as refused:
        check_statement(site, ITEM)
    assert (refused.value.rule, refused.value.code) == ("release-statement", "release-statement")
    assert refused.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"files": OTHERS, "digest": files_digest(OTHERS)},
        {"entry": 1},
        {"job_id": "j-2"},
        {"output": "other"},
    ],
)
def test_a_statement_about_something_else_does_not_count(site: Any, changes: dict[str, Any]) -> None:
    keep_statement(site, ITEM, statement(site.key, **changes))
    with pytest.raises(DeniedError):
        check_statement(site, ITEM)


def test_a_statement_of_another_key_or_an_altered_one_does_not_count(site: Any) -> None:
    keep_statement(site, ITEM, statement(SigningKey.generate()))
    with pytest.raises(DeniedError):
        check_statement(site, ITEM)
    keep_statement(site, ITEM, statement(site.key))
    path = site.folder.held / "r-1.statement.json"
    for damaged in (b"", b"{}", path.read_bytes().replace(b'"payload":"', b'"payload":"AAAA')):
        path.write_bytes(damaged)
        with pytest.raises(DeniedError):
            check_statement(site, ITEM)
