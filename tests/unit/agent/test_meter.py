"""The steward's view of what leaves, counted from the ledger."""

from types import SimpleNamespace

import pytest

from insitu.agent.folder import SiteFolder
from insitu.agent.ledger import Ledger
from insitu.agent.meter import meter_show, room_bytes, rounded_down
from insitu.agent.store import Store
from insitu.domain.errors import NotFoundError
from insitu.gate.policy.loading import load_policy
from insitu.testing.builders import NOON, a_policy_text, a_signed_job
from insitu.wire.envelopes import parse_envelope
from insitu.wire.jobs import open_job
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import GENESIS, LedgerEntry


@pytest.fixture
def site(tmp_path):
    key = SigningKey.generate()
    policy = load_policy(a_policy_text(key))
    store, ledger = Store(tmp_path / "db"), Ledger(tmp_path / "ledger.jsonl")
    envelope = a_signed_job(key)
    document = envelope.model_dump(mode="json")
    store.put_assignment("j-1", 1, 1, document)
    job = open_job(parse_envelope(document), signers=policy.signers)
    yield SimpleNamespace(
        folder=SiteFolder(tmp_path / "site"),
        store=store,
        ledger=ledger,
        policy=SimpleNamespace(current=lambda: policy),
        now=lambda: NOON,
        job=job,
    )
    ledger.close()
    store.close()


def left(site, **fields) -> None:
    common = {"seq": 0, "at": NOON, "job_id": "j-1", "attempt": 1, "prev": GENESIS, "submitter": site.job.signer}
    pins = [f"{pin.name}@{pin.version}" for pin in site.job.document.datasets]
    site.ledger.append(LedgerEntry(**{**common, "datasets": pins, "decision": "released", **fields}))


def test_it_counts_channels_budgets_and_what_could_be_carried(site):
    left(site, kind="batch", counts={"metric": 80, "state": 2}, sizes={"metric": 9000}, size_bytes=9000)
    left(site, kind="batch", counts={"log": 3}, sizes={"log": 300}, size_bytes=300)
    left(site, kind="file", name="model", counts={"files": 4}, size_bytes=5000, ceiling_bytes=70)
    (told,) = meter_show(site)
    assert told["channels"] == [
        {"channel": "file", "entries": 4, "left_bytes": 5000},
        {"channel": "log", "entries": 3, "left_bytes": 300},
        {"channel": "metric", "entries": 80, "left_bytes": 9000},
    ]
    assert told["left_bytes"] == 14_300
    assert told["could_carry_bytes"] == 226 + 300 + 70
    assert {line["rule"]: (line["left_bytes"], line["limit_bytes"]) for line in told["budgets"]} == {
        "budget.per_job": (14_300, 5_000_000),
        "budget.per_dataset_per_month": (14_300, 100_000_000),
        "budget.per_submitter_per_month": (14_300, 50_000_000),
    }
    assert told["submitter"] == "alice"


def test_without_a_readable_policy_it_still_says_what_left(site):
    left(site, kind="batch", counts={"log": 3}, sizes={"log": 300}, size_bytes=300)
    site.policy = SimpleNamespace(current=lambda: None)
    (told,) = meter_show(site, job="j-1")
    assert (told["left_bytes"], told["budgets"]) == (300, [])


def test_a_job_that_never_came_here_is_none(site):
    with pytest.raises(NotFoundError):
        meter_show(site, job="j-2")


def test_the_hub_hears_a_round_number_of_what_is_left(site):
    policy = site.policy.current()
    assert room_bytes(site.ledger, policy, site.job, "j-1", NOON) == 5_000_000
    left(site, kind="batch", counts={"log": 1}, sizes={"log": 4_700_000}, size_bytes=4_700_000)
    assert room_bytes(site.ledger, policy, site.job, "j-1", NOON) == 200_000


@pytest.mark.parametrize(("number", "told"), [(-5, 0), (0, 0), (1, 1), (9, 5), (49, 20), (1999, 1000), (5000, 5000)])
def test_round_numbers_are_never_above_the_true_ones(number, told):
    assert rounded_down(number) == told
