"""Words that the code base avoids, because plain technical English has a precise term for them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("packages", "tests", "docs")
FILES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
SUFFIXES = {".cfg", ".css", ".html", ".ini", ".js", ".json", ".md", ".py", ".pyi", ".toml", ".txt", ".yml"}

WORDS = (
    "nobody",
    "somebody",
    "everybody",
    "whoever",
    "anew",
    "bereft",
    r"mourn\w*",
    "bury",
    "buried",
    "stillborn",
    r"infan\w*",
    r"lament\w*",
    "(is|are) told",
    "for ever",
    "put up with",
    "lets? go of",
    "in hand",
    r"mend\w*",
    "the road",
    "comes? to life",
    "makes? do with",
)
# The parts of a phrase may be on two lines or in one identifier, so spaces match underscores and comment signs as well.
PATTERN = re.compile(
    r"(?<![^\W_])(" + "|".join(WORDS).replace(" ", r"[\s_#*>]+") + r")(?![^\W_])",
    re.IGNORECASE,
)


def text_files():
    yield from (ROOT / name for name in FILES)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__) and path.is_file():
                yield path


def hits(text):
    return [(text.count("\n", 0, match.start()) + 1, match[0]) for match in PATTERN.finditer(text)]


def test_pattern_finds_words_and_identifiers():
    text = "Nobody\n_mourn() is_told BURIED put\n    # up with comes to life infancy recommended amend hand handy"
    assert hits(text) == [
        (1, "Nobody"),
        (2, "mourn"),
        (2, "is_told"),
        (2, "BURIED"),
        (2, "put\n    # up with"),
        (3, "comes to life"),
        (3, "infancy"),
    ]


def test_word_list_is_avoided():
    occurrences = [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in text_files()
        for line, word in hits(path.read_text("utf-8"))
    ]
    assert occurrences == [], "use a technical term instead"
