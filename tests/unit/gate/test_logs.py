"""Log lines and tracebacks."""

import base64
import datetime as dt
import json
import traceback
from typing import Any

import pandas as pd
import pytest

from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.line_code import LineCode
from insitu.gate.channels.logs import LineOutcome, LogBudget, LogGate
from insitu.gate.channels.tracebacks import TracebackFilter
from insitu.gate.policy.loading import LogRules, ReleaseRules
from insitu.gate.rows.in_text import TextScan, rows_in_text
from tests.unit.gate.gate_world import known_of, wdbc

AT = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)
CODE = CodeWords({"train.py": 400, "b.py": 9}, frozenset({"inner", "main", "NoSuchPatient"}))


class AskedLineByLine:
    """The gate of one stream, asked for one line at a time."""

    def __init__(self, gate: LogGate) -> None:
        self._gate = gate

    def line(self, text: str) -> LineOutcome:
        return self._gate.lines([text], AT)[0]

    def end(self) -> tuple[str, ...]:
        return self._gate.end()


def gate(
    known=(), mode: Any = "scanned", errors: Any = "type-and-frames", max_bytes=100_000, budget: LogBudget | None = None
) -> AskedLineByLine:
    rules = ReleaseRules(logs=LogRules(mode=mode, max_bytes=max_bytes), errors=errors)
    evidence = LiveEvidence(known)
    return AskedLineByLine(LogGate(rules, evidence, budget or LogBudget(max_bytes), code=lambda: CODE))


def lines_that_leave(log: AskedLineByLine, text: str) -> list[str]:
    left = [line for each in text.splitlines() for line in log.line(each).released]
    return [*left, *log.end()]


def test_ordinary_lines_leave(wdbc_known):
    lines = [
        "loading data from /job/inputs/patients",
        "rows: 426, columns: 30",
        *(f"epoch {step} loss={1 / (step + 1):.4f} acc={0.9 + step / 1000:.3f}" for step in range(100)),
        "accuracy 0.9825  auc 0.9971  f1 0.9861",
        "              precision    recall  f1-score   support",
        "           0       0.98      0.96      0.97        53",
        "           1       0.98      0.99      0.98        90",
        "done in 1.23 s",
    ]
    log = gate([wdbc_known])
    assert [line for line in lines if not log.line(line).released] == []


def a_run_with_bars(seconds_each: float) -> list[tuple[dt.datetime, str]]:
    """What a logger and tqdm print in a run of that speed, and when: states of bars as the clock would have it."""
    at, lines = AT, list[tuple[dt.datetime, str]]()
    for fold in range(40):
        took = dt.timedelta(seconds=seconds_each * (1 + fold * 7919 % 13 / 10))
        clock = f"{took.seconds // 60:02d}:{took.seconds % 60:02d}"
        rate = (
            f"{5 / took.total_seconds():.2f}it/s" if took.total_seconds() < 5 else f"{took.total_seconds() / 5:.2f}s/it"
        )
        for done in range(0, 5, 1 + int(2 / seconds_each)):
            bar = f"{20 * done:3d}%|{'█' * (2 * done):10}| {done}/5 [{clock}<00:09, {rate}]"
            lines.append((at, bar if done else f"{bar}saved"))
        at += took
        stamp = f"{at - dt.timedelta(milliseconds=200 + fold * 7907 % 999):%Y-%m-%d %H:%M:%S.%f}"[:-3].replace(".", ",")
        lines += [
            (at, f"100%|{'█' * 10}| 5/5 [{clock}<00:00, {rate}]" + " " * (fold % 3)),
            (at, f"{stamp} INFO fold {fold} done"),
        ]
    return lines


@pytest.mark.parametrize("seconds_each", [0.01, 0.7, 3.0, 90.0])
def test_what_loggers_and_bars_tell_of_the_clock_costs_nothing(seconds_each):
    rules = ReleaseRules(logs=LogRules(mode="scanned", max_bytes=100_000))
    account = LineCode(rules.logs.ceiling_bytes)
    log = LogGate(rules, LiveEvidence([]), LogBudget(100_000, per_second=10_000), telling=account)
    left = [line for at, text in a_run_with_bars(seconds_each) for line in log.lines([text], at)[0].released]
    assert [line for line in left if "INFO" not in line] == ["saved", f"100%|{'█' * 10}| 5/5 […]"] * 40
    assert [line[-12:] for line in left if "INFO" in line] == [f"{f'fold {fold} done':>12}"[-12:] for fold in range(40)]
    assert account.told_bytes < 0.15 * rules.logs.ceiling_bytes


