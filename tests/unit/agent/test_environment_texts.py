"""The texts of an environment are made once, and given to each job's intake as a copy."""

import pytest

from insitu.agent import installed_texts
from insitu.agent.installed_texts import tell, texts_of


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


def test_a_job_gets_a_copy_that_its_gate_can_read(tree, tmp_path):
    texts, target = texts_of(tree), tmp_path / "intake.txt"
    tell(texts, target)
    assert texts is not None
    assert target.read_bytes() == texts.read_bytes()
    assert (target.stat().st_mode & 0o777, target.stat().st_ino == texts.stat().st_ino) == (0o644, False)


@pytest.mark.parametrize("maker", [["false"], ["no such program"], ["sleep", "60"]])
def test_where_they_can_not_be_made_there_are_none_and_the_next_job_tries_again(tree, tmp_path, monkeypatch, maker):
    with monkeypatch.context() as broken:
        broken.setattr(installed_texts, "_MAKER", [*maker])
        broken.setattr(installed_texts, "_LONGEST_S", 0.1)
        assert texts_of(tree) is None
    tell(None, tmp_path / "intake.txt")
    assert not (tmp_path / "intake.txt").exists()
    assert texts_of(tree) is not None
