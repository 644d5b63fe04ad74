"""Text of a file: names of many different rows are a column of the dataset, though they spell no row."""

import json
from pathlib import Path

import pytest

from insitu.gate.contents import Contents, FoundText
from insitu.gate.effort import Effort
from insitu.gate.examine import _rows_in_texts
from insitu.gate.known.data import KnownData, build_index
from insitu.gate.rows.in_text import MANY_NAMES
from tests.unit.gate.gate_world import KEY

FIRST = ("Ada", "Bob", "Cleo", "Dag", "Eve", "Finn", "Gro", "Hal", "Ida", "Jon")
NAMES = [f"{FIRST[n % 10]} {chr(97 + n % 26)}{chr(97 + n // 26)}ickson" for n in range(300)]
CITIES = ("Leeds", "York", "Hull", "Ripon")


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> KnownData:
    folder: Path = tmp_path_factory.mktemp("people")
    lines = [f"{name},19{n % 90 + 10}-0{n % 9 + 1}-15,{CITIES[n % 4]},{n % 7}" for n, name in enumerate(NAMES)]
    (folder / "people.csv").write_text("name,born,city,group\n" + "\n".join(lines))
    (folder / "index").mkdir()
    build_index([folder / "people.csv"], "csv", folder / "index", KEY)
    return KnownData.open(folder / "index")


def rows_in(known: KnownData, text: str) -> int:
    contents = Contents(Effort())
    contents.add_text("file", text)
    return _rows_in_texts(contents.texts, known, contents.effort).found


@pytest.mark.parametrize(
    "form", [json.dumps, "\n".join, lambda names: json.dumps({name.upper(): at for at, name in enumerate(names)})]
)
def test_a_vocabulary_of_names_is_found_whatever_its_order(known, form):
    assert rows_in(known, form(sorted(NAMES[40:80]))) == len(set(NAMES[40:80]))


def test_a_few_names_are_no_vocabulary_and_the_next_one_makes_it_one(known):
    several = list(dict.fromkeys(NAMES))[:MANY_NAMES]
    assert rows_in(known, "\n".join(several[:-1])) == 0
    assert rows_in(known, "\n".join(several)) == MANY_NAMES


def test_categories_dates_and_first_names_tell_nothing(known):
    dates = [f"19{n % 90 + 10}-0{n % 9 + 1}-15" for n in range(300)]
    assert rows_in(known, json.dumps([*CITIES, *FIRST])) == 0
    assert rows_in(known, json.dumps(dates)) == 0


def test_one_name_said_many_times_is_one(known):
    assert rows_in(known, "\n".join([NAMES[5]] * 50)) == 0


def test_names_count_over_all_texts_of_an_output(known):
    texts = [FoundText(f"member {at}", name) for at, name in enumerate(NAMES[:MANY_NAMES])]
    seen = _rows_in_texts(texts, known, Effort())
    assert seen.found == MANY_NAMES
    assert seen.in_text