def test_what_leaves_of_a_time_is_the_gates_own():
    assert gate().line("2026-11-23 11:59:58,123 INFO begun").released == ("2026-11-23 12:00:00,000 INFO begun",)
    assert gate(mode="open").line("2026-11-23 11:59:58,123 INFO begun").released == (
        "2026-11-23 11:59:58,123 INFO begun",
    )


def test_where_packages_are_installed_is_no_part_of_a_line():
    warning = "/opt/env/lib/python3.11/site-packages/frob.py:3: UserWarning: frobs"
    assert gate().line(warning).released == ("site-packages/frob.py:3: UserWarning: frobs",)


def test_a_bar_on_its_way_stays():
    assert gate().line(" 67%|██████▋   | 2/3 [00:09<00:04, 4.51s/it]").held_by == "bar-on-its-way"


@pytest.mark.parametrize("mark", ["\ue010", "\uf000", "\uf001"])
def test_what_the_gate_says_itself_can_not_be_said_for_it(mark):
    assert gate().line(f"{mark} done").held_by == "line-characters"


def test_held_lets_no_line_out():
    outcome = gate(mode="held").line("hello")
    assert (outcome.released, outcome.held_by) == ((), "log-mode")


@pytest.mark.parametrize(
    "text",
    [
        "17.99,10.38,122.8,1001.0,0.1184",
        "radius 17.99 texture 10.38 perimeter 122.8 area 1001",
        json.dumps(dict(list(wdbc().iloc[3].items())[:6])),
        wdbc().head(1).to_string(header=False),
        str(wdbc().to_numpy()[10].tolist()),
    ],
)
def test_a_row_in_a_line_is_held(wdbc_known, text):
    outcome = gate([wdbc_known]).line(text.splitlines()[-1])
    assert (outcome.released, outcome.held_by) == ((), "rows-in-line")


def test_most_of_a_row_down_the_page_is_held(wdbc_known):
    log = gate([wdbc_known])
    left = sum(bool(log.line(f"{name}  {value}").released) for name, value in wdbc().iloc[3].items())
    assert left <= 6


def test_without_the_index_rows_would_leave():
    assert gate().line("17.99,10.38,122.8,1001.0,0.1184").released


def test_one_known_value_is_no_evidence(wdbc_known):
    log = gate([wdbc_known])
    assert log.line("threshold 17.99").released
    assert log.line("largest area: 2501.0 smallest: 143.5").released


def test_names_and_dates_are_compared_as_text(tmp_path):
    table = pd.DataFrame(
        {
            "name": [f"Person {chr(65 + n % 26)}{n}" for n in range(300)],
            "city": ["Leeds", "Turin", "Ghent"] * 100,
            "born": [f"19{n % 80 + 10}-0{n % 9 + 1}-1{n % 10}" for n in range(300)],
            "ward": [f"ward {n % 12}" for n in range(300)],
        }
    )
    log = gate([known_of(table, tmp_path / "people")])
    row = table.iloc[17]
    assert log.line("patients come from Leeds, Turin and Ghent").released
    assert log.line(f"{row['name']}, {row['city']}, {row['born']}, {row['ward']}").held_by == "rows-in-line"


def test_after_a_row_only_lines_in_a_form_that_has_left_leave(wdbc_known):
    log = gate([wdbc_known])
    assert log.line("epoch 1: loss 0.31").released
    assert log.line("epoch 2: loss 0.29").released
    row = wdbc().iloc[3]
    assert log.line(" ".join(map(str, row))).held_by == "rows-in-line"
    assert log.line("epoch 3: loss 0.27").released
    assert log.line("checked 0/radius: 11.42").held_by == "new-after-rows"
    assert log.line("another sentence").held_by == "new-after-rows"


