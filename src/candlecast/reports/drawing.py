"""Plots as SVG text whose colours the page decides, the same bytes for the same figure."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from candlecast.reports.style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE = "#0a0a01", "#0a0a02", "#0a0a03"
SERIES: Final = ("#0a0a11", "#0a0a12", "#0a0a13", "#0a0a14")
"""Placeholders that no plot would use: each becomes a variable of the page's style."""
VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    **{colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)},
}
MARK: Final = '<svg data-drawn-by="candlecast"'
"""How a file that `standalone` made begins."""
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "candlecast",
    "text.parse_math": False,  # a symbol may hold dollar signs
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def drawn(
    name: str,
    told: str,
    draw: Callable[[Axes], Any],
    size: tuple[float, float] = (4.8, 3.4),
) -> str:
    """An SVG element of what `draw` puts on its axes; `told` says what it shows to those who
    cannot see it, `name` keeps its ids apart from those of other plots of a page.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return _adapted(buffer.getvalue(), name, told)


def standalone(svg: str) -> str:
    """`svg` as a file of its own, with the colours of the page, that says whose it is."""
    svg = svg.replace("<svg", MARK, 1)
    start = svg.index(">") + 1
    rules = f"<style>{PALETTE} svg {{ background: var(--surface) }}</style>"
    return f"{svg[:start]}{rules}{svg[start:]}\n"


def is_drawing(path: Path) -> bool:
    """Whether `path` is a plain file that begins as those that `standalone` made."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def _adapted(svg: str, name: str, told: str) -> str:
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(told)}"', 1)
