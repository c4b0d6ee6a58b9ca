"""Where the training text comes from: Debian packages, their licences, and how each is read as English prose.

`SOURCES` is the whole list; a reader gets the folder into which the packages are unpacked and yields documents.
"""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

SKIPPED_TAGS = {"pre", "table", "script", "style", "nav"}
PROSE_TAGS = {"p", "h1", "h2"}


@dataclass(frozen=True)
class Source:
    """Packages (name -> version used for the shipped weights), their licence, and how documents are read from them."""

    packages: dict[str, str]
    licence: str
    read: Callable[[Path], Iterator[str]]


class _Prose(HTMLParser):
    """Collects the text of paragraphs and main headings; listings, tables and navigation are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._skipped = 0
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipped += tag in SKIPPED_TAGS
        if tag in PROSE_TAGS or ("class", "para") in attrs:
            self._inside = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in SKIPPED_TAGS
        if tag in PROSE_TAGS or tag == "div":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside and self._skipped <= 0:
            self.paragraphs[-1] += data


def one_line(text: str) -> str:
    """The text with every run of white space replaced by one space."""
    return " ".join(text.split())


def is_prose(paragraph: str) -> bool:
    """True for a paragraph that is mostly ASCII letters and spaces: drops tables, code, other scripts."""
    letters = sum((c.isascii() and c.isalpha()) or c == " " for c in paragraph)
    return len(paragraph) >= 40 and letters >= 0.85 * len(paragraph)


def html_documents(root: Path, pattern: str) -> Iterator[str]:
    """One document per HTML or Mallard page below `root` whose path matches the glob `pattern`."""
    for page in sorted(root.rglob(pattern)):
        parser = _Prose()
        parser.feed(page.read_text(encoding="utf-8", errors="replace"))
        yield "\n".join(filter(is_prose, map(one_line, parser.paragraphs)))


def html(pattern: str) -> Callable[[Path], Iterator[str]]:
    """A reader of all pages that match `pattern`."""
    return lambda root: html_documents(root, pattern)


def _dictd_text(root: Path) -> str:
    (database,) = root.rglob("*.dict.dz")
    return gzip.decompress(database.read_bytes()).decode("utf-8", errors="replace")


def _plain(entry: str) -> str:
    """An entry of a dictd database without cross-reference braces, pronunciations, source and usage labels."""
    entry = re.sub(r"\\[^\\\n]*\\(\s*\([^)\n]*\))?", "", entry)
    entry = re.sub(r"\[[^\]]*\]", "", entry)
    return one_line(entry.replace("{", "").replace("}", "")).replace(" ,", ",")


def _grouped(entries: Iterable[str], size: int) -> Iterator[str]:
    kept = [entry for entry in entries if is_prose(entry)]
    for start in range(0, len(kept), size):
        yield "\n".join(kept[start : start + size])


def dictd_entries(root: Path) -> Iterator[str]:
    """Documents of 30 neighbouring entries of a dictd database, one a line; an entry begins at an unindented line."""
    entries = re.split(r"\n(?=\S)", _dictd_text(root))
    first = next(i for i, entry in enumerate(entries) if not entry.startswith("0"))  # past the notices
    yield from _grouped(map(_plain, entries[first:]), 30)


def dictd_paragraphs(root: Path) -> Iterator[str]:
    """Documents of 30 neighbouring paragraphs of a dictd database, for those that indent no body text."""
    yield from _grouped(map(_plain, _dictd_text(root).split("\n\n")), 30)


def wordnet_glosses(root: Path) -> Iterator[str]:
    """Documents of 30 lines `word, other word: gloss` from WordNet's data files (format: wndb(5WN))."""
    lines: list[str] = []
    for part in ("noun", "verb", "adj", "adv"):
        (data,) = root.rglob(f"data.{part}")
        for line in data.read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # licence header
                continue
            fields, _, gloss = line.partition("|")
            words = fields.split()
            names = words[4 : 4 + 2 * int(words[3], 16) : 2]
            lines.append(f"{', '.join(names).replace('_', ' ')}: {gloss.strip()}.")
    yield from _grouped(lines, 30)


def fortune_cookies(root: Path) -> Iterator[str]:
    """Documents of 20 cookies from the strfile sources of the fortune packages."""
    for cookies in sorted(root.rglob("games/fortunes/*")):
        if not cookies.is_symlink() and cookies.suffix == "":
            yield from _grouped(map(one_line, cookies.read_text(errors="replace").split("\n%\n")), 20)


def bible_books(root: Path) -> Iterator[str]:
    """The books of the King James Version, one document each, verses joined into chapters."""
    (program,) = root.rglob("usr/bin/bible")
    (data,) = root.rglob("bible.data")
    command = [str(program.resolve()), "-f", "-p", str(data.parent), "ge1:1-re22:21"]
    verses = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    books: dict[str, dict[str, list[str]]] = {}
    for verse in verses:
        if place := re.match(r"(\w+?)(\d+):\d+ (.*)", verse):
            books.setdefault(place[1], {}).setdefault(place[2], []).append(one_line(place[3]))
    for name, chapters in books.items():
        yield name + "\n" + "\n".join(" ".join(chapter) for chapter in chapters.values())


GPL, PUBLIC = "GPL-2+", "public domain"

SOURCES: dict[str, Source] = {
    "bible": Source({"bible-kjv": "4.38", "bible-kjv-text": "4.38"}, PUBLIC, bible_books),
    "devil": Source({"dict-devil": "1.0-13.1"}, PUBLIC, dictd_paragraphs),
    "jargon": Source({"dict-jargon": "4.4.7-3.1"}, PUBLIC, dictd_entries),
    "foldoc": Source({"dict-foldoc": "20230119-1"}, "GFDL-1.1+", dictd_entries),
    "gcide": Source({"dict-gcide": "0.48.5+nmu2"}, "GPL-2+ (Webster 1913 with additions)", dictd_entries),
    "wordnet": Source({"wordnet-base": "1:3.0-37"}, "WordNet 3.0 (permissive)", wordnet_glosses),
    "anarchism": Source({"anarchism": "15.3-3"}, "GPL-2", html("html/*.html")),
    "handbook": Source({"debian-handbook": "11.20220922"}, "GPL-2+ or CC-BY-SA-3.0", html("html/en-US/*.html")),
    "debian": Source(
        {
            "debian-reference-en": "2.100",
            "developers-reference": "12.18",
            "maint-guide": "1.2.53",
            "debian-faq": "11.1",
        },
        GPL,
        html("*.html"),
    ),
    "securing": Source({"harden-doc": "3.19+nmu1"}, GPL, html("html/en-US/*.html")),
    "gnome": Source({"gnome-user-docs": "43.0-2"}, "CC-BY-SA-3.0", html("C/**/*.page")),
    "git": Source({"git-doc": "1:2.39.5-0+deb12u3"}, "GPL-2", html("*.html")),
    "postgresql": Source({"postgresql-doc-15": "15.20-0+deb12u1"}, "PostgreSQL", html("*.html")),
    "python": Source({"python3.11-doc": "3.11.2-6+deb12u9"}, "PSF-2", html("html/[fhrtu]*/*.html")),
    "stellarium": Source({"stellarium-data": "0.22.2-1"}, GPL, html("description.en.utf8")),
    "fortunes": Source({"fortunes": "1:1.99.1-7.3", "fortunes-min": "1:1.99.1-7.3"}, "BSD-4", fortune_cookies),
}
