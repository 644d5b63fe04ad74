"""Data that a job reads through its gate: ranges, lists, what ordinary libraries make of it, and what it can't reach."""

import http.client
import json
import os
import re
import socket
import threading
import urllib.error
import urllib.request

import pandas as pd
import pytest

from insitu.agent.direct.feed_server import GENEROUS, MOST_AT_ONCE, read_counts
from insitu.agent.staging.digests import BLOCK_BYTES
from insitu.agent.stores.contract import ObjectChangedError, StoreUnreachableError
from insitu.agent.stores.folder import FolderStore
from insitu.intake.feed import Ask, Told, take, tell
from tests.unit.agent.direct_world import a_direct_job

LARGE = os.urandom(3 * BLOCK_BYTES + 12345)
SMALL = b"id,age\n1,34\n2,71\n"
FILES = {"small.csv": SMALL, "large.bin": LARGE, "empty": b"", "unter ordner/größe #1?.csv": SMALL}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One that nothing is done to but asking."""
    with a_direct_job(tmp_path_factory.mktemp("job"), FILES) as found:
        yield found


@pytest.fixture
def own_job(tmp_path):
    with a_direct_job(tmp_path, FILES) as found:
        yield found


def etag_of(job, name):
    return next(one["etag"] for one in job.index() if one["name"] == name)


# -- lists and ranges --------------------------------------------------------------------------------------------------


def test_an_input_lists_its_objects_with_addresses_that_can_be_read(job):
    listed = {one["name"]: one for one in job.index()}
    assert {name: one["size_bytes"] for name, one in listed.items()} == {n: len(data) for n, data in FILES.items()}
    for name, data in FILES.items():
        with urllib.request.urlopen(listed[name]["url"], timeout=30) as response:
            assert response.read() == data


def test_an_input_s_folder_is_a_page_of_links_for_libraries_that_list_by_them(job):
    response, body = job.get("patients/")
    links = re.findall(r'href="(/inputs/[^"]+)"', body.decode())
    assert (response.getheader("content-type"), len(links)) == ("text/html", len(FILES))
    assert {job.get(link.removeprefix("/inputs/"))[1] for link in links} == set(FILES.values())


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        (f"bytes={BLOCK_BYTES - 3}-{BLOCK_BYTES + 2}", BLOCK_BYTES - 3, BLOCK_BYTES + 3),
        (f"bytes={BLOCK_BYTES}-{2 * BLOCK_BYTES - 1}", BLOCK_BYTES, 2 * BLOCK_BYTES),
    ],
)
def test_a_range_is_those_bytes(job, wanted, begin, end):
    response, body = job.get("patients/large.bin", Range=wanted)
    first = begin % len(LARGE)
    assert (response.status, body == LARGE[begin:end]) == (206, True)
    assert response.getheader("content-range") == f"bytes {first}-{first + len(body) - 1}/{len(LARGE)}"
    assert response.getheader("etag") == f'"{etag_of(job, "large.bin")}"'


def test_a_range_behind_the_end_is_not_satisfiable(job):
    response, body = job.get("patients/small.csv", Range="bytes=17-")
    assert (response.status, response.getheader("content-range"), body) == (416, "bytes */17", b"")


def test_a_head_tells_size_and_tag_and_reads_nothing(job):
    before = dict(job.feed.read_bytes)
    response, body = job.get("patients/large.bin", method="HEAD")
    assert (response.status, response.getheader("content-length"), body) == (200, str(len(LARGE)), b"")
    assert response.getheader("accept-ranges") == "bytes"
    assert job.get("patients/nothing", method="HEAD")[0].status == 404
    assert job.feed.read_bytes == before


def test_a_tag_that_is_not_the_objects_gets_no_bytes(job):
    assert job.get("patients/small.csv", If_Match='"other"')[0].status == 412
    assert job.get("patients/small.csv", If_Match=f'"{etag_of(job, "small.csv")}"')[1] == SMALL
    assert job.get("patients/small.csv", Range="bytes=0-1", If_Range='"other"')[0].status == 200


def test_one_connection_serves_many_reads_and_the_gates_own_calls_between_them(own_job):
    for _ in range(3):
        assert own_job.get("patients/small.csv")[1] == SMALL
        connection = own_job.connections[0]
        connection.request("GET", "/version")
        assert connection.getresponse().read().startswith(b"3.")
    assert len(own_job.connections) == 1


def test_what_was_read_is_counted_and_counted_on_after_a_restart(own_job, tmp_path):
    own_job.get("patients/large.bin")
    own_job.get("patients/small.csv", Range="bytes=0-3")
    own_job.feed.stop()
    assert own_job.feed.read_bytes == {"wdbc@1": len(LARGE) + 4}
    assert read_counts(tmp_path / "read.json") == {"wdbc@1": len(LARGE) + 4}


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["patients/no.csv", "patients/../patients/small.csv", "others", "others/small.csv"])
def test_what_was_not_granted_is_not_there(job, path):
    before = dict(job.feed.read_bytes)
    response, body = job.get(path)
    assert response.status == 404
    assert json.loads(body)["message"] == response.reason
    assert job.feed.read_bytes == before


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
def test_an_input_can_only_be_read(job, method):
    assert job.get("patients/small.csv", method=method)[0].status == 405


def test_an_object_that_changed_is_not_read_and_the_error_says_so(own_job):
    (own_job.data / "small.csv").write_bytes(SMALL.replace(b"34", b"35"))
    url = f"{own_job.url}/small.csv"
    with pytest.raises(urllib.error.HTTPError, match=r"409: an object of wdbc@1 is not what it was when it was added"):
        urllib.request.urlopen(url, timeout=30)
    assert isinstance(own_job.feed.problem, ObjectChangedError)
    assert "small.csv" in str(own_job.feed.problem)


class Liar(FolderStore):
    """Bytes that changed below an ETag that did not."""

    lies = False
    away = False

    def read(self, name, start, length, *, etag=""):
        if self.away:
            raise StoreUnreachableError("nobody answers at https://store.example/?sig=secret")
        data = super().read(name, start, length, etag=etag)
        return bytes(length) if self.lies and start >= BLOCK_BYTES else data

    def stream(self, name, *, start=0, length=None, etag="", reuse=None):
        at = start
        for piece in super().stream(name, start=start, length=length, etag=etag):
            yield bytes(len(piece)) if self.lies and at >= BLOCK_BYTES else piece
            at += len(piece)


@pytest.fixture
def lying(tmp_path):
    (tmp_path / "data").mkdir()
    store = Liar(tmp_path / "data")
    with a_direct_job(tmp_path, FILES, store=store) as found:
        yield found, store


def test_a_block_that_is_not_its_digest_is_never_given_though_its_tag_is_the_same(lying):
    job, store = lying
    store.lies = True
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        urllib.request.urlopen(f"{job.url}/large.bin", timeout=30).read()
    assert job.get("patients/large.bin", Range=f"bytes={BLOCK_BYTES}-{2 * BLOCK_BYTES - 1}")[0].status == 409
    assert job.feed.read_bytes == {"wdbc@1": BLOCK_BYTES}


def test_what_a_store_says_does_not_reach_the_job(lying):
    job, store = lying
    store.away = True
    response, body = job.get("patients/small.csv")
    assert response.status == 502
    assert "datastore did not give an object of wdbc@1" in response.reason
    assert b"secret" not in body
    store.away = False
    assert job.get("patients/small.csv")[1] == SMALL


def test_an_agent_that_is_away_is_an_error_and_its_return_is_noticed(job):
    path = job.feed._path
    away = path.rename(path.with_suffix(".away"))
    assert (job.get("patients/small.csv")[0].status, job.get("patients")[0].status) == (502, 200)
    away.rename(path)
    assert job.get("patients/small.csv")[1] == SMALL


class WaitingStore(FolderStore):
    """Gives nothing before it is let."""

    def __init__(self, folder):
        super().__init__(folder)
        self.asked, self.may_give = threading.Event(), threading.Event()
        self.may_give.set()

    def read(self, *given, **named):
        self.asked.set()
        assert self.may_give.wait(20)
        return super().read(*given, **named)


def test_a_read_that_waits_while_its_agent_stops_is_answered_by_the_next_one(tmp_path):
    (tmp_path / "data").mkdir()
    store = WaitingStore(tmp_path / "data")
    with a_direct_job(tmp_path, FILES, store=store, wait_s=20.0) as job:
        store.asked.clear()
        store.may_give.clear()
        read = []
        reads = threading.Thread(target=lambda: read.append(job.get("patients/small.csv")[1]))
        reads.start()
        assert store.asked.wait(20)
        stops = threading.Thread(target=job.feed.stop)
        stops.start()
        assert job.feed._stopped.wait(20)
        store.may_give.set()
        stops.join(20)
        job.start_feed()
        reads.join(20)
        assert read == [SMALL]


def test_no_read_fails_while_one_agent_follows_another(tmp_path):
    with a_direct_job(tmp_path, FILES, wait_s=20.0) as job:
        over = threading.Event()
        read = []

        def read_on():
            while not over.is_set():
                read.append(job.get("patients/small.csv")[1])

        reads = threading.Thread(target=read_on)
        reads.start()
        feed = job.feed
        for _ in range(15):
            before = len(read)
            while len(read) < before + 3 and reads.is_alive():
                pass
            feed.stop()
            feed = job.start_feed()
        over.set()
        reads.join(20)
        assert len(read) > 45
        assert set(read) == {SMALL}


# -- who asks for what -------------------------------------------------------------------------------------------------


def asked_directly(job, wanted, *, intake=0):
    """What an intake that a job has taken over could send, and what came of it."""
    served, job.pids[0] = job.pids[0], intake or os.getpid()
    ours, theirs = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door, ours, theirs:
        door.connect(str(job.feed._path))
        socket.send_fds(door, [wanted], [theirs.fileno()])
        theirs.close()
        told = door.recv(4096)
        job.pids[0] = served
        ours.settimeout(10)
        return told, ours.recv(100)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "others"},
        {"number": 4},
        {"number": -1},
        {"start": -1},
        {"start": 10, "length": 10**12},
        {"length": 0},
    ],
)
def test_the_agent_gives_an_intake_nothing_but_ranges_of_objects_that_the_job_was_granted(job, fields):
    wanted = {"input": "patients", "number": 1, "start": 0, "length": 5, "head": "", **fields}
    told, bytes_ = asked_directly(job, json.dumps(wanted).encode() + b"\n")
    assert (Told(**json.loads(told)).sent, bytes_) == (0, b"")


@pytest.mark.parametrize(
    "line", [b"{}\n", b"?\n", b'{"input": 1, "number": "1", "start": 0, "length": 1, "head": ""}\n']
)
def test_what_is_no_question_gets_no_answer(job, line):
    assert asked_directly(job, line) == (b"", b"")
    assert job.get("patients/small.csv")[1] == SMALL


def test_the_intake_of_another_job_gets_nothing(job):
    """It runs under the same uid, and may find the socket; the kernel says which process it is."""
    wanted = json.dumps({"input": "patients", "number": 1, "start": 0, "length": 5, "head": ""}).encode() + b"\n"
    assert asked_directly(job, wanted, intake=os.getpid() + 1) == (b"", b"")
    assert asked_directly(job, wanted, intake=os.getpid())[1] == LARGE[:5]


# -- many at once ------------------------------------------------------------------------------------------------------


def test_streams_that_are_read_in_turns_do_not_wait_for_each_other(job):
    streams = [urllib.request.urlopen(f"{job.url}/large.bin", timeout=30) for _ in range(3 * GENEROUS)]
    read = [b""] * len(streams)
    while len(read[-1]) < len(LARGE):
        for number, stream in enumerate(streams):
            read[number] += stream.read(4 << 20)
    for stream in streams:
        stream.close()
    assert all(data == LARGE for data in read)


def test_a_job_that_hangs_up_stops_its_read_and_nobody_elses(job):
    stream = urllib.request.urlopen(f"{job.url}/large.bin", timeout=30)
    stream.read(1000)
    stream.close()
    assert job.get("patients/small.csv")[1] == SMALL


def test_more_streams_than_may_be_are_refused_and_told_why(job):
    streams = [urllib.request.urlopen(f"{job.url}/large.bin", timeout=30) for _ in range(MOST_AT_ONCE)]
    response, _ = job.get("patients/small.csv")
    assert response.status == 502
    assert "end one first" in response.reason
    for stream in streams:
        stream.close()


def test_ending_the_feed_ends_what_is_being_given(own_job):
    stream = urllib.request.urlopen(f"{own_job.url}/large.bin", timeout=30)
    stream.read(1000)
    ended = threading.Thread(target=own_job.feed.stop)
    ended.start()
    ended.join(20)
    assert not ended.is_alive()
    stream.close()


# -- ordinary libraries ------------------------------------------------------------------------------------------------


def test_pandas_reads_a_table_by_its_address(job):

    assert list(pd.read_csv(f"{job.url}/small.csv")["age"]) == [34, 71]


def test_a_request_and_its_connection_travel_together(tmp_path):
    ours, theirs = socket.socketpair()
    left, right = socket.socketpair()
    with ours, theirs, left, right:
        line = json.dumps({"input": "x", "number": 1, "start": 2, "length": 3, "head": "h"}).encode()
        socket.send_fds(ours, [line[:10]], [right.fileno()])
        ours.sendall(line[10:] + b"\n")
        taken = take(theirs)
        assert taken is not None
        asked, connection = taken
        with connection:
            connection.sendall(b"!")
        assert (asked, left.recv(1)) == (Ask("x", 1, 2, 3, "h"), b"!")
        tell(theirs, Told(3))
        assert json.loads(ours.recv(100)) == {"sent": 3, "code": "", "what": ""}
