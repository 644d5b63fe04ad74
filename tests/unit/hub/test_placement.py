"""Placement, pure: jobs and sites in, places or reasons out."""

import pytest

from insitu.domain.jobs import QueueReason
from insitu.hub.placement import Placed, SiteRoom, WaitingJob, Waits, place

WDBC = ("wdbc", 1, "sha256:d")


def job(id_="j-1", **changes):
    fields = {"bases": ("b",), "datasets": frozenset({WDBC}), "compute": None, "cpus": 1.0, "memory_bytes": 100}
    return WaitingJob(id=id_, **{**fields, **changes})


def site(name="leeds", **changes):
    fields = {
        "bases": ("b",),
        "datasets": frozenset({WDBC}),
        "slots": 1,
        "cpus": 4.0,
        "memory_bytes": 1000,
        "online": True,
    }
    return SiteRoom(name=name, **{**fields, **changes})


def reason(answer):
    return waits(answer).reason


def waits(answer) -> Waits:
    assert isinstance(answer, Waits)
    return answer


def placed(answer) -> Placed:
    assert isinstance(answer, Placed)
    return answer


def test_job_goes_to_a_site_that_offers_its_data_and_base():
    assert place([job()], [site()]) == [Placed("j-1", "leeds", "b")]


def test_first_in_is_first_out():
    first, second = place([job("j-1"), job("j-2")], [site(slots=1)])
    assert first == Placed("j-1", "leeds", "b")
    assert reason(second) is QueueReason.NO_ROOM


def test_a_job_that_fits_nowhere_does_not_hold_up_the_next():
    large, small = place([job("j-1", memory_bytes=10_000), job("j-2")], [site()])
    assert reason(large) is QueueReason.NO_ROOM
    assert isinstance(small, Placed)


def test_the_emptiest_site_is_taken_and_the_name_decides_a_tie():
    sites = [site("turin", slots=2), site("leeds", slots=3), site("bergen", slots=3)]
    assert [placed(answer).site for answer in place([job("j-1"), job("j-2")], sites)] == ["bergen", "leeds"]


def test_a_base_earlier_in_the_jobs_list_is_preferred():
    answer = place([job(bases=("new", "old"))], [site(bases=("old", "new"))])[0]
    assert answer == Placed("j-1", "leeds", "new")


@pytest.mark.parametrize(
    ("asked", "there", "expected", "said"),
    [
        ({"compute": "oslo"}, {}, QueueReason.NO_SUCH_SITE, "oslo"),
        ({"datasets": frozenset({("other", 1, "sha256:d")})}, {}, QueueReason.NO_SITE_HAS_DATASET, "other@1"),
        ({"datasets": frozenset({("wdbc", 1, "sha256:x")})}, {}, QueueReason.NO_SITE_HAS_DATASET, "signed"),
        ({"bases": ("c",)}, {}, QueueReason.NO_SITE_HAS_BASE, "leeds"),
        ({}, {"online": False}, QueueReason.SITE_AWAY, "leeds"),
        ({}, {"slots": 0}, QueueReason.NO_ROOM, "leeds"),
        ({}, {"slots": 0, "has_policy": False}, QueueReason.NO_ROOM, "leeds"),
        ({"cpus": 8.0}, {}, QueueReason.NO_ROOM, "leeds"),
        ({"memory_bytes": 1001}, {}, QueueReason.NO_ROOM, "leeds"),
    ],
)
def test_a_job_that_waits_says_why_and_what_to_do(asked, there, expected, said):
    answer = waits(place([job(**asked)], [site(**there)])[0])
    assert reason(answer) is expected
    assert said in answer.what
    assert answer.hint


def test_datasets_that_no_one_site_has_together_are_told_apart_from_absent_ones():
    both = frozenset({WDBC, ("ct", 1, "sha256:c")})
    sites = [site("leeds"), site("turin", datasets=frozenset({("ct", 1, "sha256:c")}))]
    answer = waits(place([job(datasets=both)], sites)[0])
    assert reason(answer) is QueueReason.NO_SITE_HAS_DATASET
    assert "together" in answer.what


def test_a_job_without_data_may_go_anywhere():
    assert isinstance(place([job(datasets=frozenset())], [site(datasets=frozenset())])[0], Placed)


def test_a_missing_policy_is_named_as_what_to_mend():
    answer = waits(place([job()], [site(slots=0, has_policy=False)])[0])
    assert "leeds has no policy that can be read" in answer.what
    assert "insitu policy check" in answer.hint


def test_labels_mean_every_site_that_has_them_all():
    north, south = site("leeds", labels={"region": "north", "gpu": "no"}), site("turin", labels={"region": "south"})
    (answer,) = place([job(compute={"region": "north"})], [south, north])
    assert placed(answer).site == "leeds"
    (answer,) = place([job(compute={"region": "west"})], [south, north])
    assert reason(answer) is QueueReason.NO_SUCH_SITE


def test_a_dataset_signed_before_anybody_offered_it_is_matched_by_name_and_version():
    name, version, _ = WDBC
    (answer,) = place([job(datasets=frozenset({(name, version, "")}))], [site("leeds")])
    assert placed(answer).site == "leeds"
