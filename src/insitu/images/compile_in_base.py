"""Compiles sources to `.pyc` in the base's own Python. Standard library only: it runs inside the base.

Reads from standard input one JSON object: {"source", "target", "prefix", "jobs",
"parts": [{"folder", "files"}]}. Writes `<target>/<folder>/<pycache path>` for each file that
compiles, and prints nothing. A source that isn't valid Python (a template, an example for
another version) is left out, as `compileall` does for installers.

Same sources, same bytes: each part is compiled in a fork of an untouched parent, since
`marshal` writes an object differently when something else in the process refers to it
(bugs.python.org/issue34093); hashes of strings are fixed by the caller; and the pyc is of the
unchecked kind (PEP 552), so it holds no time and the interpreter doesn't look at the source.
"""

import importlib.util
import json
import marshal
import os
import sys


def main() -> int:
    order = json.loads(sys.stdin.buffer.read())
    running = 0
    failed = False
    for part in order["parts"]:
        if running >= order["jobs"]:
            failed |= os.waitstatus_to_exitcode(os.wait()[1]) != 0
            running -= 1
        if os.fork() == 0:
            os._exit(_compile_part(order, part))
        running += 1
    for _ in range(running):
        failed |= os.waitstatus_to_exitcode(os.wait()[1]) != 0
    return 1 if failed else 0


def _compile_part(order, part):  # noqa: ANN001, ANN202 - JSON in, exit code out
    try:
        for name in part["files"]:
            _compile_file(order, part["folder"], name)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _compile_file(order, folder, name):  # noqa: ANN001, ANN202
    with open(os.path.join(order["source"], name), "rb") as stream:  # noqa: PTH118, PTH123 - pathlib costs 30 ms
        source = stream.read()
    try:
        code = compile(source, order["prefix"] + "/" + name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return
    pyc = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(source) + marshal.dumps(code)
    target = os.path.join(order["target"], folder, importlib.util.cache_from_source(name))  # noqa: PTH118
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    with open(target, "wb") as stream:  # noqa: PTH123
        stream.write(pyc)


if __name__ == "__main__":
    sys.exit(main())
