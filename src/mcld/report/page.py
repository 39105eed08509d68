"""One HTML page that opens anywhere: no scripts, no other files, light and dark, wide and narrow."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mcld.report.comparison import Comparison, table

CSS = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6475; --line: #dfe3ea; --paper: #fff; --page: #f6f7f9;
  --mark: #e8effd; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #a3acbb; --line: #343b49; --paper: #1b2029;
  --page: #12161d; --mark: #1d2b4a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.3rem; margin: 40px 0 8px; }
h3 { font-size: 1rem; margin: 0 0 8px; }
p, ul, dl { max-width: 75ch; }
.soft, figcaption, small { color: var(--soft); }
.notice { border-left: 4px solid #d97706; background: var(--paper); padding: 8px 12px; }
.lead { border-left: 4px solid #2563eb; background: var(--paper); padding: 8px 12px; font-size: 1.05rem; }
.scroll { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 0.84rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { white-space: normal; vertical-align: bottom; min-width: 4em; }
th:first-child { position: sticky; left: 0; background: var(--paper); text-align: left; max-width: 46vw;
  white-space: normal; }
tr.best td, tr.best th { background: var(--mark); }
tbody tr:last-child > * { border-bottom: 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px;
  margin-top: 16px; }
figure { margin: 0; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 12px; }
figure img { width: 100%; height: auto; background: #fff; border-radius: 4px; display: block; }
figcaption { font-size: 0.88rem; margin-top: 8px; }
pre { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 10px; }
code { font-size: 0.88rem; overflow-wrap: anywhere; }
dt { font-weight: 600; margin-top: 8px; }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 12px; }
"""


@dataclass(frozen=True)
class Picture:
    """One figure of the page.

    Attributes:
        title: above it.
        svg: the picture.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
    """

    title: str
    svg: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One pair.

    Attributes:
        comparison: its methods.
        lead: the result in one sentence.
        notices: what a reader must know first, such as what is missing.
        pictures: in order.
    """

    comparison: Comparison
    lead: str
    notices: Sequence[str]
    pictures: Sequence[Picture]


def page(
    title: str,
    subtitle: str,
    notices: Sequence[str],
    sections: Sequence[Section],
    facts: Sequence[tuple[str, Sequence[str]]],
    commands: Sequence[str],
    settings: Sequence[tuple[str, str]],
) -> str:
    """The page.

    Args:
        title: of the page.
        subtitle: one line below it.
        notices: what concerns the whole bench.
        sections: one for each pair that has results.
        facts: terms with what is to be said of each: protocol, hardware, versions.
        commands: that make the page again.
        settings: methods with their words.
    """
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{escape(subtitle)}</p>']
    parts += [f'<p class="notice">{escape(notice)}</p>' for notice in notices]
    for section in sections:
        parts += _section(section, heading=len(sections) > 1)
    parts.append("<h2>How it was measured</h2><dl>")
    for term, values in facts:
        parts.append(f"<dt>{escape(term)}</dt>" + "".join(f"<dd>{escape(value)}</dd>" for value in values))
    parts.append("</dl><h2>How to run it again</h2>")
    parts.append(f"<pre><code>{escape(chr(10).join(commands))}</code></pre>")
    parts.append("<details><summary>The settings of every method</summary><dl>")
    parts += [f"<dt>{escape(name)}</dt><dd><code>{escape(words)}</code></dd>" for name, words in settings]
    parts.append("</dl></details>")
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section, *, heading: bool) -> list[str]:
    comparison = section.comparison
    parts = [f"<h2>{escape(comparison.pair)}</h2>"] if heading else []
    parts.append(f'<p class="lead">{escape(section.lead)}</p>')
    parts += [f'<p class="notice">{escape(notice)}</p>' for notice in section.notices]
    titles, rows = table(comparison)
    parts.append('<div class="scroll" tabindex="0" role="region" aria-label="Results"><table><thead><tr>')
    parts += [f'<th scope="col">{escape(text)}</th>' for text in titles]
    parts.append("</tr></thead><tbody>")
    for cells in rows:
        mark = ' class="best"' if cells[0] == comparison.best.method else ""
        tail = "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
        parts.append(f'<tr{mark}><th scope="row">{escape(cells[0])}</th>{tail}</tr>')
    parts.append("</tbody></table></div>")
    parts.append(
        '<p><small>Per cent of the test images; mean ± sample standard deviation over seeds. "best epoch" is the epoch '
        "with the highest validation top-1, measured on the test images. Differences are in points of top-1 after the "
        "last epoch, over the seeds that both methods have. The marked method is the best on the validation images."
        "</small></p>"
    )
    parts.append('<div class="grid">')
    for picture in section.pictures:
        data = base64.b64encode(picture.svg.encode()).decode("ascii")
        parts.append(
            f'<figure><h3>{escape(picture.title)}</h3><img alt="{escape(picture.alt)}" '
            f'src="data:image/svg+xml;base64,{data}"><figcaption>{escape(picture.caption)}</figcaption></figure>'
        )
    parts.append("</div>")
    return parts
