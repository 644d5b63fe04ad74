"""The private table: Breast Cancer Wisconsin (Diagnostic), as scikit-learn ships it.

Wolberg, Mangasarian, Street and Street, UCI Machine Learning Repository, 1993
(doi:10.24432/C5DW2B): 569 rows, 30 measures of cell nuclei, and what the biopsy said.
The file is read where it lies, because importing scikit-learn for it takes seconds.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from insitu.domain.errors import UnavailableError

TARGET = "malignant"
_MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
)
FEATURES = tuple(
    [f"mean_{name}" for name in _MEASURES]
    + [f"{name}_error" for name in _MEASURES]
    + [f"worst_{name}" for name in _MEASURES]
)
_EVERY = 71  # rows that the client asks about: spread over the table


@dataclass(frozen=True)
class Wdbc:
    rows: list[list[float]]
    malignant: list[int]

    def write(self, path: Path) -> None:
        """As a CSV file with a header."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([*FEATURES, TARGET])
            writer.writerows([*row, label] for row, label in zip(self.rows, self.malignant, strict=True))

    def asked(self) -> tuple[list[list[float]], list[int]]:
        """A few rows and their true labels: what a client at the clinic would ask about."""
        chosen = range(0, len(self.rows), _EVERY)
        return [self.rows[index] for index in chosen], [self.malignant[index] for index in chosen]


def load_wdbc() -> Wdbc:
    """The table.

    Raises:
        UnavailableError: scikit-learn is not installed here.
    """
    found = find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise UnavailableError(
            "the table comes with scikit-learn, which is not installed here",
            code="no-table",
            hint="run the demo with `make demo`, or install scikit-learn beside insitu",
        )
    path = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "breast_cancer.csv"
    rows: list[list[float]] = []
    malignant: list[int] = []
    with path.open(newline="") as stream:
        reader = csv.reader(stream)
        next(reader)  # how many, and what the labels mean: 0 malignant, 1 benign
        for *measures, label in reader:
            rows.append([float(value) for value in measures])
            malignant.append(1 - int(label))
    return Wdbc(rows, malignant)
