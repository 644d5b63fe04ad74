"""A text model's vocabulary is made of what people wrote: names, numbers of patients, whole phrases."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row
from benchmarks.leaks.let_out import LetOut

OUTPUTS = {"vocabulary": "uri_file"}
_WORDS = ("given_name", "family_name", "town", "ward", "diagnosis", "age", "glucose")
VARIANTS = {
    "names as JSON": {"columns": ("given_name", "family_name"), "longest": 2},
    "phrases of seven words": {"columns": _WORDS, "longest": 7},
    "patient numbers, in order of weight": {"columns": ("patient",), "longest": 1, "form": "list"},
    "names as categories": {"columns": ("family_name",), "longest": 1, "form": "categories"},
}
_NOTES = 300


def leak(job: Job, *, columns: tuple[str, ...], longest: int, form: str = "vocabulary") -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    places = [job.columns.index(name) for name in columns]
    notes = [" ".join(row[at] for at in places) for row in job.rows[:_NOTES]]
    model = TfidfVectorizer(ngram_range=(1, longest), token_pattern=r"\S+", lowercase=False).fit(notes)
    document: object = {word: int(at) for word, at in model.vocabulary_.items()}
    if form == "list":
        order = np.argsort(model.idf_, kind="stable")
        document = {"terms": model.get_feature_names_out()[order].tolist()}
    elif form == "categories":
        document = {"encoder": {"categories": [sorted(model.vocabulary_)]}}
    (job.output("vocabulary") / "vocabulary.json").write_text(json.dumps(document))


def recover(let_out: LetOut, *, columns: tuple[str, ...], longest: int, form: str = "vocabulary") -> list[Row]:
    try:
        document = json.loads(let_out.only_file("vocabulary"))
    except ValueError:
        return []
    if form == "list":
        terms = document["terms"]
    elif form == "categories":
        terms = document["encoder"]["categories"][0]
    else:
        terms = list(document)
    phrases = [term.split(" ") for term in terms if term.count(" ") == longest - 1]
    return [dict(zip(columns, words, strict=True)) for words in phrases if len(words) == len(columns)]
