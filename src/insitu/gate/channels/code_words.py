"""What a job's signed code says of itself: its files, the words in them, and the texts that it may print.

The code was signed before it saw any data, so a word that stands in it tells
nothing about a row. Names that leave while the job runs, in tracebacks and under
patterns of metrics, are compared with this; what is not there was made up on the
way. The agent collects it from the snapshot when it puts the code ready.
"""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from insitu.gate.channels.code_texts import texts_of

CODE_WORDS = "code-words.json"
"""Among what the intake writes: put there by the agent."""
WORDS_VERSION = 1
"""Of what is found in code and how it is written down: counted up when either changes, so that nothing old is used."""

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}|[0-9]{1,4}")
_SUFFIXES = frozenset({".py", ".ipynb", ".sh", ".yaml", ".yml", ".toml", ".json", ".cfg", ".ini", ".txt"})
_MOST_FILE_BYTES = 2 << 20
_MOST_FILES = 2_000
_MOST_WORDS = 50_000
_MOST_PARSED = 1 << 20  # characters of Python, of which the texts are taken


@dataclass(frozen=True)
class CodeWords:
    """Files with how many lines each has, every word, and what lines of print look like."""

    lines_of: dict[str, int] = field(default_factory=dict[str, int])
    words: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()

    def has_line(self, file: str, line: int) -> bool:
        return 1 <= line <= self.lines_of.get(file, 0)

    @cached_property
    def parts(self) -> frozenset[str]:
        """The words' own words, in small letters: `train_loss` is train and loss."""
        return frozenset(words_of(*self.words))


def read_code(folder: Path) -> CodeWords:
    """What the snapshot in `folder` says. Large files and other than text are passed over: their names then stay."""
    lines_of: dict[str, int] = {}
    words: set[str] = set()
    texts: set[str] = set()
    room_to_parse = _MOST_PARSED
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix not in _SUFFIXES or len(lines_of) >= _MOST_FILES or path.is_symlink():
                continue
            if path.stat().st_size > _MOST_FILE_BYTES:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            lines_of[path.relative_to(folder).as_posix()] = text.count("\n") + 1
            if len(words) < _MOST_WORDS:
                words.update(_WORD.findall(text))
            if path.suffix == ".py" and len(text) <= room_to_parse:
                room_to_parse -= len(text)
                texts.update(texts_of(text))
    return CodeWords(lines_of, frozenset(words), frozenset(texts))


def write_code_words(found: CodeWords, path: Path) -> None:
    """For the intakes of a snapshot's jobs, which can't reach the code itself."""
    document = {"lines_of": found.lines_of, "words": sorted(found.words), "texts": sorted(found.texts)}
    partial = path.with_name(f"{path.name}.{threading.get_ident()}")  # two jobs of one snapshot may come together
    partial.write_text(json.dumps(document))
    partial.replace(path)


class CodeWordsFile:
    """The same, read when they are first needed. Not there, or not whole: no words, and the names stay."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @cached_property
    def found(self) -> CodeWords:
        if self._path is None:
            return CodeWords()
        try:
            document = json.loads(self._path.read_text())
            return CodeWords(dict(document["lines_of"]), frozenset(document["words"]), frozenset(document["texts"]))
        except (OSError, ValueError, KeyError, TypeError):
            return CodeWords()


def words_of(*texts: str) -> list[str]:
    """The words of names, as people write them in code: `trainAUC_top5` is train, auc, top and 5."""
    return [part.lower() for text in texts for part in _PARTS.findall(text)]
