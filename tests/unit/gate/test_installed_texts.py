"""What the packages of an environment may print, and what it costs to say it."""

import subprocess
import sys
from collections.abc import Set as AbstractSet

import pytest

from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.installed_code import texts_of_code, texts_of_tree
from insitu.gate.channels.installed_texts import InstalledTexts, InstalledTextsFile, write_texts
from insitu.gate.channels.line_shapes import take_apart
from insitu.gate.channels.word_price import WordPrice

SOURCE = r'''
"""A docstring, which nobody prints."""
class FrobnicationWarning(UserWarning):
    """Another one."""

def fit(frob):  # it's a comment's "quote"
    warnings.warn(
        f"Grommet '{frob.name!r:>{width}}' has been "  # why
        f"reticulated 12 times, {{sic}}", FrobnicationWarning
    )
    log.info("Splines: %d of %(all)s\tleft, 100%% sure\nNext line of it", 1)
    log.info("Quoxes {} and {name}: don't".format(1))
    raise ValueError(r"back\slash regime", b"bytes are not text", "été \u00e9 gone")
'''


def shapes(*lines: str) -> set[str]:
    return {take_apart(line).shape for line in lines}


def test_texts_between_values_are_found_and_names_of_classes():
    found = set(texts_of_code(SOURCE))
    assert found >= shapes(
        "FrobnicationWarning", "Grommet '", "' has been reticulated 12 times, {sic}", "Splines:", "of",
        "left, 100% sure", "Next line of it", "Quoxes", ": don't", "back\\slash regime", "gone", "warnings.warn(",
    ) - {"of"}  # fmt: skip
    assert not any("docstring" in text or "bytes are" in text or "quote" in text for text in found)


@pytest.mark.parametrize(
    "source", ["'open", '"""open', "f'{open'", "\x00", "'" * 99_999, '"\\' * 50_000, "#'" * 50_000]
)
def test_what_is_no_code_ends_nothing(source):
    assert len(list(texts_of_code(source))) < 10


@pytest.fixture
def packages(tmp_path):
    folder = tmp_path / "site-packages"
    (folder / "frob" / "tests").mkdir(parents=True)
    (folder / "frob" / "__init__.py").write_text(SOURCE)
    (folder / "frob" / "inner.py").write_text("x = 'only at home in here'")
    (folder / "frob" / "tests" / "test_it.py").write_text("x = 'tests say nothing'")
    (folder / "frob" / "linked.py").symlink_to("/etc/passwd")
    return folder


def test_modules_and_files_are_texts_and_tests_and_links_are_not(packages):
    found = texts_of_tree(packages)
    assert found >= {"frob", "frob.inner", "site-packages/frob/inner.py", "only at home in here", "UserWarning"}
    assert not any("tests say" in text or "linked" in text or "root:" in text for text in found)


def test_the_agents_process_writes_what_the_gates_process_reads(packages, tmp_path):
    target = tmp_path / "texts"
    command = [sys.executable, "-P", "-m", "insitu.gate.channels.installed_code", packages, target]
    subprocess.run(command, check=True, timeout=60)
    assert set(target.read_text().split("\n")) == texts_of_tree(packages)
    read = InstalledTextsFile(target).found
    assert read.longest("at frob.inner: x", 3) == len("at frob.inner")
    write_texts([], target)
    assert (InstalledTextsFile(target).found.longest("frob", 0), InstalledTextsFile(None).found.bits) == (0, 0.0)
    target.write_bytes(b"\xff")
    assert InstalledTextsFile(target).found.longest("frob", 0) == 0


def test_the_longest_text_is_found_and_no_word_is_cut():
    texts = InstalledTexts(sorted(["Waiting up to", "Waiting", "wait", "Waiting up to the", "a", "seconds for"]))
    assert texts.longest("Waiting up to \x00 seconds", 0) == len("Waiting up to")
    assert texts.longest("Waiting uptown", 0) == len("Waiting")
    assert texts.longest("waiter", 0) == 0
    assert texts.longest("\x00 seconds for", 2) == 2 + len("seconds for")


def price(line: str, texts: AbstractSet[str] = frozenset()) -> float:
    installed = InstalledTexts(sorted(texts))
    return WordPrice(CodeWords, installed=lambda: installed).of_shape(take_apart(line).shape).bits


@pytest.mark.parametrize(
    "line",
    [
        "WARNING frob.inner: Grommet 'x' has been reticulated 7 times, {sic}",
        "site-packages/frob/inner.py:12: FrobnicationWarning: Grommet 'x' has been reticulated 7 times, {sic}",
        "[Frob] Next line of it",
        "Next line of it",
    ],
)
def test_a_text_of_a_package_is_one_of_so_many_whatever_stands_before_it(line, packages):
    texts = texts_of_tree(packages)
    assert price(line, texts) < 0.75 * price(line)
    # Ten bits more for a thousand times as many to choose from, for each that is said.
    assert price(line, texts) < price(line, texts | {f"text {at}" for at in range(1000 * len(texts))}) < price(line)


def test_no_text_costs_less_than_the_choice_among_all():
    texts = {f"grommet number {chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(512)}
    assert min(price(text, texts) for text in texts) > 9
