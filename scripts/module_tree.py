"""The modules of candlecast and what each is for: its first docstring line.

Prints the tree that docs/architecture.md shows; with --write puts it there.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "candlecast"
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- tree: scripts/module_tree.py -->\n```\n", "```\n<!-- end of tree -->"
WIDTH = 30


def tree() -> str:
    """One line a module, packages indented, migrations left out."""
    return "src/candlecast/\n" + "".join(f"{line}\n" for line in _lines(PACKAGE, "  "))


def written() -> str:
    """The tree as it stands in the document."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def _lines(folder: Path, indent: str) -> Iterator[str]:
    entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
    for entry in entries:
        if entry.suffix == ".py" and entry.name != "__init__.py":
            yield f"{indent}{entry.name}".ljust(WIDTH) + _purpose(entry)
        elif (entry / "__init__.py").is_file() and entry.name != "migrations":
            yield f"{indent}{entry.name}/".ljust(WIDTH) + _purpose(entry / "__init__.py")
            yield from _lines(entry, indent + "  ")


def _purpose(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    if "--write" in sys.argv:
        text = DOCUMENT.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        DOCUMENT.write_text(head + BEGIN + tree() + END + rest.partition(END)[2], encoding="utf-8")
    else:
        sys.stdout.write(tree())
