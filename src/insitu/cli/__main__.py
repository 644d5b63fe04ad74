"""`python -m insitu.cli`: the command by the interpreter that runs it, wherever its script lies."""

from __future__ import annotations

from insitu.cli.main import main

if __name__ == "__main__":
    main()
