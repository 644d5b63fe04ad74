"""Progress bars in lines: where the work stands leaves, what only the clock knows does not.

How long it has taken, how long it will take and how many a second are numbers that
nobody chose and nobody can foresee, and how often a bar is drawn hangs on the clock
too. So of a bar only its end leaves, with a mark for such numbers; a bar into which
another text was printed is left out of that text's line.
"""

from __future__ import annotations

import re

CLOCK_MARK, _WHOLE_MARK = "\uf000", "\uf001"  # for private use: a line in which the job wrote one stays
BAR_MARKS = frozenset({CLOCK_MARK, _WHOLE_MARK})
_SHOWN = {ord(CLOCK_MARK): "\u2026", ord(_WHOLE_MARK): f"100%|{chr(0x2588) * 10}|"}

_GLYPHS = re.compile(r"(?P<percent>[0-9]{1,3})%\|[ 0-9#\u2588-\u258f]+\||[\u2501\u2578\u257a]{4,}|\[[=>.-]{6,}\]")
BAR = f"{_WHOLE_MARK} 1/1 [{CLOCK_MARK}]"
"""As tqdm draws it, once it is whole."""
_UNTIL = re.compile(r"([0-9]+)/([0-9]+)\s*$")
_SO_FAR = re.compile(r"\s*([0-9]+)/([0-9]+)")
_PERCENT = re.compile(r"\s*([0-9]{1,3})%")
_UNIT = r"(?:s|sec|step|epoch|it|batch|iter|file|sample)"
_LASTS = (
    r"(?:-:--:--|(?:[0-9]+:)?[0-9]{1,2}:[0-9]{2}|[0-9]+(?:\.[0-9]+)?(?:s|ms|us|\u00b5s)(?:/\w+)?"
    rf"|[0-9?]+(?:\.[0-9]+)?\s?[A-Za-z]*/{_UNIT})\b"
)
_CLOCK = re.compile(rf"(?:ETA: )?(?<![\w.]){_LASTS}(?:[ <,\u2022-]+(?:{_LASTS}|\?(?:\s?\w+/\w+)?))*")
_COUNTED = re.compile(rf"\b[0-9]+(?:\.[0-9]+)?[kMG]?[a-z]+ \[{_LASTS}, *[0-9?.]+\s?\w*/\w+\]")
_IN_BRACKETS = re.compile(rf"\[{CLOCK_MARK}[^\[\]]*\]\s*")


def mark_bar(text: str) -> str | None:
    """`text` with a mark for what the clock says in a bar; None for a bar on its way, which another state will follow.

    Blanks at its end go: they wipe out what stood there of a longer state.
    """
    # Without one of these there is no bar, and most lines have none.
    if "[" not in text and "|" not in text and "\u2501" not in text and "\u2578" not in text:
        return text
    while (bar := _GLYPHS.search(text)) is not None:
        behind = _CLOCK.sub(CLOCK_MARK, text[bar.end() :], count=1)
        text = text[: bar.end()] + behind
        brackets = _IN_BRACKETS.search(text, bar.end())
        if brackets is None or brackets.end() == len(text):
            return _whole(text, bar) if _is_whole(text, bar) else None
        text = text[brackets.end() :]
    counted = _COUNTED.search(text)
    if counted is None:
        return text
    return text[: counted.start()] + _CLOCK.sub(CLOCK_MARK, counted[0]) + text[counted.end() :]


def say_bar(text: str) -> str:
    """`text` with something for each mark."""
    return text.translate(_SHOWN)


def _whole(text: str, bar: re.Match[str]) -> str:
    """With a mark for what follows from its being whole, however wide it is."""
    if bar["percent"] is None:
        return text.rstrip()
    return text[: bar.start()] + _WHOLE_MARK + text[bar.end() :].rstrip()


def _is_whole(text: str, bar: re.Match[str]) -> bool:
    """Whether all is done; a bar that tells of no end counts as whole."""
    percent = bar["percent"] or ((found := _PERCENT.match(text, bar.end())) and found[1])
    if percent:
        return int(percent) >= 100
    done = _SO_FAR.match(text, bar.end()) or _UNTIL.search(text[: bar.start()])
    return done is None or int(done[1]) >= int(done[2])
