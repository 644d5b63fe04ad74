"""The texts of an environment are made once, and given to each job's intake as a copy."""

import pytest

from insitu.agent import installed_texts
from insitu.agent.installed_texts import texts_of


@pytest.fixture
def tree(tmp_path):
    packages = tmp_path / "environments" / "abc" / "tree" / "lib" / "python3.11" / "site-packages"
    (packages / "frob").mkdir(parents=True)
    (packages / "frob" / "__init__.py").write_text("x = 'Reticulating splines'")
    return tmp_path / "environments" / "abc" / "tree"


def test_they_stand_beside_the_environment_and_are_made_once(tree, monkeypatch):
    texts = texts_of(tree)
    assert texts is not None
    assert texts.parent == tree.parent.parent
    assert "Reticulating splines" in texts.read_text().split("\n")
    monkeypatch.setattr(installed_texts, "_MAKER", ["false"])
    assert texts_of(tree) == texts


@pytest.mark.parametrize("maker", [["false"], ["no such program"], ["sleep", "60"]])
def test_where_they_can_not_be_made_there_are_none_and_the_next_job_tries_again(tree, monkeypatch, maker):
    with monkeypatch.context() as broken:
        broken.setattr(installed_texts, "_MAKER", [*maker])
        broken.setattr(installed_texts, "_LONGEST_S", 0.1)
        assert texts_of(tree) is None
    assert texts_of(tree) is not None
