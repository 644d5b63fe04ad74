"""A ratchet on size: prints the worst five, and fails over generous caps.

The caps are there to start a conversation, not to be aimed at: most modules are near a hundred lines and most functions
under ten. Splitting for the number's sake makes it worse. Lower a cap when the worst have become better.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "insitu"

MAX_FILE_LINES = 700
MAX_FUNCTION_LINES = 90


def files() -> list[tuple[int, str]]:
    lengths = ((len(file.read_text().splitlines()), str(file.relative_to(ROOT))) for file in SOURCE.rglob("*.py"))
    return sorted(lengths, reverse=True)


def functions() -> list[tuple[int, str]]:
    """Length of each function from its `def` to its end, docstring left out: explaining is free."""
    found = []
    for file in SOURCE.rglob("*.py"):
        if "migrations" in file.parts:  # a list of tables, which nobody may tidy once it was released
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                docstring = node.body[0] if ast.get_docstring(node) is not None else None
                explained = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
                name = f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
                found.append((node.end_lineno - node.lineno + 1 - explained, name))
    return sorted(found, reverse=True)


def report(capsys, title: str, worst: list[tuple[int, str]]) -> None:
    with capsys.disabled():
        print(f"\n{title}: " + "; ".join(f"{name} ({lines})" for lines, name in worst[:5]))


def test_no_file_is_too_long_to_be_read_in_one_sitting(capsys):
    report(capsys, "longest files", files())
    too_long = [f"{name}: {lines} lines" for lines, name in files() if lines > MAX_FILE_LINES]
    assert not too_long


def test_no_function_is_too_long_to_be_seen_at_once(capsys):
    report(capsys, "longest functions", functions())
    too_long = [f"{name}: {lines} lines" for lines, name in functions() if lines > MAX_FUNCTION_LINES]
    assert not too_long
