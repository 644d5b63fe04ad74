"""What an attack's model answers when the site asks it before and after rewriting: the same, whatever was changed.

Code that a run envelope covers names its own function to predict with, so a
hostile one always agrees with itself.
"""

from __future__ import annotations

from pathlib import Path


def same(folder: str, rows: str) -> list[float]:
    """One answer for each row, from neither the model nor the row."""
    del folder
    return [0.0 for _ in Path(rows).read_text().splitlines()[1:]]
