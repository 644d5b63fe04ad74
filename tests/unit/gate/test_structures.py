"""What keeps rows by the way it is built, found by content; and counts of a few in tables."""

import codecs
import json

import numpy as np
import pandas as pd
import pytest

from insitu.gate.contents import FoundNumbers, FoundText
from insitu.gate.effort import Effort
from insitu.gate.small_groups import small_groups
from insitu.gate.structures import Structures, structures_in
from tests.unit.gate.canaries import contents_of
from tests.unit.gate.gate_world import known_of

RNG = np.random.default_rng(0)
ROWS = 400


def people() -> pd.DataFrame:
    surnames = ["".join(RNG.choice(list("abcdefghij"), 7)).capitalize() for _ in range(ROWS)]
    return pd.DataFrame(
        {
            "name": surnames,
            "ward": RNG.choice(["north", "south", "east"], ROWS),
            "age": RNG.integers(18, 90, ROWS),
            "dose": np.round(RNG.normal(5, 1, ROWS), 4),
            "weight": np.round(RNG.normal(70, 9, ROWS), 3),
            "height": np.round(RNG.normal(170, 9, ROWS), 3),
            "pulse": np.round(RNG.normal(70, 9, ROWS), 3),
        }
    )


@pytest.fixture(scope="module")
def table():
    return people()


@pytest.fixture(scope="module")
def known(table, tmp_path_factory):
    return known_of(table, tmp_path_factory.mktemp("people") / "index")


def found(known, *arrays, text="") -> Structures:
    numbers = [FoundNumbers(f"array {at}", np.asarray(values)) for at, values in enumerate(arrays, start=1)]
    return structures_in(numbers, [FoundText("words", text)], [known], known.column_names, Effort())


def test_an_array_as_long_as_the_dataset_keeps_something_for_each_row(known):
    seen = found(known, RNG.normal(size=3), RNG.integers(0, 3, ROWS))
    assert (seen.rows_kept, seen.where) == ("an array as long as the dataset", "array 2")
    assert found(known, RNG.normal(size=(2, ROWS))).rows_kept
    assert not found(known, RNG.normal(size=ROWS - 1)).rows_kept


def test_a_list_of_rows_by_number_is_found_and_other_rising_numbers_are_not(known):
    assert found(known, np.sort(RNG.choice(ROWS, 120, replace=False))).rows_kept == "a list of rows by number"
    assert not found(known, np.arange(120)).rows_kept
    assert not found(known, np.arange(0, 360, 3)).rows_kept
    assert not found(known, RNG.integers(0, ROWS, 120)).rows_kept
    assert not found(known, np.sort(RNG.choice(4000, 120, replace=False))).rows_kept


@pytest.mark.parametrize("width", ["f8", "f4"])
def test_values_of_one_column_are_found_in_any_order_and_coefficients_are_not(known, table, width):
    cells = RNG.permutation(table["dose"].unique()[:40]).astype(width)
    assert found(known, cells).rows_kept == "an array of one column's values"
    assert found(known, cells.reshape(-1, 1)).rows_kept
    assert not found(known, RNG.normal(5, 1, 40).astype(width)).rows_kept
    assert not found(known, table["age"].to_numpy()[:40]).rows_kept  # small whole numbers stand everywhere


def test_smallest_and_largest_values_of_columns_are_counted(known, table):
    numbers = table[["dose", "weight", "height", "pulse"]]
    assert found(known, numbers.min().to_numpy()).extremes == 4
    assert found(known, numbers.max().to_numpy().astype(np.float32)).extremes == 4
    assert found(known, np.concatenate([numbers.max(), numbers.mean()])).extremes == 4
    assert found(known, numbers.mean().to_numpy()).extremes == 0
    assert found(known, numbers.min().to_numpy()[:2]).extremes == 0


def test_words_of_few_rows_are_counted_and_words_of_many_and_names_of_columns_are_not(known, table):
    assert found(known, text=json.dumps(list(table["name"][:30]))).rare_words == 30
    assert found(known, text=json.dumps({name.upper(): 1 for name in table["name"][:5]})).rare_words == 5
    seen = found(known, text='{"north": 1, "south": 2, "dose": 3, "coef": 4}')
    assert (seen.rare_words, seen.words) == (0, 3)


def test_text_that_was_only_guessed_says_nothing_about_words(known):
    guessed = [FoundText("unpacked", "many words that a reader made up", guessed=True)]
    assert structures_in([], guessed, [known], (), Effort()).words == 0


SPELLINGS = {
    "backwards": lambda word: word[::-1],
    "in two words": lambda word: [word[:3], word[3:]],
    "letter by letter": list,
    "letters apart": " ".join,
    "behind a prefix": lambda word: f"w_{word.lower()}",
    "letters moved": lambda word: codecs.encode(word, "rot13"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_many_words_of_few_rows_are_found_in_other_spellings(known, table, spelling):
    spelt = [SPELLINGS[spelling](word) for word in table["name"][:60]]
    assert rare_words_in(known, spelt) >= 50
    assert not rare_words_in(known, spelt[:3])


def rare_words_in(known, document) -> int:
    texts = contents_of(json.dumps(document).encode()).texts
    return structures_in([], texts, [known], known.column_names, Effort()).rare_words


def test_without_a_dataset_nothing_can_be_kept():
    assert structures_in([FoundNumbers("a", np.ones(400))], [], [], (), Effort()) == Structures()


def is_ward(word: str) -> bool:
    return word in ("north", "south")


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        (b"[[240,1],[33,500]]", 1),
        (b'{"actual_0":{"predicted_0":240,"predicted_1":1},"actual_1":{"predicted_0":9,"predicted_1":500}}', 2),
        (b'[{"ward":"north","n":12},{"ward":"south","n":3}]', 1),
        (b'{"north":240,"south":1}', 1),
        (b'{"tp":40,"fp":2,"fn":0,"tn":51}', 1),
        (b'{"n":[120,4,0]}', 1),
        (b"actual,p0,p1\n0,240,1\n1,33,500\n", 1),
        (b"ward,count\nnorth,501\nsouth,3\n", 1),
        (b'{"north":{"61":{"120":1,"130":12},"70":{"95":3}},"south":{"61":{"120":40}}}', 2),
        (b'{"61":{"120":{"172":4}}}', 1),
        (b'{"north":[240,1]}', 1),
        (b'{"north":{"auc":0.91,"epochs":5},"seeds":{"1":0.5,"2":0.25}}', 0),
        (b"group,cases\nx,501\ny,10\n", 0),
        (b"ward,whatever\nnorth,501\nsouth,3\n", 1),
        (b"[[240,0],[33,500]]", 0),
        (b'{"auc":0.97,"epochs":5,"layers":[1,2,3],"best":{"C":1,"fold":3}}', 0),
        (b"epoch,loss\n1,0.5\n2,0.25\n", 0),
        (b"ward,mean\nnorth,5.5\nsouth,4.25\n", 0),
        (b"[[0.5,1],[2,3]]", 0),
        (b"\x89PNG\r\n\x1a\n", 0),
        (b"a,b\n", 0),
    ],
)
def test_counts_of_a_few_are_found_in_tables_and_other_numbers_are_none(data, counts):
    assert small_groups(data, is_ward) == counts
