"""Which objects a version takes by their names, and which names no folder can hold."""

import pytest

from insitu.agent.staging.patterns import compile_pattern, literal_prefix
from insitu.agent.staging.views import check_names
from insitu.domain.errors import InvalidInputError


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("wdbc/*.csv", ["wdbc/a.csv", "wdbc/.csv"], ["wdbc/x/a.csv", "a.csv", "wdbc/a.csvx"]),
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv"], ["a.npy"]),
        ("wdbc/**", ["wdbc/a", "wdbc/x/y"], ["wdbcx/a"]),
        ("wdbc/", ["wdbc/a", "wdbc/x/y"], ["wdbc", "wdbcx/a"]),
        ("part-?.csv", ["part-1.csv"], ["part-12.csv", "part-/.csv"]),
        ("part-[0-3].csv", ["part-2.csv"], ["part-7.csv"]),
        ("part-[!0-3].csv", ["part-7.csv"], ["part-2.csv", "part-/.csv"]),
        ("a+b (1).csv", ["a+b (1).csv"], ["aab (1).csv"]),
        ("größe/*.csv", ["größe/ü.csv"], ["grosse/u.csv"]),
    ],
)
def test_patterns_match_names(pattern, yes, no):
    matches = compile_pattern(pattern).fullmatch
    assert [name for name in yes if not matches(name)] == []
    assert [name for name in no if matches(name)] == []
    assert all(name.startswith(literal_prefix(pattern)) for name in yes)


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*", "a/../b"])
def test_patterns_that_lead_outside_are_refused(pattern):
    with pytest.raises(InvalidInputError):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "names", [["a//b"], ["a/../b"], ["./a"], ["/a"], ["a", "a/b"], ["x" * 256], ["a/b/", "c"], ["a\0b"]]
)
def test_names_that_no_folder_can_hold_are_refused(names):
    with pytest.raises(InvalidInputError) as refused:
        check_names(sorted(names))
    assert refused.value.code == "data-name"
