"""docs/policy.md names every key of a policy, and every rule that a decision may name."""

from __future__ import annotations

from pathlib import Path

from insitu.gate import smoke
from insitu.gate.checks import CHECKS
from insitu.gate.policy.keys import KEYS

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()


def test_every_key_is_explained() -> None:
    for key in KEYS:
        *above, last = key.replace("*", "<name>").split(".")
        section = ".".join(above)
        if last == "<name>":  # its row is that of the section, or of what is below it
            assert f"`{section}`" in PAGE or f"`{section}.<name>." in PAGE, key
        else:  # `release.models.max_bytes`, `.otherwise`: a row may name several keys of one section
            assert f"`{key.replace('*', '<name>')}`" in PAGE or f"`.{last}`" in PAGE, key


def test_every_rule_is_explained() -> None:
    table = PAGE.partition("## Rules that a decision may name")[2].partition("\n## ")[0]
    missing = [rule for rule in [*CHECKS, smoke.RULE] if f"`{rule}`" not in table and f"`not-{rule}`" not in table]
    assert not missing
