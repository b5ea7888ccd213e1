"""How a process of this installation is started."""

from __future__ import annotations

import sys

_START = (
    "import runpy, sys; sys.path[:] = filter(None, sys.path); runpy.run_module(sys.argv.pop(1), None, '__main__', True)"
)


def python_module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs module ``name``.

    Nothing is imported from the folder that it is started in; ``python -m`` would take a ``pickle.py`` that lies there
    for Python's own.
    """
    return [sys.executable, "-c", _START, name, *arguments]
