"""What a page of the report says: its tags, attributes and text."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser


class Page(HTMLParser):
    """The tags, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.open = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open == "h2":
            self.headings.append(data)

    @property
    def labels(self) -> list[str]:
        """What is read aloud instead of the pictures."""
        return [value for _, name, value in self.attributes if name == "aria-label"]

    @property
    def links(self) -> list[str]:
        """The addresses of all links."""
        return [value for tag, name, value in self.attributes if (tag, name) == ("a", "href")]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
