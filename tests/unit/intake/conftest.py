import pytest

from tests.unit.intake.intake_parts import Job


@pytest.fixture
def a_job(tmp_path):
    """Makes the one job of a test, with limits of the test's own."""
    made = []

    def make(**changes) -> Job:
        made.append(Job(tmp_path, **changes))
        return made[-1]

    yield make
    for each in made:
        each.intake.close()


@pytest.fixture
def job(a_job) -> Job:
    return a_job()
