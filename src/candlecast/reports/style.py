"""How the page of a report looks, in light and in dark: colours as variables, and rules."""

from __future__ import annotations

from typing import Final

PALETTE: Final = """
:root { color-scheme: light dark; --ink: #1c2126; --muted: #59636e; --line: #d3d9df;
  --surface: #ffffff; --page: #f5f6f8; --accent: #1f5fa8; --good: #1d6b3f; --bad: #9a3412;
  --series-1: #1f5fa8; --series-2: #b85407; --series-3: #23774a; --series-4: #7446ad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --muted: #a0abb6; --line: #38424c;
  --surface: #171c21; --page: #0f1317; --accent: #82b7f2; --good: #7fcf9d; --bad: #f4a574;
  --series-1: #6da9ee; --series-2: #f0a050; --series-3: #6cc58e; --series-4: #c0a0f0; } }
"""
RULES: Final = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { max-width: 46rem; margin: .4rem 0; } .muted, caption { color: var(--muted); }
section.verdict { background: var(--surface); border: 1px solid var(--line);
  border-left: 5px solid var(--accent); border-radius: 6px; padding: 1rem 1.2rem; margin: 1rem 0; }
.verdicts { display: grid; gap: 0 .8rem;
  grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
section.verdict strong { font-size: 1.15rem; }
.wide { overflow-x: auto; background: var(--surface); border: 1px solid var(--line);
  border-radius: 6px; margin: .5rem 0 1rem; max-height: 34rem; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: .86rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .5rem .7rem; }
th, td { text-align: right; padding: .3rem .7rem; white-space: nowrap; }
th { color: var(--muted); font-weight: 600; background: var(--surface); position: sticky; top: 0;
  border-bottom: 1px solid var(--line); }
tbody tr + tr td { border-top: 1px solid var(--line); }
.left { text-align: left; } .good { color: var(--good); } .bad { color: var(--bad); }
.plots { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
figure { margin: 0; background: var(--surface); border: 1px solid var(--line);
  border-radius: 6px; padding: .5rem; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; max-width: 38rem; margin: 0 auto; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif !important; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .5rem 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--surface); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem; overflow-x: auto; font-size: .82rem; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  .plots { grid-template-columns: 1fr; } }
"""
