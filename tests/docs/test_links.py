"""Links between the README, the pages and other files of the repository lead to a file and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("packages/*/README.md")),
    *sorted(ROOT.glob("docs/pages/**/*.md")),
]
CODE_BLOCK = re.compile(r"^( *)(`{3,}).*?^\1\2$", re.MULTILINE | re.DOTALL)


def anchors_of(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)", CODE_BLOCK.sub("", text), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\- ]", "", heading).strip().lower()) for heading in plain}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_lead_to_a_file_and_a_heading(file: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", CODE_BLOCK.sub("", file.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        if "://" in link or (target.exists() and not anchor):
            continue
        if not target.is_file() or anchor not in anchors_of(target.read_text("utf-8")):
            broken.append(link)
    assert not broken
