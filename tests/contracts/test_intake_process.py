"""An intake as a process: warm pool, HTTP over its socket, streams by descriptor, finish, death, return of an agent."""

import contextlib
import http.client
import json
import os
import signal
import socket
import sys

import pytest

from insitu.domain.errors import UnavailableError
from insitu.gate.channels.code_words import CODE_WORDS, CodeWords, write_code_words
from insitu.gate.known.data import build_index
from insitu.intake.client import WaitingIntake, attach
from tests.unit.intake.served_job import (
    ENVIRONMENT,
    RUN,
    WAIT_S,
    ServedJob,
    a_pool,
    a_request,
)


@pytest.fixture
def start(tmp_path):
    """Starts the intake of one job, with changes to its request."""
    with contextlib.ExitStack() as ends:
        pool = a_pool()
        ends.callback(pool.close)

        def start(**changes) -> ServedJob:
            handle = pool.start(a_request(tmp_path, **changes))
            ends.callback(handle.kill)
            return ServedJob(tmp_path, handle)

        yield start


@pytest.fixture
def job(start) -> ServedJob:
    return start()


# ── From the pool to the end ────────────────────────────────────────────────


def test_a_waiting_process_ends_when_the_agent_is_gone():
    waiting = WaitingIntake([sys.executable, "-m", "insitu.intake"], ENVIRONMENT)
    waiting.let_go()
    assert waiting.process.wait(timeout=WAIT_S) == 0


def test_a_pool_hands_out_processes_that_were_waiting(tmp_path):
    pool = a_pool(1)
    pool.fill()
    (waiting,) = pool._waiting
    handle = pool.start(a_request(tmp_path))
    assert handle.pid == waiting.process.pid
    handle.kill()
    pool.close()


def test_a_pool_replaces_a_waiting_process_that_died(tmp_path):
    pool = a_pool(1)
    pool.fill()
    (waiting,) = pool._waiting
    waiting.process.kill()
    waiting.process.wait()
    handle = pool.start(a_request(tmp_path))
    assert handle.alive()
    handle.kill()
    pool.close()


@pytest.mark.parametrize(
    "changes",
    [{"run_id": "not-hex"}, {"surprise": 1}, {"policy": "version: 1\nunknown_key: 2"}, {"state_dir": "/nowhere"}],
)
def test_a_request_that_is_not_understood_starts_nothing(start, tmp_path, changes):
    with pytest.raises(UnavailableError) as error:
        start(**changes)
    assert error.value.code == "intake-start"
    assert not (tmp_path / "gate.sock").exists()


def test_the_jobs_uid_may_connect_to_its_socket_and_to_nothing_else(job):
    assert (job.folder / "gate.sock").stat().st_mode & 0o777 == 0o666
    assert (job.folder / "control.sock").stat().st_mode & 0o777 == 0o600


def test_finish_writes_the_documents_and_ends_the_process(job):
    job.log_metric(0.123456)
    job.log_metric(1.0, key="undeclared")
    last = job.handle.finish(reason="succeeded", timeout_s=WAIT_S)
    assert not job.handle.alive()
    kinds = [(event.seq, event.kind) for event in job.events()]
    assert kinds == [(1, "metric"), (2, "log"), (3, "kept")]
    summary = job.document("summary.json")
    assert (summary["last_seq"], summary["reason"], last) == (3, "succeeded", 3)
    assert summary["kept"] == {"metric": 1}
    assert job.document("artifacts.json")["outputs"] == {}


def test_what_may_leave_is_rounded_by_the_sites_policy(job):
    job.log_metric(0.123456789)
    with contextlib.closing(job.http()) as connection:
        job.settled(connection)
    assert [event.value for event in job.of_kind("metric")] == [0.1235]


