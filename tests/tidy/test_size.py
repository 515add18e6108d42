"""Nothing grows without anyone deciding that it should: modules, functions, the root folder, committed files."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.source_tree import ROOT, files, files_like, is_generated, text_of, tree_of

MODULE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
FILE_BYTES_MAX = 5_000_000
ROOT_ENTRIES_MAX = 20

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function_line_count(node: Function) -> int:
    """Counts the lines from `def` to the end, without the docstring."""
    count = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        docstring = node.body[0]
        count -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return count


def functions(tree: ast.Module) -> Iterator[Function]:
    """Yields every function and method."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def long_functions(path: Path) -> Iterator[str]:
    """Yields a line for each function over the limit."""
    for node in functions(tree_of(path)):
        if (count := function_line_count(node)) > FUNCTION_LINES_MAX:
            yield f"{path}: {node.name} has {count} lines"


def test_function_line_count_leaves_out_the_docstring():
    source = 'def f(\n    a,\n):\n    """One.\n\n    Two.\n    """\n    return a\n'
    (node,) = functions(ast.parse(source))
    assert function_line_count(node) == 4


def test_modules_stay_under_the_hard_limit():
    sources = [path for path in files_like(".py", ".cpp", ".hpp", ".h") if not is_generated(path)]
    counts = {path: text_of(path).count("\n") for path in sources}
    assert {path: count for path, count in counts.items() if count > MODULE_LINES_MAX} == {}


def test_functions_stay_under_the_hard_limit():
    assert [line for path in files_like(".py") for line in long_functions(path)] == []


def test_root_folder_stays_readable():
    visible = {path.parts[0] for path in files() if not path.parts[0].startswith(".")}
    assert len(visible) <= ROOT_ENTRIES_MAX, sorted(visible)


def test_no_large_file_is_committed():
    sizes = {path: (ROOT / path).stat().st_size for path in files()}
    assert {path: size for path, size in sizes.items() if size > FILE_BYTES_MAX} == {}
