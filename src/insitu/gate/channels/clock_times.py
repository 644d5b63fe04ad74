"""The time at which a line was written, as loggers put it: the gate says it itself.

A time that agrees with the gate's own clock, give or take what a line needs to arrive, is
left out of the line, and when the line leaves the gate's is put in its place, in the same
form and in whole seconds. So nothing is told by its digits, whoever chose them; which
form it has is part of the line's shape. Any other time is numbers like any others.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_FIRST_MARK = 0xE000  # for private use: a line in which the job wrote such a character stays
_DATES = {"": "", "%Y-%m-%d ": "0000-00-00 ", "%Y-%m-%dT": "0000-00-00T", "%Y/%m/%d ": "0000/00/00 ", "%m%d ": "0000 "}
_FRACTIONS = ("", ",000", ".000", ".000000")
_ZONES = ("", "Z", "+00:00", "+0000")
_FORMS = {
    f"{written}00:00:00{fraction}{zone}": f"{date}%H:%M:%S{fraction}{zone}"
    for date, written in _DATES.items()
    for fraction in _FRACTIONS
    for zone in _ZONES
}
_MARK_OF = {written: chr(_FIRST_MARK + at) for at, written in enumerate(_FORMS)}
_FORM_OF = dict(zip(_MARK_OF.values(), _FORMS.values(), strict=True))
TIME_MARKS = frozenset(_FORM_OF)

_TIME = re.compile(
    r"(?<![\w.,/+-])(?P<date>[0-9]{4}(?P<sign>[-/])[0-9]{2}(?P=sign)[0-9]{2}[T ])?"
    r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,][0-9]{3}(?:[0-9]{3})?)?(?:Z|\+00:?00)?(?![\w:]|[.,][0-9])"
    r"|(?<=^[IWEF])(?P<day>[0-9]{4}) (?P<of_day>[0-9]{2}:[0-9]{2}:[0-9]{2})\.[0-9]{6}(?![\w:])"
)
_LIKELY = re.compile(":[0-9]{2}:[0-9]{2}")  # without it there is no time, and most lines have none
_DIGIT = re.compile("[0-9]")
_ANY_MARK = re.compile(f"[{min(_FORM_OF)}-{max(_FORM_OF)}]")
_OPENS = "[(<"
_MOST = 2
_LATE, _EARLY = timedelta(seconds=60), timedelta(seconds=2)
_DAY = timedelta(days=1)


def mark_times(text: str, at: datetime) -> str:
    """`text` with a mark for each time in it (the first two) that agrees with `at`, when the gate read the line."""
    if not _LIKELY.search(text):
        return text
    at = at.astimezone(UTC)
    pieces: list[str] = []
    copied = 0
    for found in _TIME.finditer(text):
        mark = _MARK_OF.get(_DIGIT.sub("0", found[0]))
        if mark is None or not (found["date"] or found["day"] or _is_at_head(text, found.start())):
            continue
        if _agrees(found, at):
            pieces += (text[copied : found.start()], mark)
            copied = found.end()
            if len(pieces) >= 2 * _MOST:
                break
    return "".join(pieces) + text[copied:] if pieces else text


def say_times(text: str, at: datetime) -> str:
    """`text` with the gate's time for each mark."""
    at = at.astimezone(UTC)
    return _ANY_MARK.sub(lambda mark: at.strftime(_FORM_OF[mark[0]]), text)


def _is_at_head(text: str, start: int) -> bool:
    """A time without a day may be anything elsewhere."""
    before = text[:start].strip()
    return not before or before[-1] in _OPENS


def _agrees(found: re.Match[str], at: datetime) -> bool:
    time = found["time"] or found["of_day"]
    year, month, day = at.year, at.month, at.day
    if found["date"]:
        year, month, day = int(found[0][:4]), int(found[0][5:7]), int(found[0][8:10])
    elif found["day"]:
        month, day = int(found["day"][:2]), int(found["day"][2:])
    try:
        said = datetime(year, month, day, int(time[:2]), int(time[3:5]), int(time[6:8]), tzinfo=UTC)
    except ValueError:
        return False
    late = at - said
    if not found["date"] and not found["day"]:  # before midnight, and read after it
        late = (late + _DAY / 2) % _DAY - _DAY / 2
    return -_EARLY <= late <= _LATE
