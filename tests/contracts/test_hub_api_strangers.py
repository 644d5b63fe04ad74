"""What a stranger, a neighbour, or somebody of the wrong role must not do, endpoint by endpoint."""

import re

import pytest
from starlette.routing import Route

from insitu.domain.digests import digest_of
from insitu.wire.keys import SigningKey
from insitu.wire.people import Role
from insitu.wire.tokens import issue_agent_token
from tests.unit.hub.hub_world import CODE, LOCK, Agent, a_hub, a_model, a_running_job

# The only addresses that answer somebody without a token, and why.
OPEN = {
    "/healthz": "says that the process lives",
    "/readyz": "says that it can work",
    "/api/v1/version": "which version, before one logs in",
    "/openapi.json": "the description of the API",
    "/agent/v1/join": "the join token is in its body",
}


@pytest.fixture
def world(tmp_path):
    with a_hub(tmp_path / "hub") as found:
        yield found


def endpoints(app):
    """(method, path) of everything that the hub answers, with something in place of each parameter."""
    for route in flattened(app.routes):
        path = re.sub(r"\{version\}", "1", route.path)
        path = re.sub(r"\{[^}]*digest[^}]*\}", digest_of(b"x"), path)
        for method in route.methods or ():
            yield method, re.sub(r"\{[^}]+\}", "x", path)


def flattened(routes):
    for route in routes:
        if isinstance(route, Route) or hasattr(route, "endpoint"):
            yield route
        elif hasattr(route, "original_router"):  # a router that FastAPI keeps as one, with its prefix in the paths
            yield from flattened(route.original_router.routes)


def test_a_stranger_gets_401_everywhere_but_at_the_open_addresses(world):
    seen = set()
    for method, path in endpoints(world.app):
        seen.add(path)
        for headers in ({}, {"Authorization": "Bearer insitu_guess"}, {"Authorization": "Basic eDp5"}):
            reply = world.client.request(method, path, headers=headers)
            if path in OPEN:
                assert reply.status_code != 401, path
            else:
                assert reply.status_code == 401, f"{method} {path} answered {reply.status_code}"
                assert reply.headers["www-authenticate"].startswith("Bearer")
    assert set(OPEN) < seen
    assert len(seen) > 30


def test_an_agents_token_opens_nothing_of_peoples_and_a_persons_nothing_of_agents(world):
    alice, leeds = world.person("alice"), world.site()
    for method, path in endpoints(world.app):
        caller = alice if path.startswith("/agent/") else leeds
        if path not in OPEN:
            assert caller.call(method, path).status_code == 401, f"{method} {path}"


@pytest.mark.parametrize(
    ("method", "path", "body", "roles"),
    [
        ("POST", "/api/v1/tokens", {"name": "eve", "role": "admin"}, {Role.ADMIN}),
        ("GET", "/api/v1/tokens", None, {Role.ADMIN}),
        ("DELETE", "/api/v1/tokens/t-0", None, {Role.ADMIN}),
        ("POST", "/api/v1/sites", {"name": "oslo"}, {Role.STEWARD, Role.ADMIN}),
        ("POST", "/api/v1/sites/leeds/join-token", None, {Role.STEWARD, Role.ADMIN}),
        ("DELETE", "/api/v1/sites/leeds/alarm", None, {Role.STEWARD, Role.ADMIN}),
        ("PUT", f"/api/v1/blobs/{CODE}", None, {Role.DATA_SCIENTIST, Role.ADMIN}),
        (
            "PUT",
            "/api/v1/models/m/versions/1/tags",
            {"key": "a", "value": "b"},
            {Role.DATA_SCIENTIST, Role.ML_ENGINEER, Role.ADMIN},
        ),
        (
            "PUT",
            "/api/v1/models/m/aliases",
            {"alias": "champion", "version": 1},
            {Role.DATA_SCIENTIST, Role.ML_ENGINEER, Role.ADMIN},
        ),
        ("POST", "/api/v1/images", {"model": "m", "version": 1}, {Role.ML_ENGINEER, Role.ADMIN}),
        ("DELETE", "/api/v1/deployments/d", None, {Role.ML_ENGINEER, Role.ADMIN}),
    ],
)
def test_a_role_that_may_not_gets_403_with_the_rule(world, method, path, body, roles):
    for role in Role:
        person = world.person(role.value, role)
        reply = person.call(method, path, json=body)
        if role in roles:
            assert reply.status_code != 403, reply.text
        else:
            assert reply.status_code == 403, f"{role}: {reply.status_code}"
            assert (reply.json()["code"], reply.json()["rule"]) == ("role", "role")
            assert reply.json()["exit_code"] == 3


def test_somebody_without_the_role_can_submit_nothing(world):
    engineer = world.person("mel", Role.ML_ENGINEER)
    envelope = engineer.signed_job().model_dump(mode="json")
    assert engineer.post("/api/v1/jobs", {"envelope": envelope}).status_code == 403


