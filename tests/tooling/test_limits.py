"""Files and functions stay short enough to be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "etude"
MAX_LINES_OF_FUNCTION = 50
MAX_LINES_OF_FILE = 450
FILES = sorted(SOURCE.rglob("*.py"))


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Name and number of lines, docstring and decorators included, of every function and method in `file`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, (node.end_lineno or first) - first + 1


def test_there_is_something_to_check() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_function_is_longer_than_the_limit(file: Path) -> None:
    too_long = {name: lines for name, lines in functions(file) if lines > MAX_LINES_OF_FUNCTION}
    assert not too_long, (
        f"over {MAX_LINES_OF_FUNCTION} lines: cut out the parts that have a name of their own"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_file_is_longer_than_the_limit(file: Path) -> None:
    if file.name.startswith("fields"):
        return  # a table of arguments is as long as there are arguments
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES_OF_FILE, f"{lines} lines: the file answers more than one question"
