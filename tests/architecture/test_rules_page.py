"""docs/policy.md names every rule that a site's code can give as a reason, says what it means and what to do, and no other.

Rules are found where the code writes them: as `rule=`, as a constant or variable of that name, as the first
argument of a finding or an objection, as what a channel's rule returns, and in the tables of checks that a job or
deployment has to pass. A rule that is written in another way would escape, so those ways are all that there are.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from insitu.gate.channels.hints import RULES_WITH_HINTS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "insitu"
PAGE = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
FOLDERS = ("gate", "agent", "intake")

RULE = re.compile(r"[a-z]+(?:[-_.][a-z_]+)*")
NAMES = re.compile(r"rule|_?RULES?|NOT_CHECKED|CLEAN")
FIRST_ARGUMENT = {"Finding", "ObjectionError", "NotRebuiltError", "BudgetLine", "Stays"}
LAST_ARGUMENT = {"MetricOutcome", "TextOutcome", "LineOutcome"}
HYPHENATED = re.compile(r"[a-z]+(?:-[a-z]+)+")

# Words that stand where rules stand and are none: what the ledger calls an entry that nothing objected to.
NO_OBJECTION = {"clean", "catalogue", "closed-schema", "declared", "all"}


def strings(node: ast.AST | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body)
        yield from strings(node.orelse)
    elif isinstance(node, ast.Dict):
        for value in node.values:
            yield from strings(value)
    elif isinstance(node, ast.JoinedStr):  # `datasets.{name}.who` is `datasets.<name>.who` on the page
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)


def of_call(node: ast.Call) -> Iterator[str]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for keyword in node.keywords:
        if keyword.arg == "rule":
            yield from strings(keyword.value)
    if node.args and name in FIRST_ARGUMENT:
        yield from strings(node.args[0])
    if node.args and name in LAST_ARGUMENT and getattr(node.args[0], "attr", "") != "RELEASED":
        yield from strings(node.args[-1])


def of_checks(node: ast.Assign) -> Iterator[str]:
    """The second of each row: `checks = ((holds, rule, measure, limit), …)`."""
    if isinstance(node.value, ast.Tuple):
        for row in node.value.elts:
            if isinstance(row, ast.Tuple) and len(row.elts) > 1:
                yield from strings(row.elts[1])


def rules_in(place: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call():
                yield from of_call(node)
            case ast.Assign(targets=[ast.Name(id="checks")]):
                prefix = {"_check_grant": "datasets.*.", "_check_resources": "sandbox."}
                inside = next((name for name in prefix if is_in(tree, name, node)), "")
                yield from (prefix.get(inside, "") + rule for rule in of_checks(node))
            case ast.Assign(targets=[ast.Name(id=name)]) if NAMES.fullmatch(name):
                yield from strings(node.value)
            case ast.Return() if place.startswith("gate/channels/"):
                yield from (word for word in strings(node.value) if HYPHENATED.fullmatch(word))


def is_in(tree: ast.Module, function: str, node: ast.AST) -> bool:
    return any(
        isinstance(one, ast.FunctionDef) and one.name == function and node in ast.walk(one) for one in ast.walk(tree)
    )


def in_code() -> dict[str, str]:
    """Rule → one place that gives it."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for file in sorted((SOURCE / folder).rglob("*.py")):
            place = file.relative_to(SOURCE).as_posix()
            for rule in rules_in(place, ast.parse(file.read_bytes())):
                if RULE.fullmatch(rule.replace("*", "x")) and not rule.endswith(".*"):
                    found.setdefault(rule.replace(".*.", ".<name>."), place)
    return {rule: place for rule, place in found.items() if rule not in NO_OBJECTION}


def rows_of_page() -> list[list[str]]:
    section = PAGE.partition("\n## Rules that a decision may name\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0].startswith("`")]


def on_page() -> set[str]:
    """`datasets.<name>.who`, `.purpose` in one row are two rules of one section."""
    found: set[str] = set()
    for row in rows_of_page():
        section = ""
        for word in re.findall(r"`([^`]+)`", row[0]):
            section = section if word.startswith(".") else word.rpartition(".")[0]
            found.add(section + word if word.startswith(".") else word)
    return found


def test_every_rule_of_the_code_is_on_the_page() -> None:
    missing = {rule: place for rule, place in in_code().items() if rule not in on_page()}
    assert not missing


def test_the_page_names_no_rule_that_the_code_has_not() -> None:
    assert not on_page() - set(in_code())


def test_each_rule_has_a_meaning_and_something_to_do() -> None:
    assert not [row[0] for row in rows_of_page() if len(row) != 3 or not all(row)]


def test_the_rules_are_really_found() -> None:
    """One of each way in which a rule may be written."""
    assert {
        "rows-in-model", "kind", "not-checked", "smoke-prediction", "model-code", "budget.per_job", "log-rate",
        "name-length", "data-in-metrics", "datasets.<name>.who", "sandbox.memory", "deployments.max", "resident",
    } <= set(in_code())  # fmt: skip


def test_each_rule_about_what_a_job_says_has_a_hint_for_the_job_s_log() -> None:
    section = PAGE.partition("\n### About what a job says\n")[2].partition("\n###")[0]
    first = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    assert {rule for cell in first for rule in re.findall(r"`([^`]+)`", cell)} == RULES_WITH_HINTS
