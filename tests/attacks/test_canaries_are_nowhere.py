"""A job says what it read in every way it can think of. Afterwards no byte of it may lie beyond the site.

Every file of the hub is read (database, MLflow's store, artifacts, blobs, logs), every line that the site's ledger and
journals hold of what was sent, and every byte that went over the wire between agent and hub, either way and in the
clear, for each canary as it is, backwards and in the usual encodings.
"""

from __future__ import annotations

import base64
import csv
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.recording_proxy import Recorded, recording_proxy
from tests.rig import World, running_world

ROWS = 300
OUTPUTS = "{table: {type: uri_file, max_bytes: 1MB}}"

SCRIPT = r"""
import base64, csv, glob, json, os, sys, urllib.parse, urllib.request

rows = list(csv.DictReader(open(glob.glob("/job/inputs/patients/*")[0])))
run, address = os.environ["MLFLOW_RUN_ID"], os.environ["MLFLOW_TRACKING_URI"]


def call(path, method="POST", **body):
    data = body.pop("raw", None) or json.dumps(body).encode()
    asked = urllib.request.Request(address + path, data=data, method=method)
    asked.add_header("Content-Type", "application/json")
    try:
        return urllib.request.urlopen(asked, timeout=20).read()
    except urllib.error.HTTPError as refused:
        return refused.read()


api = "/api/2.0/mlflow/"
for number, row in enumerate(rows[:40]):
    text = ",".join(row.values())
    print(text)
    print(text[::-1])
    print(*row.values(), sep="\n")
    for encoded in (base64.b64encode(text.encode()), base64.b32encode(text.encode()), text.encode().hex().encode()):
        encoded = encoded.decode()
        print(encoded)
        print(" ".join(encoded[at : at + 4] for at in range(0, len(encoded), 4)))
    print(urllib.parse.quote(text), file=sys.stderr)
    print(json.dumps(row), file=sys.stderr)
    for key in (row["name"], row["code"], "training_" + row["code"], "training_" + row["name"].replace(" ", "_")):
        call(api + "runs/log-metric", run_id=run, key=key, value=float(row["level"]), timestamp=number, step=number)
    for name in ("level", "dose", "marker"):
        call(api + "runs/log-metric", run_id=run, key="auc", value=float(row[name]), timestamp=number, step=number)
    call(api + "runs/log-parameter", run_id=run, key=f"p{number}", value=text)
    call(api + "runs/log-parameter", run_id=run, key=row["name"], value="1")
    call(api + "runs/set-tag", run_id=run, key=f"t{number}", value=json.dumps(row))
    call(api + "runs/set-tag", run_id=run, key="mlflow.note.content", value=text)
    call(api + "runs/create", experiment_id="1", run_name=text)
    call(api + "experiments/create", name=text)
    call(api + "runs/update", run_id=run, run_name=text)
    call(api + "registered-models/create", name=row["name"])
    call(api + "model-versions/create", name=row["name"], source=text, description=text)
    call(api + "logged-models", experiment_id="1", name=row["code"], params=[{"key": "row", "value": text}])
    call(api + "artifacts/" + urllib.parse.quote(text), method="GET")
    place = "/api/2.0/mlflow-artifacts/artifacts/1/" + run + "/artifacts/" + urllib.parse.quote(row["name"]) + ".txt"
    call(place, method="PUT", raw=text.encode())
out = os.environ["INSITU_OUTPUTS"]
for row in rows[:40]:
    open(f"{out}/{row['name']}.txt", "w").write(json.dumps(row))
os.makedirs(f"{out}/table", exist_ok=True)
with open(f"{out}/table/{rows[0]['code']}.csv", "w") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
"""

ENDING = r"""
kind = type(rows[1]["name"].replace(" ", ""), (ValueError,), {})
exec(compile("def " + rows[2]["name"].replace(" ", "_") + "():\n raise kind(str(rows[3]))", rows[4]["code"], "exec"))
try:
    locals()[rows[2]["name"].replace(" ", "_")]()
except ValueError as raised:
    raise kind(json.dumps(rows[5])) from raised
"""


def table() -> list[dict[str, str]]:
    syllables = ("zu", "qua", "vex", "jor", "mib", "tyn", "gax", "hol")
    names = [f"{one}{two}{three}" for one in syllables for two in syllables for three in syllables]
    return [
        {
            "name": f"{names[at].capitalize()} {names[-at - 1].capitalize()}",
            "code": f"QX{at * 7919 % 100_003:06d}",
            "level": f"{at * 6007 % 9973 + 0.137 * at + 10_000:.3f}",
            "dose": f"{at * 4999 % 887 + 0.0713 * at:.4f}",
            "marker": f"{at * 3001 % 97 + 0.00517 * at:.5f}",
        }
        for at in range(1, ROWS + 1)
    ]


