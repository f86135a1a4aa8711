"""Count the same as ``docs/examples/stdlib_report.py`` by another technique: from tokens instead of syntax trees.

    python count_by_tokens.py ROOT < paths.json > counts.json

Reads a JSON list of paths below ROOT, and writes a JSON object: path -> counts of that file.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYWORDS = {"if", "elif", "for", "while", "except", "and", "or"}
BLOCKS = {"if", "elif", "else", "for", "while", "try", "except", "finally", "with", "async", "match", "case"}
BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
# From Python 3.12 on, the content of an f-string has tokens of its own.
FSTRING_EDGES = {getattr(tokenize, "FSTRING_START", -1): 1, getattr(tokenize, "FSTRING_END", -2): -1}


@dataclass
class Scope:
    """A module, class or function that the tokens are inside of."""

    kind: str
    name: str
    line: int
    level: int
    complexity: int = 1
    last: int = 0


def keywords_in_fstring(literal: str) -> int:
    """Return the number of decision keywords in an f-string; Python 3.11 has no tokens for them."""
    body = literal[literal.index(literal[-1]) :]
    quotes = 3 if body.startswith(literal[-1] * 3) else 1
    body = body[quotes:-quotes].replace("{{", "").replace("}}", "")
    fields, depth, quote = "", 0, ""
    for character in body:
        if depth and character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        elif not quote:
            depth += {"{": 1, "}": -1}.get(character, 0)
        if not quote and depth:
            fields += " " if character == "#" else character  # a hash in a format is no comment
        else:
            fields += " "
    return sum(word in KEYWORDS for word in re.findall(r"\w+", fields))


def imports_of(statement: list[str], path: str) -> set[str]:
    """Return the names that a simple statement imports, given its tokens."""
    if statement[:1] == ["import"]:
        modules = " ".join(statement[1:]).split(" , ")
        return {module.split(" as ")[0].replace(" ", "") for module in modules}
    if statement[:1] == ["from"]:
        origin = "".join(statement[1 : statement.index("import")])
        name = origin.lstrip(".")
        if name == origin:
            return {name}
        folder = Path(path)
        for _ in range(len(origin) - len(name)):
            folder = folder.parent
        return {".".join([*folder.parts, name] if name else folder.parts)} if folder.parts else set()
    return set()


def prefix(token: tokenize.TokenInfo) -> str:
    """Return the letters before the quotes of a string."""
    return token.string[: token.string.index(token.string[-1])].lower()


def is_docstring(statement: list[tokenize.TokenInfo]) -> bool:
    """Say whether a statement is nothing but text."""
    strings = [token for token in statement if token.type == tokenize.STRING]
    others = {token.string for token in statement if token.type != tokenize.STRING}
    return bool(strings) and others <= {"(", ")"} and all(prefix(token) in ("", "r", "u") for token in strings)


class Counter:
    """What one file has: hand it the tokens in order, with ``read``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.code: set[int] = set()
        self.comments: set[int] = set()
        self.docstrings: set[int] = set()
        self.classes = 0
        self.functions: list[tuple[str, int, int, int]] = []
        self.imports: set[str] = set()

        self.scopes = [Scope("module", "", 1, 0)]
        self.header: Scope | None = None  # the def or class whose colon has not come yet
        self.opened: Scope | None = None  # the scope whose colon came last
        self.fresh: Scope | None = self.scopes[0]  # the scope whose first statement comes next
        self.short: list[Scope] = []  # scopes whose body stands on the line of their header
        self.statement: list[tokenize.TokenInfo] = []  # the simple statement so far
        self.logical: list[str] = []  # the logical line so far
        self.level = self.depth = self.decorators = self.fstrings = 0
        self.cases: set[int] = set()  # the levels on which ``case`` is a keyword
        self.matching = False  # whether the last logical line began a match statement

    def read(self, token: tokenize.TokenInfo) -> None:
        """Take the next token."""
        self.fstrings += FSTRING_EDGES.get(token.type, 0)
        if token.type == tokenize.COMMENT:
            self.comment(token)
        elif token.type == tokenize.INDENT:
            self.level += 1
            if self.matching:
                self.cases.add(self.level)
        elif token.type == tokenize.DEDENT:
            self.cases.discard(self.level)
            self.level -= 1
            while self.scopes[-1].level > self.level:
                self.end(self.scopes[-1])
        elif token.type == tokenize.NEWLINE:
            self.newline(token.start[0])
        elif token.type not in (tokenize.NL, tokenize.ENDMARKER):
            self.code.update(range(token.start[0], token.end[0] + 1))
            self.word(token)

    def comment(self, token: tokenize.TokenInfo) -> None:
        """Take a comment."""
        if self.fstrings:
            self.code.add(token.start[0])
        elif not token.line[: token.start[1]].strip():
            self.comments.add(token.start[0])

    def newline(self, row: int) -> None:
        """Take the end of a logical line."""
        self.end_statement()
        self.matching = self.logical[:1] == ["match"] and self.logical[-1] == ":"
        self.logical.clear()
        for scope in self.scopes:
            scope.last = row
        if self.opened is not None:  # its body is a block, one level further in
            self.opened.level = self.level + 1
            self.opened = None
        while self.short:
            self.end(self.short.pop())

    def word(self, token: tokenize.TokenInfo) -> None:
        """Take a token that is code."""
        if self.opened is not None:
            self.short.append(self.opened)
            self.opened = None
        self.logical.append(token.string)
        if self.logical[0] == "@":
            self.decorators += self.weight(token)
        else:
            self.scopes[-1].complexity += self.weight(token)

        if token.type == tokenize.OP:
            self.depth += BRACKETS.get(token.string, 0)
        ends = token.string if token.type == tokenize.OP and self.depth == 0 else ""
        if ends == ":" and self.header is not None:
            self.opened = self.fresh = self.header
            self.header = None
            self.statement.clear()
        elif ends == ":" and self.logical[0] in BLOCKS:
            self.statement.clear()
            self.fresh = None
        elif ends == ";":
            self.end_statement()
        else:
            self.statement.append(token)

        if self.header is not None and not self.header.name:
            self.header.name = token.string
        if token.type == tokenize.NAME and token.string in ("def", "class"):
            self.begin(token)

    def weight(self, token: tokenize.TokenInfo) -> int:
        """Return how many decision keywords a token is, or has inside."""
        if token.type == tokenize.STRING and "f" in prefix(token):
            return keywords_in_fstring(token.string)
        case = token.string == "case" and len(self.logical) == 1 and self.level in self.cases
        return int(token.type == tokenize.NAME and (case or token.string in KEYWORDS))

    def begin(self, token: tokenize.TokenInfo) -> None:
        """Enter the scope that a ``def`` or ``class`` begins."""
        self.header = Scope(token.string, "", token.start[0], self.level + 1)
        if token.string == "def":
            self.header.complexity += self.decorators
        else:
            self.classes += 1
        self.decorators = 0
        self.scopes.append(self.header)

    def end(self, scope: Scope) -> None:
        """Leave a scope."""
        if scope.kind == "def":
            name = ".".join(outer.name for outer in self.scopes[1:])
            self.functions.append((name, scope.line, scope.last - scope.line + 1, scope.complexity))
        self.scopes.remove(scope)

    def end_statement(self) -> None:
        """Take the end of a simple statement."""
        if self.statement:
            if self.fresh is not None and is_docstring(self.statement):
                rows = [token for token in self.statement if token.type == tokenize.STRING]
                self.docstrings.update(range(rows[0].start[0], rows[-1].end[0] + 1))
            self.fresh = None
        self.imports |= imports_of([token.string for token in self.statement], self.path)
        self.statement.clear()


def count_file(root: Path, path: str) -> dict[str, Any]:
    """Count one file."""
    with (root / path).open("rb") as file:
        encoding = tokenize.detect_encoding(file.readline)[0]
    text = (root / path).read_text(encoding)
    rows = dict(enumerate(text.removesuffix("\n").split("\n") if text else (), 1))

    counter = Counter(path)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        counter.read(token)
    continued = {number for number, row in rows.items() if row.rstrip().endswith("\\")}
    blank = {number for number, row in rows.items() if not row.strip()} - counter.docstrings
    comments = counter.comments - counter.docstrings
    return {
        "lines": len(rows),
        "code": len((counter.code | continued) - counter.docstrings - blank - comments),
        "comments": len(comments),
        "docstrings": len(counter.docstrings),
        "blank": len(blank),
        "classes": counter.classes,
        "functions": sorted(counter.functions),
        "imports": sorted(counter.imports),
    }


def main() -> None:
    """Count the files that standard input names."""
    root = Path(sys.argv[1])
    json.dump({path: count_file(root, path) for path in json.load(sys.stdin)}, sys.stdout)


if __name__ == "__main__":
    main()