def test_lines_that_frame_a_run_as_an_encoded_one_did_stay_too():
    coded = base64.b64encode(b"somebody lives in a town and is well known there").decode()
    lines = [f"chunk {coded[:20]}", f"chunk {coded[20:40]}", "chunk there/is/noSentence"]
    log = gate([])
    assert [log.line(line).held_by for line in lines] == [None, "encoded-line", "encoded-line"]
    assert log.line("chunk thereisanothersentence").released
    assert gate([]).line(lines[2]).released


def test_a_table_that_is_printed_cell_by_cell_stops_at_the_first_cell_that_tells(tmp_path):
    table = pd.DataFrame(
        {
            "ward": [f"ward {7 * n % 12}" for n in range(300)],
            "patient": [f"P-{7_000_000 + 13 * n}" for n in range(300)],
            "city": ["Leeds", "Turin", "Ghent"] * 100,
            "code": [f"I{n % 40}" for n in range(300)],
        }
    )
    log = gate([known_of(table, tmp_path / "people")])
    lines = [f"checked {at}/{name}: {row[name]}" for at, row in table.head(6).iterrows() for name in table.columns]
    assert {line.split("/")[1].split(":")[0] for line in lines if log.line(line).released} == {"ward"}


@pytest.mark.parametrize(
    ("text", "held_by"),
    [
        (base64.b64encode(bytes(range(80))).decode(), "encoded-line"),
        ("x " * 3000, "line-length"),
        ("bell \x07", "line-characters"),
        ("zero\u200bwidth", "line-characters"),
    ],
)
def test_lines_that_hide_something_are_held(text, held_by):
    assert gate().line(text).held_by == held_by


def test_the_budget_is_one_for_all_streams():
    budget = LogBudget(10)
    out, err = gate(budget=budget), gate(budget=budget)
    assert out.line("12345").released
    assert err.line("12345").held_by == "log-budget"
    assert err.line("123").released


def raised(message: str) -> str:
    def inner() -> None:
        raise ValueError(message)

    text = ""
    try:
        inner()
    except ValueError:
        text = traceback.format_exc()
    return text.replace(__file__, "/job/code/train.py")


def test_of_a_traceback_type_and_own_frames_leave():
    text = raised("no such patient: Ada Lovelace 17.99 10.38").replace(
        "Traceback (most recent call last):\n",
        'Traceback (most recent call last):\n  File "/opt/env/lib/python3.11/site-packages/pandas/core.py", line 3, in get\n'
        '    raise KeyError("Ada")\n',
    )
    left = lines_that_leave(gate(), text)
    assert left[0] == "Traceback, the script's own frames:"
    assert left[-1] == "ValueError: the message stays at the site"
    assert len(left) == 4
    assert all(line.startswith('  File "train.py", line ') for line in left[1:3])
    assert left[2].endswith(", in inner")
    assert "Ada" not in "\n".join(left)
    assert "raise ValueError" not in "\n".join(left)


def test_tracebacks_leave_in_mode_held_too_and_not_where_errors_are_closed():
    assert lines_that_leave(gate(mode="held"), raised("x"))
    assert lines_that_leave(gate(errors="none"), raised("x")) == []


def test_a_message_of_many_lines_stays_to_its_end():
    text = raised("rows:\n   a  b\nAda 1\nBob 2\n\nand so on") + "\nlast words"
    assert lines_that_leave(gate(), text)[-1] == "ValueError: the message stays at the site"


def test_after_a_log_record_ordinary_lines_leave_again():
    text = raised("secret\nsecret too") + "2026-11-23 12:00:00 INFO going on\nnext line"
    assert lines_that_leave(gate(), text)[-2:] == ["2026-11-23 12:00:00 INFO going on", "next line"]


def test_chained_exceptions_are_each_summarised():
    text = raised("one") + "\nDuring handling of the above exception, another exception occurred:\n\n" + raised("two")
    left = lines_that_leave(gate(), text)
    assert left.count("ValueError: the message stays at the site") == 2
    assert "During handling of the above exception, another exception occurred:" in left


