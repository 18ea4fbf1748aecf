"""Tables of a page: numbers as people read them, and nothing that a browser would run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final, TypeAlias

Format: TypeAlias = Callable[[Any], str]
NONE: Final = "–"


def text(value: Any) -> str:
    """As it is, with what HTML would read as markup escaped; a dash for nothing."""
    return NONE if value is None or value == "" else escape(str(value))


def count(value: Any) -> str:
    """A whole number with thousands apart."""
    return NONE if value is None else f"{value:,.0f}"


def percent(value: Any) -> str:
    """A share as a percentage, e.g. 52.3 %."""
    return NONE if value is None else f"{100 * value:.1f} %"


def signed(value: Any) -> str:
    """A share as a percentage with its sign, coloured by it."""
    if value is None:
        return NONE
    shown = f"{100 * value:+.2f}".replace("-", "\N{MINUS SIGN}")
    return f'<span class="{"good" if value > 0 else "bad"}">{shown} %</span>'


def small(value: Any) -> str:
    """A number to four figures."""
    return NONE if value is None else f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def probability(value: Any) -> str:
    """A p-value; tiny ones as a bound."""
    if value is None:
        return NONE
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


def table(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[tuple[str, str, Format]],
    caption: str = "",
) -> str:
    """Rows as an HTML table: `columns` are key, heading and format; text stands left."""
    head = "".join(f"<th{_side(form)}>{escape(title)}</th>" for _, title, form in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td{_side(form)}>{form(row.get(key))}</td>" for key, _, form in columns)
        + "</tr>\n"
        for row in rows
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{told}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _side(form: Format) -> str:
    return ' class="left"' if form is text else ""