def test_a_revoked_and_an_expired_token_open_nothing(world):
    alice, bob = world.person("alice"), world.person("bob")
    of_alice = next(t for t in world.admin.get("/api/v1/tokens").json()["items"] if t["name"] == "alice")
    assert world.admin.call("DELETE", f"/api/v1/tokens/{of_alice['id']}").status_code == 204
    assert alice.get("/api/v1/whoami").json()["code"] == "unknown-token"
    world.clock.tick(91 * 86400)
    assert bob.get("/api/v1/whoami").status_code == 401


def test_a_token_is_shown_once_and_kept_nowhere(world):
    token = world.person("alice").token
    assert token not in world.admin.get("/api/v1/tokens").text
    for file in world.settings.data.rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file


def test_the_first_tokens_file_is_for_the_hubs_user_alone(world):
    assert world.settings.admin_token_file.stat().st_mode & 0o777 == 0o600
    assert world.settings.key_file.stat().st_mode & 0o777 == 0o600


def test_a_key_stands_for_one_person(world):
    alice, bob = world.person("alice"), world.person("bob")
    reply = bob.put("/api/v1/me/key", {"public_key": alice.key.public.text})
    assert (reply.status_code, reply.json()["code"]) == (409, "key-taken")


# -- neighbours --------------------------------------------------------------------------------------------------------


def test_a_neighbour_site_can_not_speak_for_another(world):
    alice, leeds, turin = world.person("alice"), world.site("leeds"), world.site("turin")
    job_id = a_running_job(world, alice, leeds, compute="leeds")
    before = alice.job(job_id)
    told = turin.post_events(job_id, [{"kind": "state", "state": "succeeded"}], first=3)
    assert (told.status_code, told.json()["code"]) == (403, "not-your-job")
    assert turin.release(job_id).json()["code"] == "not-your-job"
    assert alice.job(job_id) == before


def test_a_site_that_signs_with_another_key_is_nobody(world):
    world.site("leeds")
    impostor = Agent(world, "leeds", key=SigningKey.generate())
    reply = impostor.post_report(impostor.report())
    assert (reply.status_code, reply.json()["code"]) == (401, "agent-key")


def test_an_agents_token_does_not_last(world):
    leeds = world.site()
    token = issue_agent_token("leeds", leeds.key, now=world.clock())
    world.clock.tick(3600)
    reply = world.client.post(
        "/agent/v1/sync", content=leeds.report().model_dump_json(), headers={"Authorization": f"Bearer {token}"}
    )
    assert (reply.status_code, reply.json()["code"]) == (401, "agent-token-time")


def test_a_site_gets_the_blobs_of_its_own_jobs_and_no_others(world):
    alice, leeds, turin = world.person("alice"), world.site("leeds"), world.site("turin")
    job_id = a_running_job(world, alice, leeds, compute="leeds")
    assert leeds.call("GET", f"/agent/v1/blobs/{CODE}").content == b"a snapshot of code"
    assert leeds.call("GET", f"/agent/v1/blobs/{LOCK}").status_code == 200
    assert turin.call("GET", f"/agent/v1/blobs/{CODE}").json()["code"] == "not-your-blob"
    leeds.state(job_id, "judging", "succeeded")
    assert leeds.call("GET", f"/agent/v1/blobs/{CODE}").status_code == 403


def test_an_assignment_is_told_to_its_own_site_alone(world):
    alice, leeds, turin = world.person("alice"), world.site("leeds"), world.site("turin")
    alice.submit(compute="leeds")
    assert len(leeds.sync().assignments) == 1
    assert turin.sync().assignments == []


def test_naming_a_file_that_another_site_uploaded_releases_nothing(world):
    alice, leeds, turin = world.person("alice"), world.site("leeds"), world.site("turin")
    a_model(world, alice, leeds)
    job_id = alice.submit(compute="turin").json()["id"]
    turin.sync(attempts=[turin.holding(job_id)])
    envelope = turin.signed_release(job_id)
    reply = turin.call("POST", "/agent/v1/releases", json=envelope.model_dump(mode="json"))
    assert (reply.status_code, reply.json()["code"]) == (409, "missing-blobs")
    assert len(world.tracking.registered) == 1


