"""What the HTML pages share: one file that holds everything it shows, no script, no request.

What a model wrote is untrusted text: it is cut, stripped of control characters and escaped, and the
page's content policy allows nothing but its own style sheet.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from html import escape

from bard_ray.report.canvas import Figure
from bard_ray.report.style import CSS

MODEL_TEXT_CAP = 4000


def model_text(text: str, limit: int = MODEL_TEXT_CAP) -> str:
    """Untrusted text as HTML.

    Cut to `limit` characters, no control or bidirectional characters, escaped.
    """
    cut = text[:limit]
    visible = "".join(c for c in cut if c in "\n\t" or not unicodedata.category(c).startswith("C"))
    dropped = f" … ({len(text) - limit:,} more characters)" if len(text) > limit else ""
    return escape(visible) + dropped


def page(title: str, lede: str, body: str) -> str:
    """A whole page; `body` is HTML, title and lede are plain text."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{text_of(title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<header><h1>{text_of(title)}</h1><p class="lede">{text_of(lede)}</p></header>
{body}
</main>
</body>
</html>
"""


def figure_section(figures: Sequence[Figure], heading: str = "Figures") -> str:
    """Figures beside each other under a heading; empty without any."""
    if not figures:
        return ""
    shown = "\n".join(
        f'<figure id="figure-{f.key}"><h3>{escape(f.title)}</h3>'
        f'<div role="img" aria-label="{escape(f.alt)}">{f.svg}</div>'
        f"<figcaption>{escape(f.caption)}</figcaption></figure>"
        for f in figures
    )
    return f'<h2>{escape(heading)}</h2>\n<div class="figures">\n{shown}\n</div>'


def table(name: str, head: str, rows: str) -> str:
    """A table that scrolls sideways on a narrow screen, by keyboard too."""
    thead = f"<thead>{head}</thead>" if head else ""
    box = f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}">'
    return f"{box}<table>{thead}<tbody>\n{rows}\n</tbody></table></div>"


def text_of(name: str) -> str:
    """A name (of a run, a variant, a budget) as HTML.

    Not a model's words, and not trusted more than they are.
    """
    return model_text(name, 200)


def cell(tag: str, text: str, *, scope: str = "", left: bool = False) -> str:
    """One cell of plain text."""
    scoped = f' scope="{scope}"' if scope else ""
    aligned = ' class="left"' if left else ""
    return f"<{tag}{scoped}{aligned}>{text_of(text)}</{tag}>"
