"""The bench's attacks and decoders: each decoder reads its own attack when nobody is at the gate, and invents nothing.

Signals, durations and capacity abuse need a process or minutes of their own: the bench proves those, as it proves all of
these again before it tries them.
"""

import contextlib
import io
import sys
import traceback

import numpy as np
import pytest

from benchmarks.leaks import people
from benchmarks.leaks.attacks.weights import capacity, correlated, dead_neurons, low_bits, signs, spread_spectrum
from benchmarks.leaks.attacks.weights.victim import SIZES
from benchmarks.leaks.attempts import truth
from benchmarks.leaks.cases import attacks
from benchmarks.leaks.inside.channels import Job, WrittenDown
from benchmarks.leaks.inside.networks import fresh
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.open_gate import read_folders, read_record

TRUTH = truth()
NEED_A_PROCESS = {"signals", "durations"}
CASES = [
    pytest.param(case, variant, id=f"{case.name}: {variant}")
    for case in attacks()
    if case.module is not capacity
    for variant in case.variants
    if variant not in NEED_A_PROCESS
]
ON_WEIGHTS = (correlated, dead_neurons, low_bits, signs, spread_spectrum)
ENOUGH = 200  # recovered rows to compare: some decoders give all five thousand


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "people.csv").write_text(people.as_csv())
    return folder


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    """What is hidden in weights is there whatever they were before: training takes minutes and adds nothing here."""
    for module in ON_WEIGHTS:
        monkeypatch.setattr(module, "trained", lambda _job, sizes=SIZES, **_options: fresh(sizes))


def played(case, variant, data, folder, run) -> LetOut:
    """The script in this process, with nobody at the gate."""
    outputs, record = folder / "outputs", folder / "calls.jsonl"
    outputs.mkdir(parents=True)
    job = Job(data, outputs, WrittenDown(record))
    more = {"run": run} if case.takes_runs else {}
    let_out, printed = LetOut(exit_code=0), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            case.module.leak(job, **case.options(variant), **more)
        except SystemExit as end:
            let_out.exit_code = int(end.code or 0)
        except Exception:  # noqa: BLE001 - a script may end with whatever it likes
            sys.stderr.write(traceback.format_exc())
            let_out.exit_code = 1
    let_out.lines = printed.getvalue().splitlines()
    let_out.files = read_folders(outputs)
    read_record(record, let_out)
    return let_out


@pytest.mark.parametrize(("case", "variant"), CASES)
def test_a_decoder_reads_canaries_where_nobody_is_at_the_gate(case, variant, data, tmp_path, caplog):
    let_outs = [played(case, variant, data, tmp_path / str(run), run) for run in range(case.runs(variant))]
    let_outs[0].lines += [
        record.getMessage() for record in caplog.records
    ]  # pytest takes the place of stderr's handler
    given = let_outs if case.takes_runs else let_outs[0]
    assert TRUTH.score(case.module.recover(given, **case.options(variant))[:ENOUGH]).canaries > 0


@pytest.mark.parametrize(("case", "variant"), CASES)
def test_a_decoder_reads_nothing_where_nothing_left(case, variant):
    given = [LetOut() for _ in range(case.runs(variant))] if case.takes_runs else LetOut()
    assert TRUTH.score(case.module.recover(given, **case.options(variant))).rows == 0


def test_every_class_of_the_design_has_its_attacks():
    assert {case.kind for case in attacks()} == {"weights", "objects", "metrics_and_logs", "containers"}
    assert all(case.variants[0] not in getattr(case.module, "BOUNDED", {}) for case in attacks())


def test_guessed_rows_are_no_recovery():
    random = np.random.default_rng(5)
    columns = list(zip(*people.table(), strict=True))
    guesses = [
        {name: str(random.choice(column)) for name, column in zip(people.COLUMNS[9:], columns[9:], strict=True)}
        for _ in range(300)
    ]
    assert TRUTH.score(guesses).rows == 0


def test_a_row_is_recovered_by_five_cells_that_chance_does_not_explain_or_by_an_identifier():
    row = dict(zip(people.COLUMNS, people.table()[1], strict=True))
    measured = {name: float(row[name]) * 1.0001 for name in people.NUMBERS}
    assert TRUTH.score([measured]).canaries == 1
    assert TRUTH.score([{name: measured[name] for name in people.NUMBERS[:4]}]).rows == 0
    assert TRUTH.score([{"patient": row["patient"]}]).canaries == 1
    assert TRUTH.score([{"town": row["town"], "sex": row["sex"], "ward": row["ward"]}]).rows == 0