def test_a_killed_process_leaves_whole_lines_and_an_error_for_the_agent(job):
    for step in range(50):
        job.log_metric(float(step), step=step)
    assert job.handle.wait_seq(49, timeout_s=WAIT_S) == 50
    os.kill(job.handle.pid, signal.SIGKILL)
    with pytest.raises(UnavailableError):
        job.handle.finish(timeout_s=WAIT_S)
    assert [event.step for event in job.of_kind("metric")] == list(range(50))


def test_a_process_whose_folder_is_removed_ends_since_nobody_comes_back_for_it(job):
    (job.folder / "control.sock").unlink()
    assert job.handle._process.wait(timeout=WAIT_S) == 1


# ── The agent's side ────────────────────────────────────────────────────────


def test_an_agent_is_told_of_growth_and_a_slow_one_of_the_newest_number(job):
    job.handle.connect()
    for step in range(30):
        job.log_metric(float(step), step=step)
    assert job.handle.wait_seq(29, timeout_s=WAIT_S) == 30
    assert job.handle.wait_seq(30, timeout_s=0) == 30


def test_an_agent_that_comes_back_takes_the_job_up_again(job):
    job.handle.connect()
    job.log_metric(0.5)
    job.handle.close()  # as if the agent had been killed
    job.log_metric(0.6, step=1)
    again = attach(job.folder / "control.sock")
    assert again.alive()
    assert again.pid == job.handle.pid
    assert again.wait_seq(1, timeout_s=WAIT_S) == 2
    assert again.finish(timeout_s=WAIT_S) == 2
    job.handle._process.wait(timeout=WAIT_S)
    assert not again.alive()


def test_nobody_can_be_attached_to_where_nobody_listens(tmp_path):
    with pytest.raises(UnavailableError) as error:
        attach(tmp_path / "control.sock")
    assert error.value.code == "intake-gone"


@pytest.mark.parametrize(
    "order", [b"{}\n", b"nonsense\n", b'{"op":"fly"}\n', b"[" * 50_000 + b"\n", b"[]\n", b'{"op":{}}\n']
)
def test_an_order_that_is_none_is_answered_and_the_job_goes_on(job, order):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(WAIT_S)
        peer.connect(str(job.folder / "control.sock"))
        peer.sendall(order)
        replies = peer.makefile("rb")
        assert json.loads(replies.readline()) == {"seq": 0}
        assert "error" in json.loads(replies.readline())
        replies.close()
    job.log_metric(0.5)


# ── The gate inside the sandbox ─────────────────────────────────────────────


