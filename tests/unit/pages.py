"""What the tests of reports share: a parser of pages, and results to report."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Tags, attributes, headings and text of a page; every element has to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.html = text
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        self.words.append(data)

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join("".join(self.words).split())

    def values(self, name: str, tag: str | None = None) -> list[str]:
        """Values of an attribute, of all elements or of one kind, in order."""
        return [v for t, n, v in self.attributes if n == name and tag in (None, t)]

    @property
    def figures(self) -> list[str]:
        """Keys of the figures."""
        return [
            v.removeprefix("figure-") for v in self.values("id", "figure") if v.startswith("figure")
        ]


def point(budget: float, accuracy: float | None, spread: float = 2.0) -> Any:
    """Summary of one budget, or of a prompt without one that takes `budget` tokens."""
    return {
        "mean_length": budget + spread / 2,
        "rel_err": 0.1,
        "in_band": 0.7,
        "overrun": 0.3,
        "accuracy": accuracy,
        "p10": budget - spread,
        "p50": float(budget),
        "p90": budget + spread,
        "n": 256,
        "stderr": 0.03,
        "acc2_per_token": 0.01,
        "broken": 0,
    }


def variant(accuracy: float, spread: float = 2.0, budgets: tuple[int, ...] = (4, 8, 13, 30)) -> Any:
    """Summary of a variant at some token budgets and without one, where it takes 41 tokens."""
    points = {str(budget): point(budget, accuracy, spread) for budget in budgets}
    free = {"rel_err": None, "in_band": None, "overrun": None}
    points["none"] = {**point(41, 0.97, spread), **free}
    means = {"rel_err": 0.103, "in_band": 0.7, "overrun": 0.3, "accuracy": accuracy}
    return {**means, "broken": 0, "failed": 0, "by_budget": points}


def place(svg: str, identifier: str) -> tuple[float, float]:
    """Where the only point with an identifier is drawn."""
    group = re.search(rf'<g id="{identifier}">(.*?)</g>\s*</g>', svg, re.DOTALL)
    assert group is not None, f"{identifier} is not drawn"
    ((x, y),) = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', group.group(1))
    return float(x), float(y)


def tick_labels(svg: str) -> dict[str, float]:
    """Texts that stand centered below something, and where."""
    found = re.findall(r'text-anchor: middle[^>]*? x="([\d.]+)"[^>]*rotate\(-0 [^>]*>([^<]+)<', svg)
    return {text: float(x) for x, text in found}
