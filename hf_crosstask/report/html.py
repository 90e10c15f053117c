"""The report as one HTML file that needs no network: styles and images are in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from hf_crosstask.evaluation.analysis import Cell, FigureData, Mark, Table
from hf_crosstask.report.cells import plain
from hf_crosstask.report.data import Section

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff; margin: 0; }
main { max-width: 80rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: .75rem;
border-top: 1px solid #d0d0d0; }
nav { font-size: .9rem; margin: 1.25rem 0; } nav a { margin-right: 1rem; white-space: nowrap; }
a { color: #0b5cad; }
p.lead { font-size: 1.05rem; } p.note { color: #555; font-size: .85rem; margin-top: .35rem; }
.scroll { overflow-x: auto; margin: 1.1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .3rem .65rem; text-align: left; vertical-align: top; border-bottom: 1px solid #e4e4e4;
white-space: nowrap; }
thead th { border-bottom: 2px solid #555; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
tbody tr:hover { background: #f5f8fb; }
figure { margin: 1.5rem 0; } figure img { max-width: min(100%, 56rem); height: auto; }
p { max-width: 66rem; }
figcaption { color: #333; font-size: .88rem; max-width: 50rem; }
@media print { nav { display: none; } h2 { break-after: avoid; } figure, table { break-inside: avoid; }
.scroll { overflow: visible; } }
"""


def render_html(title: str, description: str, sections: Sequence[Section], images: Mapping[str, Path]) -> str:
    """The whole page.

    Args:
        title, description: of the study.
        sections: in order.
        images: a figure's name to its PNG file.
    """
    links = " ".join(f'<a href="#{section.anchor}">{escape(section.content.title)}</a>' for section in sections)
    lead = f'<p class="lead">{escape(description)}</p>' if description else ""
    body = "".join(_section(section, images) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body><main>\n<h1>{escape(title)}</h1>\n{lead}<nav>{links}</nav>\n{body}</main></body>\n</html>\n"
    )


def _section(section: Section, images: Mapping[str, Path]) -> str:
    content = section.content
    parts = [f'<section id="{section.anchor}">\n<h2>{escape(content.title)}</h2>\n']
    parts += [f"<p>{escape(line)}</p>\n" for line in content.summary]
    parts += [_table(table) for table in content.tables]
    parts += [_figure(figure, images[figure.name]) for figure in content.figures]
    return "".join([*parts, "</section>\n"])


def _table(table: Table) -> str:
    numeric = [all(_is_number(row[column]) for row in table.rows) for column in range(len(table.columns))]
    head = "".join(
        f'<th class="number">{escape(column)}</th>' if right else f"<th>{escape(column)}</th>"
        for column, right in zip(table.columns, numeric, strict=True)
    )
    rows = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>\n" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll"><table><caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table>{note}</div>\n"
    )


def _cell(cell: Cell) -> str:
    text = escape(plain(cell))
    if isinstance(cell, Mark):
        text = escape(cell.text)
        text = f"<strong>{text}</strong>" if cell.best else f"<u>{text}</u>" if cell.second else text
        text += f"<sup>{escape(cell.mark)}</sup>" if cell.mark else ""
    return f'<td class="number">{text}</td>' if _is_number(cell) else f"<td>{text}</td>"


def _is_number(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, (int, float, Mark)) and not isinstance(cell, bool))


def _figure(figure: FigureData, image: Path) -> str:
    data = base64.b64encode(image.read_bytes()).decode("ascii")
    alt = escape(figure.caption, quote=True)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{alt}">\n'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>\n"
    )