def give_gate(job, fd: int) -> dict:
    """What the intake answers to a keeper that brings a descriptor with the word `gate`."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(WAIT_S)
        peer.connect(str(job.folder / "control.sock"))
        socket.send_fds(peer, [b"gate"], [fd])
        with peer.makefile("rb") as replies:
            messages = (json.loads(line) for line in replies)
            return next(message for message in messages if "seq" not in message)


def log_metric_through(gate: socket.socket) -> int:
    connection = http.client.HTTPConnection(*gate.getsockname(), timeout=WAIT_S)
    body = json.dumps({"run_id": RUN, "key": "auc", "value": 0.5, "timestamp": 1, "step": 0})
    with contextlib.closing(connection):
        connection.request("POST", "/api/2.0/mlflow/runs/log-metric", body)
        return connection.getresponse().status


@pytest.mark.parametrize("attempt", range(3))
def test_calls_are_taken_from_the_socket_that_listens_inside(job, attempt):
    with socket.create_server(("127.0.0.1", 0)) as gate:  # at once, while the rules are still being made
        assert give_gate(job, gate.fileno()) == {"gate": True}
        assert log_metric_through(gate) == 200
    assert job.handle.finish(timeout_s=WAIT_S) == 1


def test_a_socket_that_listens_may_be_brought_later(job):
    job.log_metric(0.25)
    with socket.create_server(("127.0.0.1", 0)) as gate:
        assert give_gate(job, gate.fileno()) == {"gate": True}
        assert log_metric_through(gate) == 200
    assert job.handle.finish(timeout_s=WAIT_S) == 2


def test_a_gate_is_taken_once_and_only_if_it_listens(job):
    reading, writing = os.pipe()
    with socket.socket() as deaf, socket.create_server(("127.0.0.1", 0)) as gate:
        for fd in (reading, writing, deaf.fileno()):
            assert "error" in give_gate(job, fd)
        assert give_gate(job, gate.fileno()) == {"gate": True}
        assert "error" in give_gate(job, gate.fileno())
        assert log_metric_through(gate) == 200
    os.close(reading)
    os.close(writing)


# ── Streams ─────────────────────────────────────────────────────────────────


def test_lines_of_both_streams_become_events_while_the_job_runs(job):
    stdout, stderr = job.give_streams()
    os.write(stdout, b"epoch 1\nepo")
    assert job.handle.wait_seq(0, timeout_s=WAIT_S) == 1
    os.write(stderr, b"a warning\n")
    assert job.handle.wait_seq(1, timeout_s=WAIT_S) == 2
    os.write(stdout, b"ch 2")
    os.close(stdout)
    os.close(stderr)
    job.handle.finish(timeout_s=WAIT_S)
    said = [(event.stream, event.text) for event in job.of_kind("log")]
    assert said == [("stdout", "epoch 1"), ("stderr", "a warning"), ("stdout", "epoch 2")]
    assert (job.folder / "logs" / "stdout.log").read_bytes() == b"epoch 1\nepoch 2"
    assert job.document("summary.json")["streams"]["stdout"]["lines"] == 2


def test_finish_takes_in_what_was_written_before_it(job):
    stdout, stderr = job.give_streams()
    for number in range(200):
        os.write(stdout, b"line %d\n" % number)
    os.close(stdout)
    os.close(stderr)
    job.handle.finish(timeout_s=WAIT_S)
    assert job.document("summary.json")["streams"]["stdout"]["lines"] == 200


def test_finish_does_not_wait_for_ever_for_a_stream_that_somebody_holds(job):
    stdout, stderr = job.give_streams()
    os.write(stdout, b"last words")
    job.handle.finish(timeout_s=WAIT_S)
    assert [event.text for event in job.of_kind("log")] == ["last words"]
    os.close(stdout)
    os.close(stderr)


def test_streams_are_taken_once_and_only_as_two_descriptors(job):
    stdout, stderr = job.give_streams()
    os.write(stdout, b"mine\n")
    assert job.handle.wait_seq(0, timeout_s=WAIT_S) == 1
    read, write = os.pipe()
    for fds in ([read, write], [read]):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(WAIT_S)
            peer.connect(str(job.folder / "control.sock"))
            socket.send_fds(peer, [b"streams"], fds)
            replies = peer.makefile("rb")
            replies.readline()
            assert "error" in json.loads(replies.readline())
            replies.close()
    for fd in (read, write, stdout, stderr):
        os.close(fd)


def test_what_is_kept_of_a_stream_for_the_steward_is_bounded(start):
    job = start(limits={"log_bytes": 1000})
    stdout, stderr = job.give_streams()
    for _ in range(100):
        os.write(stdout, b"x" * 99 + b"\n")
    os.close(stdout)
    os.close(stderr)
    job.handle.finish(timeout_s=WAIT_S)
    assert (job.folder / "logs" / "stdout.log").stat().st_size == 1000
    assert job.document("summary.json")["streams"]["stdout"]["size_bytes"] == 10_000


# ── The gate's rules, over a real dataset ───────────────────────────────────


@pytest.fixture
def index(tmp_path):
    """An index of 200 patients of whom no two are alike."""
    table = tmp_path / "patients.csv"
    rows = [f"{4000 + 7 * at},{at * 0.7301 + 11.03:.4f},{at * 1.9177 + 3.01:.4f},patient {at}" for at in range(200)]
    table.write_text("\n".join(["id,glucose,weight,name", *rows, ""]))
    folder = tmp_path / "index"
    folder.mkdir()
    build_index([table], "csv", folder, b"k" * 32)
    return folder


def test_a_printed_row_of_the_dataset_does_not_leave(start, index):
    job = start(index_dirs=[str(index)])
    stdout, stderr = job.give_streams()
    os.write(stdout, b"epoch 1: loss 0.25\n 17  4119  23.4417  35.6109  patient 17\nepoch 2: loss 0.125\n")
    os.close(stdout)
    os.close(stderr)
    job.handle.finish(timeout_s=WAIT_S)
    told = [event.text for event in job.of_kind("log")]
    assert told[:2] == ["epoch 1: loss 0.25", "epoch 2: loss 0.125"]
    assert told[2:] == ["at least 1 × log line stayed at the site, rule rows-in-line: don't print data"]
    assert job.document("summary.json")["kept_by_rule"] == {"log line: rows-in-line": 1}
    assert b"patient 17" in (job.folder / "logs" / "stdout.log").read_bytes()


def test_of_a_traceback_only_type_and_own_frames_leave(start, tmp_path):
    lines = ["def fit(model, rows):", *["    ..."] * 7, "    model.fit(rows)"]
    signed = CodeWords({"train.py": len(lines)}, frozenset({"def", "fit", "model", "rows"}))
    write_code_words(signed, tmp_path / CODE_WORDS)
    job = start()
    stdout, stderr = job.give_streams()
    os.write(
        stderr,
        b'Traceback (most recent call last):\n  File "/job/code/train.py", line 9, in fit\n    model.fit(rows)\n'
        b'  File "/opt/env/lib/python3.11/site-packages/x.py", line 1, in check\n    raise ValueError(rows)\n'
        b"ValueError: patient 17 has glucose 23.4417\n",
    )
    os.close(stdout)
    os.close(stderr)
    job.handle.finish(timeout_s=WAIT_S)
    said = "\n".join(event.text for event in job.of_kind("log"))
    assert "ValueError" in said
    assert "train.py" in said
    assert "patient" not in said
    assert "site-packages" not in said


def test_a_damaged_index_starts_nothing(start, index):
    (index / "meta.json").write_text("{")
    with pytest.raises(UnavailableError) as error:
        start(index_dirs=[str(index)])
    assert error.value.code == "intake-start"


# ── HTTP ────────────────────────────────────────────────────────────────────


def test_many_calls_go_over_one_connection(job):
    with contextlib.closing(job.http()) as connection:
        for step in range(20):
            body = {"run_id": RUN, "key": "loss", "value": 1.0, "timestamp": 1, "step": step}
            connection.request("POST", "/api/2.0/mlflow/runs/log-metric", json.dumps(body).encode())
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"{}")
        job.settled(connection)
    assert len(job.of_kind("metric")) == 20


def test_an_event_is_in_the_file_before_the_scripts_next_call_is_answered(job):
    with contextlib.closing(job.http()) as connection:
        for step in range(20):
            job.log_metric(0.5, step=step)
            job.settled(connection)
            assert len(job.of_kind("metric")) == step + 1


def test_a_body_over_the_bound_is_read_to_its_end_and_refused(start):
    job = start(limits={"request_bytes": 1024})
    with contextlib.closing(job.http()) as connection:
        connection.request("POST", "/api/2.0/mlflow/runs/log-batch", b"x" * 5_000_000)
        response = connection.getresponse()
        assert response.status == 413
        assert json.loads(response.read())["error_code"] == "REQUEST_TOO_LARGE"
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b"OK"


def test_an_artifact_is_streamed_in_and_out(job):
    data = os.urandom(3_000_000)
    path = f"/api/2.0/mlflow-artifacts/artifacts/1/{RUN}/artifacts/sub%20folder/weights.bin"
    with contextlib.closing(job.http()) as connection:
        connection.request(
            "PUT", path, iter([data[:1], data[1:]]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
        )
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"{}")
        connection.request("GET", path)
        assert connection.getresponse().read() == data
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b"OK"
    assert (job.folder / "artifacts" / "runs" / RUN / "sub folder" / "weights.bin").read_bytes() == data


@pytest.mark.parametrize("size", [0, 1, 1_000, 300_000])
def test_an_artifact_is_one_answer_however_soon_it_is_gone(job, size):
    """A short file is sent whole before its call's handling ends: nothing may follow it that the next call would read."""
    path = f"/api/2.0/mlflow-artifacts/artifacts/1/{RUN}/artifacts/notes.txt"
    with contextlib.closing(job.http()) as connection:
        connection.request("PUT", path, b"x" * size)
        assert connection.getresponse().read() == b"{}"
        for _ in range(3):
            connection.request("GET", path)
            assert connection.getresponse().read() == b"x" * size
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b"OK"


