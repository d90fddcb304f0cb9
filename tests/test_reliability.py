"""The page on faults names only tests that are there, and at least one for each fault."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
TESTS = re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE)


def functions(path):
    return {node.name for node in ast.parse(path.read_text()).body if hasattr(node, "name")}


def test_every_fault_has_a_row_with_a_test():
    table = PAGE.partition("## Faults")[2].partition("## Fuzzing")[0]
    rows = re.findall(r"^\| (\d[\d, ]*) \| (.*)$", table, re.MULTILINE)
    assert {int(each) for numbers, _ in rows for each in numbers.split(",")} == set(range(1, 46))
    assert [numbers for numbers, row in rows if "::test_" not in row] == []


def test_every_test_that_is_named_is_there():
    assert TESTS
    assert [name for name in PAGE.split("`") if name.startswith("tests/") and "::" in name] == [
        f"{path}::{name}" for path, name in TESTS
    ]
    assert [
        f"{path}::{name}"
        for path, name in TESTS
        if not (ROOT / path).exists() or name not in functions(ROOT / path)
    ] == []
