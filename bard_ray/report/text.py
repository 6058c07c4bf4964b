"""Numbers and foreign text as they are shown."""

from __future__ import annotations

import unicodedata


def share(value: float | None, digits: int = 2) -> str:
    """A share without the zero before its point, `.07` or `1.00`, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}".removeprefix("0")


def number(value: float | None, digits: int = 1) -> str:
    """A number with that many digits after the point, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def short_number(value: float) -> str:
    """A number of unknown size: whole ones in full, others with four significant digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def visible(text: str) -> str:
    """Text without control, format and surrogate characters; line ends and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or not unicodedata.category(c).startswith("C"))


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of a text, and how many more there are."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit:,} more characters)"
