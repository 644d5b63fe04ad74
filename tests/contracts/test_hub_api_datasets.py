"""What sites tell of their data and their policy, through the API: kept, replaced, shown to people, and to nobody else."""

from datetime import date

import pytest
from sqlalchemy import text

from insitu.wire.datasets import ColumnSummary, ColumnView, DatasetOffer, PublishedGrant, PublishedPolicy
from insitu.wire.people import Role
from tests.unit.hub.hub_world import DATA, a_hub

AGE = ColumnView(name="age", type="int64", sensitivity="personal", summary=ColumnSummary(range=(20, 90), missing="few"))
POLICY = PublishedPolicy(
    version=7,
    rules={"release.metrics.digits": 4, "budget.per_job": 5_000_000, "release.models.formats": ["skops"]},
    datasets={"wdbc": PublishedGrant(purpose="screening", until=date(2027, 6, 30), runs=50)},
)


def an_offer(**changes):
    fields = {"name": "wdbc", "version": 1, "digest": DATA, "rows": "500-999", "columns": [AGE], "format": "csv"}
    return DatasetOffer.model_validate({**fields, "owner": "Leeds General", "minimum_rows": 10, **changes})


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request, tmp_path):
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    with a_hub(tmp_path / "hub", database_url=url) as found:
        yield found


@pytest.fixture
def leeds(world):
    return world.site()


@pytest.fixture
def alice(world):
    return world.person("alice")


def datasets(person):
    return {f"{one['name']}@{one['version']}": one for one in person.get("/api/v1/datasets").json()["items"]}


def test_what_a_site_publishes_is_what_people_see(leeds, alice):
    leeds.sync(datasets=[an_offer(licence="CC-BY-4.0", purpose="screening")])
    seen = datasets(alice)["wdbc@1"]
    assert seen["columns"] == [AGE.model_dump(mode="json")]
    told = ("owner", "licence", "purpose", "format", "minimum_rows", "rows")
    assert [seen[key] for key in told] == ["Leeds General", "CC-BY-4.0", "screening", "csv", 10, "500-999"]


def test_a_changed_publication_replaces_the_one_before_and_keeps_the_time_of_the_others(world, leeds, alice):
    leeds.sync(datasets=[an_offer(), an_offer(version=2)])
    first = datasets(alice)
    world.clock.tick(3600)
    leeds.sync(datasets=[an_offer(), an_offer(version=2, columns=[])])
    now = datasets(alice)
    assert now["wdbc@1"] == first["wdbc@1"]
    assert now["wdbc@2"]["columns"] == []
    assert now["wdbc@2"]["published_at"] > first["wdbc@2"]["published_at"]
    leeds.sync(datasets=[])
    assert datasets(alice) == {}


def test_a_report_that_says_more_than_a_column_may_is_refused_whole(leeds, alice):
    leeds.sync(datasets=[an_offer()])
    report = leeds.report(datasets=[an_offer()]).model_dump(mode="json")
    for told in ({"examples": [1]}, {"minimum": 3}):
        broken = {**report, "datasets": [{**report["datasets"][0], "columns": [AGE.model_dump(mode="json") | told]}]}
        assert leeds.call("POST", "/agent/v1/sync", json=broken).status_code == 422
    assert datasets(alice)["wdbc@1"]["columns"] == [AGE.model_dump(mode="json")]


def test_croissant_of_the_newest_version_or_of_the_one_that_is_named(leeds, alice):
    leeds.sync(datasets=[an_offer(), an_offer(version=2)])
    reply = alice.get("/api/v1/datasets/wdbc/croissant")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/ld+json")
    assert reply.json()["version"] == "2.0.0"
    assert alice.get("/api/v1/datasets/wdbc/croissant?version=1&site=leeds").json()["version"] == "1.0.0"


@pytest.mark.parametrize("query", ["?version=9", "?site=oslo", ""])
def test_croissant_of_what_nobody_offers_is_not_found(leeds, alice, query):
    leeds.sync(datasets=[an_offer()])
    name = "wdbc" if query else "chest-ct"
    reply = alice.get(f"/api/v1/datasets/{name}/croissant{query}")
    assert (reply.status_code, reply.json()["code"]) == (404, "no-dataset")


@pytest.mark.parametrize("query", ["?version=0", "?version=x", f"?version={1 << 40}", f"?site={'x' * 65}"])
def test_bad_input_is_the_callers_mistake(leeds, alice, query):
    assert alice.get(f"/api/v1/datasets/wdbc/croissant{query}").status_code == 422


def test_a_policy_is_shown_as_long_as_its_site_publishes_it(leeds, alice):
    assert alice.get("/api/v1/sites/leeds/policy").json()["code"] == "policy-not-published"
    leeds.sync(policy=POLICY)
    shown = alice.get("/api/v1/sites/leeds/policy")
    assert PublishedPolicy.model_validate(shown.json()["policy"]) == POLICY
    assert alice.get("/api/v1/sites/oslo/policy").status_code == 404
    leeds.sync(policy=None)
    assert alice.get("/api/v1/sites/leeds/policy").status_code == 404


@pytest.mark.parametrize(
    "rules",
    [{"signers.alice": "ed25519:SHA256:x"}, {"review.reviewers.jo": "k"}, {"deployments.max": 1}, {"release.x": {}}],
)
def test_a_policy_that_names_people_is_refused_by_the_hub_as_well(leeds, rules):
    report = leeds.report(policy=POLICY).model_dump(mode="json")
    report["policy"]["rules"] = rules
    assert leeds.call("POST", "/agent/v1/sync", json=report).status_code == 422


@pytest.mark.parametrize("path", ["/api/v1/sites/leeds/policy", "/api/v1/datasets/wdbc/croissant"])
def test_a_stranger_sees_none_of_it_and_every_role_does(world, leeds, path):
    leeds.sync(datasets=[an_offer()], policy=POLICY)
    assert world.client.get(path).status_code == 401
    assert leeds.call("GET", path).status_code == 401, "an agent is not a person"
    for role in Role:
        assert world.person(f"a-{role.value}", role).get(path).status_code == 200


def test_a_neighbour_changes_nothing_of_what_a_site_told(world, leeds, alice):
    leeds.sync(datasets=[an_offer()], policy=POLICY)
    world.site("oslo").sync(datasets=[an_offer(owner="Oslo", columns=[])], policy=None)
    owners = {one["site"]: one["owner"] for one in alice.get("/api/v1/datasets").json()["items"]}
    assert owners == {"leeds": "Leeds General", "oslo": "Oslo"}
    assert alice.get("/api/v1/sites/leeds/policy").status_code == 200


def test_rows_of_a_hub_that_knew_less_are_shown_after_the_migration(world, leeds, alice):
    with world.parts.store.write() as session:
        session.change(
            text(
                "INSERT INTO site_datasets (site, name, version, digest, rows, columns, description) "
                "VALUES ('leeds', 'old', 1, 'd', '<100', '[{\"name\": \"a\", \"type\": \"integer\"}]', '')"
            )
        )
    old = datasets(alice)["old@1"]
    assert (old["owner"], old["minimum_rows"], old["published_at"]) == ("", 0, None)
    assert alice.get("/api/v1/datasets/old/croissant").status_code == 200