def test_a_person_can_not_cancel_anothers_job(world):
    alice, bob, jo = world.person("alice"), world.person("bob"), world.person("jo", Role.STEWARD)
    job_id = alice.submit().json()["id"]
    assert bob.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 403
    assert jo.post(f"/api/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"


def test_a_person_learns_nothing_of_a_blob_that_they_only_can_name(world):
    alice, bob = world.person("alice"), world.person("bob")
    assert alice.put_blob(b"mine").status_code == 201
    path = f"/api/v1/blobs/{digest_of(b'mine')}"
    assert alice.call("HEAD", path).headers["blob-size"] == "4"
    assert bob.call("HEAD", path).status_code == 404
    assert bob.get(path).status_code == 404
    assert alice.get(path).content == b"mine"


def test_a_job_may_not_name_code_that_its_submitter_never_had(world):
    alice, bob = world.person("alice"), world.person("bob")
    alice.submit()
    reply = bob.post("/api/v1/jobs", {"envelope": bob.signed_job().model_dump(mode="json")})
    assert (reply.status_code, reply.json()["code"]) == (409, "missing-blobs")
    assert set(reply.json()["missing"]) == {CODE, LOCK}


# -- joining -----------------------------------------------------------------------------------------------------------


def alarm_of(world, name="leeds"):
    return world.admin.get(f"/api/v1/sites/{name}").json()["alarm"]


def test_a_join_token_is_good_once_and_the_second_try_raises_an_alarm(world):
    token = world.admin.post("/api/v1/sites", {"name": "leeds"}).json()["join_token"]
    leeds, thief = Agent(world, "leeds"), Agent(world, "leeds")
    first = leeds.join(token)
    assert first.json()["site"] == "leeds"
    # Its reply may have been lost: the same key and token get the same answer, and no alarm.
    assert leeds.join(token).json() == first.json()
    assert alarm_of(world) == ""
    second = thief.join(token)
    assert (second.status_code, second.json()["code"]) == (401, "join-token-used")
    assert "second agent" in alarm_of(world)
    assert leeds.post_report(leeds.report()).status_code == 200
    assert thief.post_report(thief.report()).status_code == 401
    assert world.admin.call("DELETE", "/api/v1/sites/leeds/alarm").json()["alarm"] == ""


def test_a_second_token_made_before_the_join_does_not_let_a_second_agent_in(world):
    tokens = [world.admin.post("/api/v1/sites", {"name": "leeds"}).json()["join_token"]]
    tokens.append(world.admin.post("/api/v1/sites/leeds/join-token").json()["join_token"])
    assert Agent(world, "leeds").join(tokens[0]).status_code == 200
    reply = Agent(world, "leeds").join(tokens[1])
    assert (reply.status_code, reply.json()["code"]) == (409, "already-joined")
    assert alarm_of(world)
    assert world.admin.post("/api/v1/sites/leeds/join-token").json()["code"] == "already-joined"


def test_an_expired_and_an_invented_join_token_are_told_apart(world):
    token = world.admin.post("/api/v1/sites", {"name": "leeds"}).json()["join_token"]
    world.clock.tick(3601)
    expired = Agent(world, "leeds").join(token)
    assert (expired.status_code, expired.json()["code"]) == (401, "join-token-expired")
    assert "join-token" in expired.json()["hint"]
    assert Agent(world, "leeds").join("insitu-join_guess").json()["code"] == "join-token"
    assert alarm_of(world) == ""


# -- problems ----------------------------------------------------------------------------------------------------------


def test_every_error_is_a_problem_document(world):
    replies = [
        world.client.get("/api/v1/jobs"),
        world.admin.get("/api/v1/jobs/j-nope"),
        world.admin.get("/api/v1/nowhere"),
        world.admin.call("PATCH", "/api/v1/jobs"),
        world.admin.post("/api/v1/sites", {"nome": "leeds"}),
        world.admin.post("/api/v1/sites", {"name": "Not A Name"}),
        world.admin.get("/api/v1/jobs?limit=0"),
        world.admin.call("POST", "/api/v1/sites", content=b"{", headers={"Content-Type": "application/json"}),
    ]
    assert [reply.status_code for reply in replies] == [401, 404, 404, 405, 422, 422, 422, 422]
    for reply in replies:
        assert reply.headers["content-type"] == "application/problem+json"
        document = reply.json()
        assert document["status"] == reply.status_code
        assert document["code"]
        assert document["what"]


def test_what_nobody_foresaw_is_answered_with_a_trace_and_nothing_else(world, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("secret-in-a-message")

    monkeypatch.setattr("insitu.hub.actions.sites.list_sites", fail)
    reply = world.admin.get("/api/v1/sites")
    assert (reply.status_code, reply.json()["code"]) == (500, "internal")
    assert reply.json()["trace"]
    assert "secret-in-a-message" not in reply.text
    assert reply.json()["trace"] in caplog.text


def test_a_value_that_no_column_holds_is_the_callers_mistake(world):
    alice, leeds = world.person("alice"), world.site()
    assert alice.get(f"/api/v1/jobs/{'9' * 4000}").status_code == 404
    assert alice.get("/api/v1/models/m/versions/99999999999999999999").status_code == 422
    job_id = a_running_job(world, alice, leeds)
    told = leeds.post_events(job_id, [{"kind": "log", "stream": "stdout", "text": "x"}], entry=2**70)
    assert (told.status_code, told.json()["code"]) == (422, "unstorable")


def test_a_document_that_is_too_large_is_refused_while_it_arrives(world):
    leeds = world.site()
    reply = leeds.call("POST", "/agent/v1/events", content=b"x" * (world.settings.max_body_bytes + 1))
    assert (reply.status_code, reply.json()["code"]) == (422, "too-large")


def test_operation_ids_are_stable_and_every_path_is_described(world):
    document = world.client.get("/openapi.json").json()
    ids = [call["operationId"] for path in document["paths"].values() for call in path.values()]
    assert len(ids) == len(set(ids))
    assert {"submit_job", "list_jobs", "create_site", "join_site", "put_deployment", "build_image"} < set(ids)
