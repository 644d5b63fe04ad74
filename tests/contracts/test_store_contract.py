"""What the store promises, on SQLite and on PostgreSQL."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import exc, func, select, text, update

from insitu.domain.digests import digest_of
from insitu.domain.errors import ConflictError, InsituError, InvalidInputError, UnavailableError
from insitu.domain.jobs import FINAL, TRANSITIONS, JobState
from insitu.hub.access import Actor, JoinedSite
from insitu.hub.actions import agents
from insitu.hub.actions import jobs as job_actions
from insitu.hub.actions.placing import place_waiting
from insitu.hub.placement import Placed
from insitu.hub.store import blobs, deployments, job_states, jobs, outputs, people, sites, stream, tables
from insitu.hub.store.migrate import is_current, migrate
from insitu.hub.store.session import Store
from insitu.hub.store.tables import Base, JobRow, SiteRow
from insitu.wire.events import DecisionEvent, EventBatch, StateEvent
from insitu.wire.keys import SigningKey
from insitu.wire.people import JobRequest, Role
from insitu.wire.sync import Capacity, HeadReport
from tests.unit.hub.hub_world import BASE, CODE, DATA, LOCK, a_job

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AWAY_BEFORE = NOW - timedelta(seconds=45)
KEY = SigningKey.generate()
ALICE = Actor("alice", Role.DATA_SCIENTIST, KEY.fingerprint)
SITE_KEY = SigningKey.generate()
LEEDS = JoinedSite("leeds", SITE_KEY.public.text, SITE_KEY.fingerprint)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'hub.sqlite3'}"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
def announced():
    return []


@pytest.fixture
def store(url, announced):
    found = Store(url, announce=announced.append)
    migrate(found)
    yield found
    found.close()


def report(**changes):
    from insitu.wire.datasets import DatasetOffer
    from insitu.wire.sync import BaseOffer, SyncRequest

    fields = {
        "agent_version": "0",
        "started_at": NOW,
        "sandbox": "bubblewrap",
        "policy_version": 1,
        "bases": [BaseOffer(digest=BASE, python="3.11", platform="x86_64-linux")],
        "capacity": Capacity(cpus=64, memory_bytes=1 << 40, slots=64),
        "datasets": [DatasetOffer(name="wdbc", version=1, digest=DATA, rows="100-1k")],
        **changes,
    }
    return SyncRequest(**fields)


@pytest.fixture
def leeds(store):
    with store.write() as session:
        sites.create(session, "leeds", {}, now=NOW)
        sites.add_join_token(session, "leeds", "hash", expires_at=NOW)
        assert sites.join(session, "hash", "leeds", key=LEEDS.public_key, fingerprint=LEEDS.fingerprint, now=NOW)
        agents.take_report(LEEDS, session, report(), SITE_KEY, now=NOW, away_before=AWAY_BEFORE)
    return LEEDS


def envelope(**changes):
    return a_job(submitter="alice", key=KEY, now=NOW, **changes)


def submit(store, sealed=None, **changes):
    with store.write() as session:
        for digest in (CODE, LOCK):
            blobs.add(session, digest, 4, holder=blobs.person("alice"), now=NOW)
        request = JobRequest(envelope=sealed or envelope(**changes))
        return job_actions.submit_job(ALICE, session, request, now=NOW, away_before=AWAY_BEFORE)


def facts(store, job_id):
    with store.read() as session:
        found = jobs.facts(session, job_id)
    assert found is not None
    return found


def put_state(store, job_id, state, **values):
    """Bring a row into a state that a test starts from."""
    with store.write() as session:
        session.change(update(JobRow).where(JobRow.id == job_id).values(state=state.value, **values))


def batch(job_id, events, *, attempt=1, fence=1, first=1, **changes):
    numbered = [{"seq": first + index, "at": NOW, **event} for index, event in enumerate(events)]
    fields = {"job_id": job_id, "attempt": attempt, "fence": fence, "events": numbered, "entry": 1, "size_bytes": 1}
    return EventBatch.model_validate({**fields, **changes})


def take(store, given, site=LEEDS):
    with store.write() as session:
        return agents.take_events(site, session, given, now=NOW)


def at_once(count: int, do: Callable[[int], Any]) -> list[Any]:
    """Run `do(n)` in as many threads, started together; their results, or our errors."""
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait(30)
        try:
            return do(number)
        except InsituError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# -- the schema --------------------------------------------------------------------------------------------------------


def test_migrations_build_exactly_what_the_tables_say(store):
    with store.engine() as engine, engine.connect() as connection:
        assert (
            compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata) == []
        )
        assert is_current(connection)


def test_migrating_twice_changes_nothing_and_two_at_once_do_it_once(url):
    stores = [Store(url) for _ in range(2)]
    if stores[0].on_postgres:  # a SQLite database has one process, and so one that migrates
        assert at_once(2, lambda number: migrate(stores[number])) == [None, None]
    for one in stores:
        migrate(one)
        one.close()


def test_what_sites_had_offered_is_kept_by_the_next_migrations(url):
    store = Store(url)
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    with store.engine() as engine, engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        for statement in OF_AN_OLDER_HUB:
            connection.execute(text(statement))
    migrate(store)
    with store.read() as session:
        (kept,) = sites.datasets(session)
        assert (kept.name, kept.columns[0].name, kept.owner, kept.minimum_rows) == ("wdbc", "age", "", 0)
        assert sites.published_policy(session, "leeds") is None
    store.close()


OF_AN_OLDER_HUB = (
    """INSERT INTO sites (name, labels, created_at, public_key, fingerprint, agent_version, sandbox, policy_version, bases,
    cpus, memory_bytes, slots, offer_digest, head_entries, head_hash, head_signature, head_countersigned, alarm, changed)
    VALUES ('leeds', '{}', '2026-11-01 00:00:00+00:00', '', '', '', '', 0, '[]', 0, 0, 0, '', 0, '', '', '', '', 0)""",
    """INSERT INTO site_datasets (site, name, version, digest, rows, columns, description)
    VALUES ('leeds', 'wdbc', 1, 'd', '<100', '[{"name"\\: "age", "type"\\: "integer"}]', '')""",
)


def test_a_database_of_a_newer_hub_is_refused_and_left_alone(store):
    with store.write() as session:
        session.change(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UnavailableError) as refused:
        migrate(store)
    assert refused.value.code == "database-version"


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_read_session_can_not_write(store):
    with pytest.raises((exc.DBAPIError, UnavailableError)), store.read() as session:
        session.rows(text("DELETE FROM jobs"))


def test_waking_happens_after_the_commit_and_only_then(store, announced):
    with store.write() as session:
        session.wake("a")
        assert announced == []
    assert announced == ["a"]
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(store)
    assert announced == ["a"]
    with store.read() as session:
        assert not sites.exists(session, "leeds")


def fail_half_way(store):
    with store.write() as session:
        session.wake("b")
        sites.create(session, "leeds", {}, now=NOW)
        message = "half way"
        raise RuntimeError(message)


def test_a_connection_that_is_given_back_after_the_end_is_closed(url):
    closing = Store(url)
    migrate(closing)
    with closing.read() as session:
        session.rows(select(SiteRow.name))
        raw: Any = session._connection.connection
        connection = raw.dbapi_connection
        closing.close()
    if closing.on_postgres:
        assert connection.closed
    else:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_times_come_back_aware_and_in_utc(store):
    from datetime import timezone

    there = datetime(2026, 11, 23, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    with store.write() as session:
        sites.create(session, "leeds", {}, now=there)
    with store.read() as session:
        found = session.rows(select(SiteRow.created_at)).scalar_one()
    assert found == NOW
    assert found.utcoffset() == timedelta(0)


def test_what_can_not_be_stored_is_the_callers_mistake(store):
    with pytest.raises(InvalidInputError) as refused, store.write() as session:
        session.rows(select(JobRow.id).where(JobRow.number == 2**80))
    assert refused.value.code == "unstorable"


def test_a_database_that_another_program_holds_is_said_to_be_away(tmp_path):
    path = tmp_path / "hub.sqlite3"
    store, other = Store(f"sqlite:///{path}"), sqlite3.connect(path, isolation_level=None)
    migrate(store)
    with store.write() as session:
        session.rows(text("PRAGMA busy_timeout=0"))  # of the one connection that writes: it would wait half a minute
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError) as refused, store.write() as session:
        sites.create(session, "leeds", {}, now=NOW)
    assert refused.value.code == "database"
    other.execute("ROLLBACK")
    with store.write() as session:
        assert sites.create(session, "leeds", {}, now=NOW)
    other.close()
    store.close()


def test_the_same_name_at_the_same_moment_is_given_once(store):
    def create(_):
        with store.write() as session:
            return sites.create(session, "leeds", {}, now=NOW)

    assert Counter(at_once(4, create)) == {True: 1, False: 3}


def test_another_process_hears_of_a_change(url):
    """Over PostgreSQL; with SQLite there is no other process."""
    here, rung = threading.Event(), []

    def hear(topic):
        rung.append(topic)
        here.set()

    listening = Store(url, announce=hear)
    speaking = Store(url)
    try:
        migrate(listening)
        listening.listen()
        if not listening.on_postgres:
            assert listening._listener is None
            return
        for _ in range(200):  # until the listener is connected
            with speaking.write() as session:
                session.wake("site:leeds")
            if here.wait(0.1):
                break
        assert set(rung) == {"site:leeds"}
    finally:
        speaking.close()
        listening.close()


def test_one_process_at_a_time_has_its_turn(url):
    stores = [Store(url) for _ in range(2)]
    try:
        with stores[0].turn("loop") as first, stores[1].turn("loop") as second, stores[1].turn("other") as other:
            assert (first, other) == (True, True)
            assert second is not stores[0].on_postgres
        with stores[1].turn("loop") as later:
            assert later
    finally:
        for one in stores:
            one.close()


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_one_envelope_is_one_job_however_often_and_at_once_it_comes(store, leeds):
    sealed = envelope()
    ids = {
        answer[0] if isinstance(answer, tuple) else answer.code
        for answer in at_once(4, lambda _: submit(store, sealed))
    }
    # Over PostgreSQL the losers of a race may be told to look again; then they find the winner's.
    ids = {submit(store, sealed)[0] if one == "conflict" else one for one in ids}
    assert len(ids) == 1
    with store.read() as session:
        assert session.rows(select(func.count()).select_from(JobRow)).scalar_one() == 1


def test_a_job_is_given_to_one_attempt_however_many_try(store):
    job_id, _ = submit(store)
    with store.write() as session:
        for name in ("leeds", "turin"):
            sites.create(session, name, {}, now=NOW)

    def assign(number):
        with store.write() as session:
            return job_states.assign(session, Placed(job_id, ("leeds", "turin")[number % 2], BASE), lock=LOCK, now=NOW)

    assert Counter(at_once(4, assign)) == {True: 1, False: 3}
    found = facts(store, job_id)
    assert (found.attempt, found.fence, found.state) == (1, 1, JobState.ASSIGNED)


def test_room_is_never_given_twice(store, leeds):
    with store.write() as session:
        agents.take_report(
            LEEDS,
            session,
            report(capacity=Capacity(cpus=64, memory_bytes=1 << 40, slots=3)),
            SITE_KEY,
            now=NOW,
            away_before=AWAY_BEFORE,
        )
    answers = at_once(6, lambda _: submit(store))
    states = Counter(facts(store, answer[0]).state for answer in answers)
    assert states == {JobState.ASSIGNED: 3, JobState.QUEUED: 3}

    def place(_):
        with store.write() as session:
            return place_waiting(session, now=NOW, away_before=AWAY_BEFORE)

    assert at_once(3, place) == [0, 0, 0]


@pytest.mark.parametrize("before", [state for state in JobState if state is not JobState.QUEUED])
def test_a_report_moves_a_job_only_where_the_transitions_lead(store, leeds, before):
    job_id, _ = submit(store)
    for number, after in enumerate(state for state in JobState):
        put_state(store, job_id, before, last_seq=0)
        take(store, batch(job_id, [{"kind": "state", "state": after.value}]))
        allowed = after in ahead_of(before)
        assert facts(store, job_id).state is (after if allowed else before), f"{before} → {after} ({number})"


def ahead_of(state):
    """Every state that lies ahead, told from the table anew: never the queue, never itself."""
    found, frontier = set(), {state}
    while frontier:
        frontier = {after for one in frontier for after in TRANSITIONS[one]} - found - {JobState.QUEUED}
        found |= frontier
    return found


def test_a_report_meets_a_state_that_changed_meanwhile_and_changes_nothing(store, leeds):
    job_id, _ = submit(store)
    with store.write() as session:
        stale = job_states.AttemptHead(job_id, "leeds", 1, 1, JobState.RUNNING, 0, 2, 0, cancel_requested=False)
        event = StateEvent(seq=1, at=NOW, state=JobState.JUDGING)
        assert job_states.advance(session, stale, event, now=NOW) == (JobState.RUNNING, None)
    assert facts(store, job_id).state is JobState.ASSIGNED


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_job_that_has_ended_can_not_be_asked_to_stop(store, leeds, state):
    job_id, _ = submit(store)
    put_state(store, job_id, state)
    with store.write() as session:
        assert not job_states.request_cancel(session, job_id)
        assert not job_states.cancel_queued(session, job_id, by="alice", now=NOW)
    assert facts(store, job_id).state is state


def test_everybody_at_once_stands_in_nobodys_way(store, leeds):
    """Submitting, reporting, placing, cancelling and telling lock rows in one order: over PostgreSQL none waits for ever."""
    ids = [submit(store)[0] for _ in range(4)]

    def report_on(number):
        with store.write() as session:
            held = [{"job_id": id_, "attempt": 1, "fence": 1, "state": "running", "last_seq": 0} for id_ in ids]
            changed = report(attempts=held, capacity=Capacity(cpus=64, memory_bytes=1 << 40, slots=50 + number))
            agents.take_report(LEEDS, session, changed, SITE_KEY, now=NOW, away_before=AWAY_BEFORE)
        with store.write() as session:
            place_waiting(session, now=NOW, away_before=AWAY_BEFORE)

    def cancel(number):
        with store.write() as session:
            job_actions.cancel_job(ALICE, session, ids[number % 4], now=NOW, away_before=AWAY_BEFORE)

    def tell(number):
        take(store, batch(ids[number % 4], lines(1, 5)))

    doings = (lambda _: submit(store), report_on, cancel, tell)
    answers = at_once(8, lambda number: [doings[(number + turn) % 4](number) for turn in range(8)])
    assert [answer for answer in answers if isinstance(answer, InsituError)] == []


# -- events ------------------------------------------------------------------------------------------------------------


def lines(first, count):
    return [{"kind": "log", "stream": "stdout", "text": str(first + index)} for index in range(count)]


def test_a_batch_sent_by_many_at_once_is_kept_once(store, leeds):
    job_id, _ = submit(store)
    given = batch(job_id, lines(1, 50))
    assert at_once(4, lambda _: take(store, given)) == [50] * 4
    with store.read() as session:
        assert [line.text for line in stream.logs(session, job_id, after_cursor=0, limit=1000)] == [
            str(number) for number in range(1, 51)
        ]


def test_events_come_back_as_they_came_with_cursors_without_gaps(store, leeds):
    job_id, _ = submit(store)
    texts = ["plain", "NUL \x00 inside", "ünï ☃ 🦆", "", 'quotes " and \\', "line\nbreak"]
    take(store, batch(job_id, [{"kind": "log", "stream": "stdout", "text": text} for text in texts]))
    take(
        store,
        batch(job_id, [{"kind": "metric", "key": "k", "value": value} for value in (1e308, -0.0, 5e-324)], first=7),
    )
    with store.read() as session:
        found = stream.after(session, job_id, 0)
        logged = [line.text for line in stream.logs(session, job_id, after_cursor=0, limit=100)]
        points = [point["value"] for point in stream.metrics(session, job_id, key="k")]
    assert [one.cursor for one in found] == list(range(1, len(found) + 1))
    assert logged == texts
    assert points == [1e308, -0.0, 5e-324]


def test_the_latest_value_of_each_name_is_kept(store, leeds):
    job_id, _ = submit(store)
    take(store, batch(job_id, [{"kind": "metric", "key": "a", "value": n} for n in range(10)]))
    take(
        store,
        batch(
            job_id,
            [{"kind": "metric", "key": "a", "value": "NaN"}, {"kind": "metric", "key": "b", "value": 2}],
            first=11,
        ),
    )
    with store.read() as session:
        view = jobs.view(session, job_id, away_before=AWAY_BEFORE)
    assert view is not None
    assert str(view.metrics.pop("a")) == "nan"
    assert view.metrics == {"b": 2.0}


def test_a_requeued_attempt_leaves_its_fence_behind(store, leeds):
    job_id, _ = submit(store, retries=2)
    take(store, batch(job_id, [{"kind": "state", "state": "failed", "failure": "lost"}, *lines(1, 1)]))
    found = facts(store, job_id)
    assert (found.state, found.site, found.fence) == (JobState.QUEUED, None, 2)
    with pytest.raises(ConflictError) as refused:
        take(store, batch(job_id, lines(1, 1), first=3))
    assert refused.value.code == "fenced"
    with store.write() as session:
        assert place_waiting(session, now=NOW, away_before=AWAY_BEFORE) == 1
    assert take(store, batch(job_id, lines(1, 2), attempt=2, fence=3)) == 2


def test_a_second_decision_on_an_output_replaces_the_first(store, leeds):
    job_id, _ = submit(store)
    with store.write() as session:
        for verdict in ("held", "released"):
            event = {"seq": 1, "at": NOW, "output": "model", "verdict": verdict, "rule": verdict}
            outputs.decide(session, job_id, 1, DecisionEvent.model_validate(event))
    with store.read() as session:
        assert [(one.name, one.verdict, one.rule) for one in outputs.of_jobs(session, [job_id])[job_id]] == [
            ("model", "released", "released")
        ]


# -- sites, blobs, people ----------------------------------------------------------------------------------------------


def test_a_head_only_goes_forward_also_when_two_come_at_once(store, leeds):
    def note(number):
        head = HeadReport(entries=number + 1, hash=CODE, root=BASE, signature="s")
        with store.write() as session:
            return sites.note_head(session, "leeds", head, countersigned="c")

    at_once(6, note)
    with store.read() as session:
        assert sites.head(session, "leeds").entries == 6
    assert note(5) is False
    assert note(2) is False


def test_a_site_is_joined_once_however_many_try(store):
    with store.write() as session:
        sites.create(session, "oslo", {}, now=NOW)
        for number in range(3):
            sites.add_join_token(session, "oslo", f"h{number}", expires_at=NOW)

    def join(number):
        with store.write() as session:
            return sites.join(session, f"h{number}", "oslo", key=f"k{number}", fingerprint="f", now=NOW)

    assert Counter(at_once(3, join)) == {True: 1, False: 2}


def test_a_blob_belongs_to_whoever_showed_it(store):
    digest = digest_of(b"x")
    with store.write() as session:
        for _ in range(2):
            blobs.add(session, digest, 1, holder=blobs.person("alice"), now=NOW)
    with store.read() as session:
        assert blobs.held_by(session, blobs.person("alice"), [digest]) == {digest: 1}
        assert blobs.held_by(session, blobs.site("alice"), [digest]) == {}


def test_a_token_is_known_until_it_expires_or_is_revoked(store):
    with store.write() as session:
        token = people.create_token(session, "alice", Role.STEWARD, days=1, now=NOW)
    with store.read() as session:
        found = people.actor_of(session, token.token, now=NOW)
        assert found is not None
        actor, _ = found
        assert (actor.name, actor.role) == ("alice", Role.STEWARD)
        assert people.actor_of(session, token.token, now=NOW + timedelta(days=1)) is None
    with store.write() as session:
        assert people.revoke_token(session, token.id, now=NOW)
        assert people.actor_of(session, token.token, now=NOW) is None


def test_no_deployment_stands_where_none_was_put(store):
    with store.read() as session:
        assert deployments.standing(session, "screening") is None
        assert deployments.orders(session, "leeds") == []
