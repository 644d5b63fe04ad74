"""`python fetch.py CONTAINER FOLDER`: every blob of a container into a folder, as adlfs does it; prints the seconds.

The connection string comes on standard input. Importing and connecting do not count.
"""

from __future__ import annotations

import sys
import time

from adlfs import AzureBlobFileSystem  # pyright: ignore[reportMissingImports]


def main() -> None:
    container, folder = sys.argv[1:]
    files = AzureBlobFileSystem(connection_string=sys.stdin.read())
    files.info(container)
    begun = time.perf_counter()
    files.get(f"{container}/", folder, recursive=True)
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main()
