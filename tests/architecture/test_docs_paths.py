"""What the documentation names is there: paths, the functions named after them, links and the headings they aim at."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "insitu"
PACKAGES = sorted(folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").exists())

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    SOURCE / "__init__.py",
]

# `src/insitu/gate/decide.py`, `insitu/gate/`, `gate/decide.py:decide`, `tests/attacks/`, `docs/decisions/0001-*.md`
PATH = re.compile(
    r"(?<![\w/.:-])"
    rf"(?P<path>(?:src/insitu|insitu|tests|docs|examples|benchmarks|scripts|{'|'.join(PACKAGES)})/[\w./*-]*)"
    r"(?::(?P<symbol>[A-Za-z_]\w*))?"
)
# Words joined by a slash are prose ("hub/agent"): only these endings make a path of one.
LOOKS_LIKE_A_PATH = re.compile(r"(/|\.(py|md|yaml|yml|json|toml|txt|html|js|css|bpf))$")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)|!\[[^\]]*\]\((?P<image>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(?P<title>.+?)\s*$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def candidates(path: str) -> Iterator[Path]:
    for base in (ROOT, ROOT / "src", SOURCE):
        yield from base.glob(path.rstrip("/"))


def defines(file: Path, symbol: str) -> bool:
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, named) and node.name == symbol:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == symbol for target in targets):
            return True
    return False


def missing_paths(text: str) -> Iterator[str]:
    for match in PATH.finditer(text):
        path, symbol = match["path"].rstrip("."), match["symbol"]
        if not LOOKS_LIKE_A_PATH.search(path):
            continue
        found = list(candidates(path))
        if not found:
            yield f"{path} does not exist"
        elif symbol and found[0].suffix == ".py" and not defines(found[0], symbol):
            yield f"{path} has no {symbol}"


def slug(title: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-")


def broken_links(document: Path, text: str) -> Iterator[str]:
    for match in LINK.finditer(FENCE.sub("", text)):
        target = match["target"] or match["image"]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        if not file.exists():
            yield f"link to {target}: there is no such file"
        elif anchor and anchor not in {slug(heading["title"]) for heading in HEADING.finditer(file.read_text())}:
            yield f"link to {target}: there is no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_path_and_link_of_a_document_leads_somewhere(document):
    text = document.read_text()
    found = [*missing_paths(text), *(broken_links(document, text) if document.suffix == ".md" else ())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "open `src/insitu/gate/nowhere.py`",
        "open insitu/nowhere.py.",
        "| 3 | `wire/nowhere.py` |",
        "see `domain/errors.py:NoSuchError`",
        "tests/nowhere/ has them",
    ],
)
def test_a_path_that_leads_nowhere_is_seen(text):
    assert list(missing_paths(text))


@pytest.mark.parametrize(
    "text", ["`domain/errors.py:InsituError`", "src/insitu/domain/", "hub/agent", "a hub/site pair"]
)
def test_a_path_that_is_there_and_plain_prose_pass(text):
    assert not list(missing_paths(text))


@pytest.mark.parametrize("text", ["[x](nowhere.md)", "[x](README.md#no-such-heading)", "![x](nowhere.png)"])
def test_a_link_that_leads_nowhere_is_seen(text):
    assert list(broken_links(ROOT / "README.md", text))
