"""docs/states.md shows the transitions that the code has."""

from __future__ import annotations

from pathlib import Path

from insitu.domain import deployments, jobs, reviews

PAGE = Path(__file__).parents[2] / "docs" / "states.md"


def test_the_page_shows_the_transitions_of_the_code() -> None:
    page = PAGE.read_text()
    for diagram in (jobs.diagram(), reviews.diagram(), deployments.diagram()):
        assert diagram in page, "regenerate docs/states.md from the modules that it names"