def test_an_artifact_over_the_bound_is_refused_in_words_and_not_by_a_broken_connection(start):
    job = start(limits={"artifact_bytes_total": 100})
    with contextlib.closing(job.http()) as connection:
        connection.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/1/{RUN}/artifacts/big", b"x" * 5_000_000)
        response = connection.getresponse()
        assert response.status == 413
        assert "what this site keeps" in json.loads(response.read())["message"]


@pytest.mark.parametrize(
    "path", ["1/../../../../etc/x", f"1/{RUN}/artifacts/../../../x", f"1/{RUN}/artifacts/%2e%2e/x"]
)
def test_an_upload_can_not_climb_out_of_its_folder(job, path):
    before = {file for file in job.folder.rglob("*") if file.is_file()}
    with contextlib.closing(job.http()) as connection:
        connection.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", b"x")
        assert connection.getresponse().status in {400, 404}
    assert {file for file in job.folder.rglob("*") if file.is_file()} == before


def test_an_upload_that_is_broken_off_leaves_no_file(job):
    with contextlib.closing(job.http()) as connection:
        connection.putrequest("PUT", f"/api/2.0/mlflow-artifacts/artifacts/1/{RUN}/artifacts/model")
        connection.putheader("content-length", "1000")
        connection.endheaders(b"half")
    job.handle.finish(timeout_s=WAIT_S)
    assert job.document("artifacts.json")["undeclared"] == []
    assert not (job.folder / "artifacts" / "runs").exists()


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nx: " + b"y" * 300_000, b"BREW / HTTP/9\r\n\r\n"]
)
def test_what_is_not_http_is_cut_off_and_others_are_served(job, noise):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(WAIT_S)
        peer.connect(str(job.folder / "gate.sock"))
        with contextlib.suppress(ConnectionError):
            peer.sendall(noise)
            while peer.recv(1000):
                pass
    job.log_metric(0.5)


def flood(peer: socket.socket, call: bytes) -> None:
    while True:
        peer.sendall(call)


def test_a_peer_that_sends_calls_without_taking_answers_is_cut_off(job):
    for step in range(500):
        job.log_metric(0.5, step=step)
    call = f"GET /api/2.0/mlflow/metrics/get-history?run_id={RUN}&metric_key=auc HTTP/1.1\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(WAIT_S)
        peer.connect(str(job.folder / "gate.sock"))
        with pytest.raises(ConnectionError):
            flood(peer, call * 100)
    job.log_metric(0.7, step=1000)


def test_a_connection_that_asks_to_be_closed_is_closed_after_its_answer(job):
    with contextlib.closing(job.http()) as connection:
        connection.request("GET", "/version", headers={"Connection": "close"})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"3.17.2")
        assert connection.sock is None or connection.sock.recv(1) == b""


def health(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/health")
    return connection.getresponse().read()


def test_more_connections_than_may_be_are_refused_and_the_first_ones_work(job):
    with contextlib.ExitStack() as ends:
        peers = [ends.enter_context(contextlib.closing(job.http())) for _ in range(300)]
        assert health(peers[0]) == b"OK"
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            health(peers[-1])
