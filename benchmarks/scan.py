"""The gate's own speed: the scan for known bytes, making an index, one judgement, and log lines.

The scan is over 100 MB of float32 weights in safetensors against ten million
fingerprints, on one core, with nothing to be found: the usual case, and the one where
nothing ends early. Its reference is a copy of the same bytes. It is shown twice: by
itself, which the goal is about, and as the gate runs it, with all that the readers
look for in such a file beside (tensors, files inside it, streams in the bits of its
numbers), which takes five times as long. Where a goal is a
figure and no ratio, the reference is that figure.

Indexing is of a table such as hospitals have: names, dates, categories, whole numbers and
decimals, from the file to the finished index on disk, in the default memory.
A judgement is the whole process: opening the index, reading, rewriting, scanning,
deciding. At a site the interpreter has started and imported before (`JudgePool`), so
that is the figure with the goal; the one from nothing stands beside it.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from benchmarks.figures import Goal, Row, in_turns, milliseconds, seconds
from benchmarks.scene import Scene
from insitu.domain.outputs import OutputContract, OutputType, ReleaseContract
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.logs import LogBudget, LogGate
from insitu.gate.contents import Contents
from insitu.gate.effort import Effort, Limits
from insitu.gate.judgement import Candidate, JudgeRequest, judge_request_json, parse_judge_reply
from insitu.gate.known.content import ContentScan
from insitu.gate.known.data import KnownData, build_index
from insitu.gate.known.fingerprints import CERTAIN_BYTES, PROBE_STEP, FingerprintSet, fingerprints_of
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT, load_policy
from insitu.gate.readers.any import read_any

_ROUNDS = 7
_MB = 1_000_000
_SCANNED = 100 * _MB
_FINGERPRINTS = 10_000_000
_ROWS = 200_000
_LINES = 5_000
_AT_ONCE = 50  # as they come through a pipe
_UNTIL_IT_WAITS_S = 2.0
_CITIES = ("Leeds", "York", "Hull", "Ripon")


def measure(scene: Scene) -> Iterator[Row]:
    folder = scene.fresh_folder("scan")
    yield from _scan(scene, folder)
    yield from _index(scene, folder)
    yield from _judgement(scene, folder)
    yield from _logs(scene, folder)


def _scan(scene: Scene, folder: Path) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    known = _known(folder, FingerprintSet.of(rng.integers(0, 2**64, _FINGERPRINTS, dtype=np.uint64)))
    layers = {f"layer {at}": rng.normal(size=(_SCANNED // 40_000, 1000)).astype("f4") for at in range(10)}
    weights = save(layers)
    raw = np.frombuffer(weights, dtype=np.uint8)
    target = np.empty_like(raw)

    def ours() -> float:
        begun = time.perf_counter()
        hashes = fingerprints_of(known.keys.bytes, raw, PROBE_STEP)
        if sum(len(known.byte_prints.where(some)) for _, some in hashes):
            raise RuntimeError("found what is not there")
        return len(raw) / _MB / (time.perf_counter() - begun)

    def as_it_runs() -> float:
        begun = time.perf_counter()
        effort = Effort(Limits())
        scan = ContentScan(known, effort)
        read_any(weights, "weights", Contents(effort, watch=scan.look_at_bytes))
        if scan.found.runs:
            raise RuntimeError("found what is not there")
        return len(raw) / _MB / (time.perf_counter() - begun)

    def memcpy() -> float:
        return len(raw) / _MB / seconds(lambda: np.copyto(target, raw))

    figure = f"scan of 100 MB, 10 million fingerprints (runs of {CERTAIN_BYTES} bytes for certain)"
    yield Row(figure, "MB/s", *_against(in_turns(scene.rounds(_ROUNDS), ours, memcpy), "memcpy"), Goal(at_least=0.03))
    both = in_turns(scene.rounds(5), as_it_runs, memcpy)
    yield Row("… with all that is looked for in such a file", "MB/s", *_against(both, "memcpy"))


def _known(folder: Path, fingerprints: FingerprintSet) -> KnownData:
    """An index that holds so many fingerprints of bytes: of nothing, since making them takes long and tells nothing."""
    some, index = folder / "some.bin", folder / "some"
    some.write_bytes(np.random.default_rng(1).bytes(10_000))
    index.mkdir()
    build_index([some], "files", index, b"key of the bench")
    known = KnownData.open(index)
    known.byte_prints = fingerprints
    return known


def _against(
    samples: tuple[tuple[float, ...], tuple[float, ...]], what: str
) -> tuple[tuple[float, ...], str, tuple[float, ...]]:
    return samples[0], what, samples[1]


def _index(scene: Scene, folder: Path) -> Iterator[Row]:
    table = folder / "table.csv"
    _write_table(table)
    size = table.stat().st_size / _MB

    def ours() -> float:
        out = scene.fresh_folder("index")
        return size / seconds(lambda: build_index([table], "csv", out, b"key of the bench"))

    def reader() -> float:
        begun = time.perf_counter()
        with table.open(newline="", encoding="utf-8") as stream:
            for _ in csv.reader(stream):
                pass
        return size / (time.perf_counter() - begun)

    built, read = in_turns(scene.rounds(5), ours, reader)
    yield Row(f"index of {size:.0f} MB of CSV", "MB/s", built, "50 MB/s", (50.0,), Goal(at_least=1.0))
    yield Row("… against reading it alone", "MB/s", built, "Python's csv.reader", read)


def _write_table(path: Path) -> None:
    rng = np.random.default_rng(0)
    decimals, whole = rng.normal(size=(_ROWS, 8)) * 100, rng.integers(0, 500, (_ROWS, 6))
    with path.open("w", encoding="utf-8") as out:
        names = [*(f"measure_{at}" for at in range(8)), *(f"count_{at}" for at in range(6))]
        out.write(",".join(["id", "name", "born", "city", *names]) + "\n")
        for row, (floats, counts) in enumerate(zip(decimals.tolist(), whole.tolist(), strict=True)):
            person = f"P{row:07d},Name{row * 7919 % 99991} Surname,19{row % 90 + 10}-0{row % 9 + 1}-1{row % 10}"
            values = ",".join([*(f"{value:.4f}" for value in floats), *map(str, counts)])
            out.write(f"{person},{_CITIES[row % 4]},{values}\n")


def _judgement(scene: Scene, folder: Path) -> Iterator[Row]:
    request = _request(folder)
    rounds = scene.rounds(_ROUNDS)
    _judge_now(request)
    waiting = milliseconds([_judge_waiting(request) for _ in range(rounds)])
    yield Row("gate of a clean small model, a judge waits", "ms", waiting, "300 ms", (300.0,), Goal(at_most=1.0))
    cold = milliseconds([seconds(lambda: _judge_now(request)) for _ in range(rounds)])
    yield Row("… from nothing", "ms", cold, "300 ms", (300.0,))


def _request(folder: Path) -> bytes:
    # Here, since the imports of scikit-learn take seconds that the other benches need not wait for.
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    from tests.unit.gate.gate_world import PACKAGES, index_of, model_folder, skops_bytes, training, wdbc  # noqa: PLC0415

    features, labels = training()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
    kind = OutputType.MLFLOW_MODEL
    out = folder / "out"
    out.mkdir()
    request = JudgeRequest(
        policy=DEFAULT_POLICY_TEXT,
        contract=ReleaseContract(outputs=(OutputContract("model", kind),)),
        candidates=(Candidate("model", kind, model_folder(folder / "model", skops_bytes(model))),),
        index_dirs=(index_of(wdbc(), folder / "wdbc"),),
        lock_packages=PACKAGES,
        out_dir=out,
        in_envelope=True,
    )
    return judge_request_json(request).encode()


_JUDGE = [sys.executable, "-P", "-m", "insitu.gate.judge"]


def _judge_now(request: bytes) -> None:
    done = subprocess.run(_JUDGE, input=request, capture_output=True, check=True)
    _check(done.stdout)


def _judge_waiting(request: bytes) -> float:
    """Seconds from the question to the answer of a process that has imported all it needs."""
    with subprocess.Popen(_JUDGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        time.sleep(_UNTIL_IT_WAITS_S)
        begun = time.perf_counter()
        answer, _ = process.communicate(request, timeout=60)
        took = time.perf_counter() - begun
    _check(answer)
    return took


def _check(answer: bytes) -> None:
    (decision,) = parse_judge_reply(answer.decode())
    if decision.not_checked or any(finding.rule.startswith(("rows", "known")) for finding in decision.findings):
        raise RuntimeError(f"the bench's model is not clean: {decision.rule}")


def _logs(scene: Scene, folder: Path) -> Iterator[Row]:
    known = KnownData.open(folder / "wdbc")
    rules = load_policy(DEFAULT_POLICY_TEXT.replace("mode: held", "mode: scanned")).release
    lines = [f"epoch {at}: loss={1 / (at + 1):.4f} val_auc={0.9 + at / 1e5:.4f} lr=0.001" for at in range(_LINES)]

    def ours() -> float:
        gate = LogGate(rules, LiveEvidence([known]), LogBudget(1 << 30, per_second=10**9))
        now = datetime.now(UTC)
        begun = time.perf_counter()
        for start in range(0, len(lines), _AT_ONCE):
            gate.lines(lines[start : start + _AT_ONCE], now)
        return len(lines) / (time.perf_counter() - begun)

    ours()
    samples = tuple(ours() for _ in range(scene.rounds(_ROUNDS)))
    yield Row("log lines, scanned", "lines/s", samples, "20,000 a second", (20_000.0,), Goal(at_least=1.0))
