"""The table in docs/reliability.md: each promise beside a fault and the test that would break."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

from tests.faults.account import PROMISES

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- written by make test-faults -->\n", "<!-- end -->\n"
_HEAD = ["| promise | fault | test that would break | lost | doubled |", "| --- " * 5 + "|"]
_ROW = re.compile(r"\| (.+) \| (.+) \| \[(.+)\]\(\.\./tests/faults/(.+)\) \| (\d+) \| (\d+) \|")


class Row(NamedTuple):
    """One case."""

    promise: str
    fault: str
    file: str
    name: str
    lost: int
    doubled: int

    @property
    def test(self) -> str:
        return f"{self.file}::{self.name}"


def cases() -> set[str]:
    """Returns the tests in this folder that end with an account, as `file::name`."""
    return {
        f"{path.name}::{node.name}"
        for path in FOLDER.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and "reliability" in {argument.arg for argument in node.args.args}
    }


def write(rows) -> None:
    """Writes the table into the page, in the page's order, so that equal runs write the same."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    lines = [
        f"| {r.promise} | {r.fault} | [{r.name}](../tests/faults/{r.file}) | {r.lost} | "
        f"{r.doubled} |"
        for r in sorted(set(rows), key=lambda row: (PROMISES.index(row.promise), row))
    ]
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}\n" + "\n".join([*_HEAD, *lines]) + f"\n\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")


def read() -> list[Row]:
    """Returns the rows of the table in the page."""
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    found = [_ROW.fullmatch(line) for line in text.strip().splitlines()[2:]]
    return [Row(m[1], m[2], m[4], m[3], int(m[5]), int(m[6])) for m in found]
