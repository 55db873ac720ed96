"""`python -m etude.checkpoint verify|list|diff|export`: looking after checkpoints from a shell.

Exit status: 0 where all is well (`diff`: nothing differs), 1 where a checkpoint is broken (`diff`: something differs),
2 where there is nothing to look at, or what was asked for cannot be done.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from etude.checkpoint.inspect import checkpoints_in, difference, size_text, summary, table
from etude.errors import CheckpointError


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line says. Returns the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except (CheckpointError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m etude.checkpoint", description="Looks after checkpoints."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    verifying = commands.add_parser("verify", help="compare every byte with what was written")
    verifying.set_defaults(run=lambda chosen: _show(chosen.paths, contents=True))
    listing = commands.add_parser("list", help="what there is, without reading it")
    listing.set_defaults(run=lambda chosen: _show(chosen.paths, contents=False))
    for command in (verifying, listing):
        command.add_argument(
            "paths", nargs="+", type=Path, metavar="PATH", help="a checkpoint, or a folder of them"
        )

    comparing = commands.add_parser("diff", help="how two checkpoints differ")
    comparing.set_defaults(run=_compare)
    comparing.add_argument("one", type=Path, metavar="A")
    comparing.add_argument("other", type=Path, metavar="B")

    exporting = commands.add_parser("export", help="write a checkpoint in another library's layout")
    exporting.set_defaults(run=_export)
    exporting.add_argument("path", type=Path, metavar="PATH", help="a checkpoint")
    exporting.add_argument("target", type=Path, metavar="OUT", help="a folder that is not there yet")
    exporting.add_argument("--format", choices=["transformers"], default="transformers")
    return parser


def _show(paths: list[Path], contents: bool) -> int:
    broken = False
    for path in paths:
        found = [summary(folder, contents) for folder in checkpoints_in(path)]
        print(f"{path}\n{table(one.cells('good' if contents else 'complete') for one in found)}")
        broken |= any(one.problem is not None for one in found)
    return 1 if broken else 0


def _compare(chosen: argparse.Namespace) -> int:
    for path in (chosen.one, chosen.other):
        if checkpoints_in(path) != [path]:
            raise CheckpointError(f"{path} has checkpoints in it; name one of them.")
    found = difference(chosen.one, chosen.other)
    print(f"{chosen.one} -> {chosen.other}\n{found}")
    return 1 if found else 0


def _export(chosen: argparse.Namespace) -> int:
    from etude.checkpoint.export import export  # PyTorch, which listing does not need

    export(chosen.path, chosen.target)
    size = sum(path.stat().st_size for path in chosen.target.rglob("*") if path.is_file())
    print(f"{chosen.target}  {size_text(size)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