def canaries() -> list[str]:
    """What no chance puts anywhere: names, codes, and numbers with all their digits."""
    return [row[name] for row in table()[:40] for name in ("name", "code", "level")]


def disguises(canary: str) -> Iterator[bytes]:
    plain = canary.encode()
    yield from (plain, plain[::-1], plain.lower(), canary.replace(" ", "_").lower().encode(), quote(canary).encode())
    yield from (plain.hex().encode(), canary.encode("utf-16-le"), base64.b32encode(plain).rstrip(b"=")[:-1])
    for shift in range(3):
        yield base64.b64encode(b"_" * shift + plain)[4 if shift else 0 : -4]
    if canary[0].isdigit():
        yield struct.pack("<d", float(canary))
        yield struct.pack(">d", float(canary))


def found_in(data: bytes) -> set[str]:
    lowered = data.lower()
    return {
        canary
        for canary in canaries()
        for form in disguises(canary)
        if len(form) >= 8 and (form in data or form in lowered)
    }


def files_below(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def seen_in(paths: Iterator[Path]) -> dict[str, set[str]]:
    return {str(path): found for path in paths if (found := found_in(path.read_bytes()))}


@pytest.fixture(scope="module")
def wire() -> list[Recorded]:
    """What went between agent and hub; one proxy, once there is a world."""
    return []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, base_layout: Path, wire: list[Recorded]) -> Iterator[World]:
    with ExitStack() as stack:

        def between(url: str) -> str:
            wire.append(stack.enter_context(recording_proxy(urlsplit(url).port or 0)))
            return f"http://127.0.0.1:{wire[0].port}"

        running = stack.enter_context(running_world(tmp_path_factory.mktemp("canaries"), base_layout, between=between))
        with (running.folder / "data" / "people.tsv").open("w") as file:
            writer = csv.DictWriter(file, table()[0])
            writer.writeheader()
            writer.writerows(table())
        running.console(
            "data_add", name="wdbc", datastore="private", path="people.tsv", format="csv", description="people"
        )
        running.wait_until(partial(offered, running))
        yield running


def offered(world: World) -> bool:
    return any(one.name == "wdbc" and one.version == 2 for one in world.alice.datasets())


def hostile_job(world: World, script: str) -> str:
    # Code that no cache has: it has to come over the wire.
    folder = world.job_folder(f"{script}\n# {os.urandom(8).hex()}\n", outputs=OUTPUTS)
    job_file = folder / "job.yaml"
    job_file.write_text(job_file.read_text().replace("wdbc@1", "wdbc@2"))
    return world.alice.submit(job_file).id


def test_what_a_hostile_job_read_lies_nowhere_beyond_the_site(world: World) -> None:
    held = hostile_job(world, SCRIPT)
    job = world.alice.wait(held, timeout_s=180)
    assert job.state == "held", f"{job.reason}\n{world.log_text(held)}\n{world.logs()}"
    failed = hostile_job(world, SCRIPT + ENDING)
    assert world.alice.wait(failed, timeout_s=180).state == "failed"

    inside = world.site.jobs / f"{held}-1"
    assert len(seen_in(files_below(inside / "intake"))) >= 3, "the job did say it, and the site has it all"

    beyond = {
        "the hub's folder": files_below(world.folder / "hub"),
        "the hub's log": iter([world.folder / "hub.log"]),
        "the ledger": iter([world.site.ledger]),
        "what was sent": iter([*world.site.jobs.glob("*/journal"), *world.site.jobs.glob("*/intake/events.jsonl")]),
    }
    assert {place: seen_in(paths) for place, paths in beyond.items()} == {place: {} for place in beyond}


def test_what_it_read_went_over_no_wire_between_the_site_and_its_hub(world: World, wire: list[Recorded]) -> None:
    (recorded,) = wire
    sent, answered = recorded.all_sent, recorded.all_answered
    # It is the wire, and in the clear: calls, the code that came, the columns' names, which leave, and what was held.
    for told in (b"POST /agent/v1/sync", b"POST /agent/v1/events", b"GET /agent/v1/blobs/", b'"dose"', b'"held"'):
        assert told in sent, told
    assert b"MLFLOW_TRACKING_URI" in answered
    assert len(sent) > 10_000
    assert found_in(sent) == set()
    assert found_in(answered) == set()
    # And where it would be seen, were it there.
    row = ",".join(table()[3].values())
    assert found_in(sent + row.encode()) == {table()[3][name] for name in ("name", "code", "level")}


def test_nor_does_anybody_get_it_by_asking(world: World) -> None:
    for job in world.alice.jobs():
        told = [
            job.model_dump_json(),
            world.alice.meter(job.id).model_dump_json(),
            *(line.text for line in world.alice.logs(job.id)),
            *(point.model_dump_json() for point in world.alice.metrics(job.id)),
            *(item.model_dump_json() for item in world.alice.egress(job.id)),
        ]
        assert found_in("\n".join(told).encode()) == set()