def test_a_traceback_that_is_cut_off_is_told_at_the_end():
    text = 'Traceback (most recent call last):\n  File "/job/code/train.py", line 3, in main\n    fit("Ada")'
    left = lines_that_leave(gate(), text)
    assert left[1] == '  File "train.py", line 3, in main'
    assert "its type was not printed" in left[-1]


def test_a_second_traceback_closes_the_first():
    part = 'Traceback (most recent call last):\n  File "/job/code/train.py", line 3, in main\n'
    left = lines_that_leave(gate(), part + part + "ValueError: x")
    assert sum("Traceback" in line for line in left) == 2


def test_names_in_a_traceback_are_looked_at():
    text = (
        "Traceback (most recent call last):\n"
        f'  File "/job/code/{"4f" * 20}.py", line 3, in {"5e" * 20}\n'
        '  File "/job/code/b.py", line 4\n'
        f"    x\nE{'7a' * 20}: boo"
    )
    left = lines_that_leave(gate(), text)
    assert left == [
        "Traceback, the script's own frames:",
        "  a frame that is not in the script's signed code",
        '  File "b.py", line 4',
        "an exception (its type stays at the site): the message stays at the site",
    ]


def test_only_so_many_frames_and_bytes_of_errors_leave():
    frames = "".join(f'  File "/job/code/train.py", line {n % 100 + 1}, in inner\n' for n in range(500))
    log = gate()
    left = lines_that_leave(log, f"Traceback (most recent call last):\n{frames}RecursionError: x")
    assert len(left) == 14
    many = [lines_that_leave(log, f"Traceback (most recent call last):\n{frames}RecursionError: x") for _ in range(50)]
    assert many[-1] == []
    more = gate()
    text = 'Traceback (most recent call last):\n  File "/job/code/train.py", line {}\nValueError: x'
    told = [lines_that_leave(more, text.format(line)) for line in range(1, 20)]
    assert [bool(lines) for lines in told] == [True] * 8 + [False] * 11


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("ValueError", "ValueError"),
        ("sklearn.exceptions.NotFittedError", "NotFittedError"),
        ("__main__.NoSuchPatient", "NoSuchPatient"),
        ("__main__.Ada_Lovelace_36", "an exception (its type stays at the site)"),
        ("sklearn.Row1799Error", "an exception (its type stays at the site)"),
    ],
)
def test_types_that_a_script_makes_up_as_it_runs_stay(printed, shown):
    assert lines_that_leave(gate(), f"Traceback (most recent call last):\n{printed}: x")[-1].startswith(shown)


def test_functions_and_lines_that_are_not_in_the_code_stay():
    text = (
        "Traceback (most recent call last):\n"
        '  File "/job/code/train.py", line 3, in made_up_1799\n'
        '  File "/job/code/train.py", line 1799, in main\nValueError: x'
    )
    assert lines_that_leave(gate(), text)[1:3] == [
        '  File "train.py", line 3',
        "  a frame that is not in the script's signed code",
    ]


def test_in_mode_open_all_lines_leave_within_the_bytes(wdbc_known):
    row = "17.99,10.38,122.8,1001.0,0.1184"
    log = gate([wdbc_known], mode="open", max_bytes=40)
    assert log.line(row).released == (row,)
    assert log.line(row).held_by == "log-budget"


def test_lines_a_second_are_bounded_on_average():
    budget = LogBudget(100_000, per_second=1)
    log = gate(budget=budget)
    assert [log.line("going on").held_by for _ in range(61)] == [None] * 60 + ["log-rate"]


def test_numbers_in_lines_have_the_digits_of_metrics():
    assert gate().line("loss=0.98765432198 at 12:30:05.123456 of 426 rows in v3.17.2").released == (
        "loss=0.9877 at 12:30:05.123 of 426 rows in v3.17.2",
    )
    assert gate().line("seen 98765432198765 times").released == ("seen 9.877e+13 times",)


def test_lines_that_come_together_are_decided_as_one_by_one(wdbc_known):
    lines = [f"{name}  {value}" for name, value in wdbc().iloc[3].items()]
    together = LogGate(
        ReleaseRules(logs=LogRules(mode="scanned", max_bytes=10_000)), LiveEvidence([wdbc_known]), LogBudget(10_000)
    )
    log = gate([wdbc_known])
    assert together.lines(lines, AT) == [log.line(line) for line in lines]


