"""What the installed packages may print: the texts in their code, between the values that are put into them.

`f"Created version '{version}' of model '{name}'."` gives `Created version '`, `' of model '`; the
names of modules, classes and files are texts too, since loggers and warnings say them.
The environment was signed before any code saw data, so which of its texts a line says
tells no more than a choice among so many (`channels/installed_texts.py`).

Code is searched for literals, and neither parsed nor run: libraries are large, and not
ours. A literal that the search misreads makes lines dearer, nothing else.
"""

from __future__ import annotations

import builtins
import os
import re
import resource
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from insitu.gate.channels.installed_texts import SOURCE_FOLDER, write_texts
from insitu.gate.channels.line_shapes import take_apart
from insitu.gate.channels.progress_bars import BAR

# Of what an unclosed one could begin with only so many pieces are looked at: there may be many that are not closed.
_LITERAL = (
    r"[rRbBuUfF]{0,2}(?:"
    r"'''(?:[^\\']++|\\.|'(?!'')){0,5000}+'''"
    r'|"""(?:[^\\"]++|\\.|"(?!"")){0,5000}+"""'
    r"|'(?:[^\\'\n]++|\\.){0,1000}+'"
    r'|"(?:[^\\"\n]++|\\.){0,1000}+")'
)
_ONE = re.compile(_LITERAL, re.DOTALL)
_RUN = re.compile(rf"#[^\n]*|(?<!\w){_LITERAL}(?:\s*+(?:#[^\n]*\n\s*+)*+{_LITERAL})*+", re.DOTALL)
_START = re.compile(r"(?P<prefix>[rRbBuUfF]{0,2})(?P<quote>'''|\"\"\"|'|\")")
_PLACE = re.compile(r"%(?:\(\w+\))?[-+#0]*\d*(?:\.\d+)?[a-zA-Z]|\{[^{}\n]*\}")
_EXPRESSION = re.compile(r"\{\{|\}\}|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
_WARNS = re.compile(r"warn\w*\([^\n]*")
_PLAIN_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\'": "'", '\\"': '"', "\\\\": "\\", "\\\n": ""}
_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|.|\n)")
_TWO_LETTERS = re.compile("[A-Za-z]{2}")
_TESTS = frozenset({"tests", "test", "testing", "__pycache__"})
_HOLE = "\x00"  # no text has it

_SHORTEST, _LONGEST = 4, 1_000
_FILES_A_PART = 200
_MOST_PROCESSES = 4
_NICE = 10  # jobs run beside it
_CPU_S, _MEMORY_BYTES = 120, 4 << 30  # of each process
_MOST_FILE_BYTES = 2 << 20
_MOST_FILES = 20_000
_MOST_TEXTS = 400_000
_MOST_CHARACTERS = 32 << 20
"""Of all texts. Beyond any of these, folders that come later in the alphabet are left out."""


def texts_of_tree(packages: Path, *, processes: int = 1) -> set[str]:
    """The texts of the packages below `packages` (a site-packages folder)."""
    files = list(islice(_python_files(packages), _MOST_FILES))
    parts = [files[at : at + _FILES_A_PART] for at in range(0, len(files), _FILES_A_PART)]
    texts = partial(texts_of_files, packages)
    if processes == 1:
        return _together(map(texts, parts))
    with ProcessPoolExecutor(processes) as pool:
        return _together(pool.map(texts, parts))


def texts_of_files(packages: Path, files: Iterable[Path]) -> set[str]:
    """The texts of some files of these packages, and those that any environment has."""
    found = {name for name, value in vars(builtins).items() if isinstance(value, type)}
    found.add(take_apart(BAR).shape)
    for path in files:
        found.update(texts_of_code(path.read_text(encoding="utf-8", errors="replace")))
        found.update(_names_of(path.relative_to(packages)))
    return found


def _together(parts: Iterable[set[str]]) -> set[str]:
    """In their order, so that the same packages give the same texts however many processes looked at them."""
    found: set[str] = set()
    room = _MOST_CHARACTERS
    for part in parts:
        new = part - found
        room -= sum(map(len, new))
        if room < 0 or len(found) + len(new) > _MOST_TEXTS:
            break
        found |= new
    return found


def texts_of_code(source: str) -> Iterator[str]:
    """Shapes of what Python `source` may print, each between two values; and names of its classes."""
    yield from _CLASS.findall(source)
    for found in _WARNS.finditer(source):  # Python repeats the line that warned
        yield from _shapes(source[source.rfind("\n", 0, found.start()) + 1 : found.end()])
    for found in _RUN.finditer(source):
        if found[0][0] != "#" and not _is_docstring(source, found):
            for text in "".join(map(_read, _ONE.findall(found[0]))).split(_HOLE):
                yield from _shapes(text)


def _shapes(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        stripped = line.strip()
        if _SHORTEST <= len(stripped) <= _LONGEST and _TWO_LETTERS.search(stripped):
            yield take_apart(stripped).shape


def _is_docstring(source: str, found: re.Match[str]) -> bool:
    """A long literal that stands by itself."""
    if found[0].lstrip("rRbBuUfF")[:3] not in ("'''", '"""'):
        return False
    return not source[source.rfind("\n", 0, found.start()) + 1 : found.start()].strip()


def _read(literal: str) -> str:
    """What a literal says, a hole for each value."""
    start = _START.match(literal)
    if start is None:
        return _HOLE
    prefix, quote = start["prefix"].lower(), start["quote"]
    body = literal[start.end() : -len(quote)]
    if "b" in prefix:
        return _HOLE
    if "\\" in body and "r" not in prefix:
        body = _ESCAPE.sub(_unescaped, body)
    if "f" in prefix:
        return _EXPRESSION.sub(lambda found: _BRACES.get(found[0], _HOLE), body)
    return _PLACE.sub(_HOLE, body).replace("%%", "%")


_BRACES = {"{{": "{", "}}": "}"}


def _unescaped(found: re.Match[str]) -> str:
    return _PLAIN_ESCAPES.get(found[0], _HOLE)


def _names_of(path: Path) -> Iterator[str]:
    """A module as its logger is called, and the file as a warning says it."""
    yield take_apart(f"{SOURCE_FOLDER}{path.as_posix()}").shape
    parts = path.with_suffix("").parts
    yield take_apart(".".join(parts[:-1] if parts[-1] == "__init__" else parts)).shape


def _python_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _TESTS)
        for name in sorted(names):
            path = Path(parent, name)
            if name.endswith(".py") and not path.is_symlink() and path.stat().st_size <= _MOST_FILE_BYTES:
                yield path


def main(arguments: list[str]) -> int:
    """`python -m insitu.gate.channels.installed_code <site-packages> <target>`."""
    packages, target = arguments
    os.nice(_NICE)
    # Inherited by those who help: the code is not ours, and none of them may go on when nobody waits any more.
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    write_texts(
        texts_of_tree(Path(packages), processes=min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))), Path(target)
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
