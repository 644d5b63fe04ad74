"""Of a progress bar its end leaves, without what only the clock knows."""

import pytest

from insitu.gate.channels.progress_bars import BAR_MARKS, mark_bar, say_bar

FULL = "\u2588" * 10
LINE = "\u2501" * 20


def as_it_leaves(text: str) -> str | None:
    marked = mark_bar(text)
    return None if marked is None else say_bar(marked)


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (f"Loading: 100%|{FULL}| 7/7 [00:00<00:00, 123.45it/s]   ", f"Loading: 100%|{FULL}| 7/7 […]"),
        (f"100%|{FULL * 3}| 7/7 [1:02:03<00:00, 1.20s/it, loss=0.31]", f"100%|{FULL}| 7/7 […, loss=0.31]"),
        ("100%|##########| 10.0M/10.0M [00:01<?, ?B/s]", f"100%|{FULL}| 10.0M/10.0M […]"),
        ("5it [00:01, 3.20it/s]", "5it […]"),
        (f"10/10 {LINE} 0s 12ms/step - loss: 0.31", f"10/10 {LINE} … - loss: 0.31"),
        ("10/10 [==============================] - 0s 12ms/step - loss: 0.31", "10/10 [==============================] - … - loss: 0.31"),
        (f"Training {LINE} 100% 0:00:01", f"Training {LINE} 100% …"),
        (f"Epoch 0/4 {LINE} 10/10 0:00:01 • 0:00:00 12.34it/s loss: 0.3", f"Epoch 0/4 {LINE} 10/10 … loss: 0.3"),
    ],
)  # fmt: skip
def test_a_whole_bar_leaves_without_durations_and_rates(line, left):
    assert as_it_leaves(line) == left


@pytest.mark.parametrize(
    "line",
    [
        "  7%|▋         | 1/14 [00:00<?, ?it/s]",
        f" 3/10 {LINE} 0s 12ms/step - loss: 0.31",
        " 3/10 [========>.....................] - ETA: 0s - loss: 0.31",
        f"Training {LINE} 53% 0:00:01",
    ],
)
def test_a_bar_on_its_way_stays(line):
    assert mark_bar(line) is None


@pytest.mark.parametrize(
    "state", ["  0%|          | 0/3 [00:00<?, ?it/s]", " 67%|██████▋   | 2/3 [00:09<00:04, 4.51s/it]"]
)
def test_a_text_that_was_printed_into_a_bar_leaves_alone(state):
    assert as_it_leaves(state + "took 12.5s at 3it/s") == "took 12.5s at 3it/s"
    assert as_it_leaves(f"{state}fold: 100%|{FULL}| 3/3 [00:09<00:00, 3.01s/it]") == f"fold: 100%|{FULL}| 3/3 […]"


@pytest.mark.parametrize(
    "line", ["| fold | 0.31 | 12.5s |", "epoch 3/10: loss 0.31 [12.5s]", "a[1:02] = b | c", "-----", ""]
)
def test_a_line_without_a_bar_is_as_it_was(line):
    assert mark_bar(line) == line


def test_no_mark_can_be_written_by_a_job():
    assert not any(mark.isprintable() for mark in BAR_MARKS)
