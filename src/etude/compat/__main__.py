"""`python -m etude.compat script.py ...`, or `-m package.module ...`: runs it with etude in transformers' place."""

from __future__ import annotations

import os
import runpy
import sys

from etude.compat.installation import install

_USAGE = """usage: python -m etude.compat script.py [args ...]
       python -m etude.compat -m package.module [args ...]"""


def main(arguments: list[str]) -> None:
    """Installs etude, then runs the script or module as Python would."""
    module = arguments[1:] if arguments[:1] == ["-m"] else None
    if not arguments or module == [] or (module is None and arguments[0].startswith("-")):
        sys.exit(_USAGE)
    install()
    if module is not None:
        sys.argv = module
        sys.path[0] = os.getcwd()
        runpy.run_module(module[0], run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