def test_one_character_a_line_is_read_as_one_line():
    log = gate()
    held = [log.line(character).held_by for character in base64.b32encode(b"17.99,10.38,122.8,1001").decode()]
    assert held.count(None) <= 24
    assert log.line("an ordinary line").released


def test_encodings_in_small_pieces_are_bounded():
    log = gate()
    encoded = wdbc().head(40).to_csv(header=False).encode().hex()
    pieces = [encoded[at : at + 8] for at in range(0, len(encoded), 8)]
    lines = [" ".join(pieces[at : at + 6]) for at in range(0, len(pieces), 6)]
    assert sum(len(line) for each in lines for line in log.line(each).released) < 600


def test_a_filter_outside_of_a_traceback_hands_lines_back():
    some = TracebackFilter()
    assert not some.take("Traceback").inside
    assert some.end() == ()


def test_text_of_many_rows_is_counted(wdbc_known):
    assert rows_in_text([wdbc_known], wdbc().head(20).to_csv()) >= 20
    assert rows_in_text([wdbc_known], "nothing 1 2 3") == 0
    long_line = " ".join(str(value) for row in wdbc().head(30).to_numpy() for value in row)
    assert rows_in_text([wdbc_known], long_line) >= 20


def test_a_value_said_twice_is_one_cell(wdbc_known):
    scan = TextScan(wdbc_known)
    assert scan.rows_in(scan.hits("17.99 17.99 17.99 17.99 17.99")) == 0


def test_a_number_with_an_underscore_or_in_full_precision_is_read_for_what_it_is(wdbc_known):
    assert gate([wdbc_known]).line("loss 0.12345678901234567890").released
    assert gate([wdbc_known]).line("id 123456789012345678901").held_by == "encoded-line"


def test_letters_of_a_row_that_stand_apart_are_read_together(wdbc_known):
    row = ",".join(str(value) for value in wdbc().iloc[3].tolist()[:6])
    assert gate([wdbc_known]).line(" ".join(row)).held_by in {"rows-in-line", "encoded-line"}


@pytest.mark.parametrize("spelling", ["words", "thousands"])
def test_numbers_in_words_and_with_commas_are_read_for_what_they_are(tmp_path, spelling):
    numbers = [4_000_037 + 7919 * at for at in range(400)]
    log = gate([known_of(pd.DataFrame({"number": numbers, "level": range(400)}), tmp_path / "index")])
    digits = "zero one two three four five six seven eight nine".split()
    lines = [
        " ".join(digits[int(digit)] for digit in str(number)) if spelling == "words" else f"{number:,} seen"
        for number in numbers[::5]
    ]
    assert sum(bool(log.line(line).released) for line in lines) < 12


def test_choices_between_lines_that_read_well_stay_in_the_end_and_what_repeats_goes_on():
    log = gate()
    choices = [log.line("completed" if bit == "1" else "finished").held_by for bit in f"{3**2000:b}"]
    assert choices[:100] == [None] * 100
    assert choices.count("log-ceiling") > 2000
    assert set(choices) == {None, "log-ceiling"}


def test_numbers_that_nobody_expected_are_hidden_in_the_end():
    log = gate()
    shown = [log.line(f"value 0.{3**step % 10_000:04d}").released[0] for step in range(20, 400)]
    assert shown[0] == f"value 0.{3**20 % 10_000:04d}"
    assert shown[-1] == "value \u2026"


def test_all_streams_of_a_job_have_one_account():
    rules = ReleaseRules(logs=LogRules(mode="scanned", max_bytes=100_000))
    account, budget = LineCode(rules.logs.ceiling_bytes), LogBudget(100_000, per_second=10_000)
    out, err = (
        LogGate(rules, LiveEvidence([]), budget, stream=stream, telling=account) for stream in ("stdout", "stderr")
    )
    left = [(out if bit == "1" else err).lines(["going on"], AT)[0].held_by for bit in f"{3**2000:b}"]
    assert left.count(None) < 1000
    assert left[-1] == "log-ceiling"
