"""Count what ``docs/examples/stdlib_report.py`` counts, by another technique: from tokens instead of syntax trees.

    python count_by_tokens.py ROOT < paths.json > counts.json

Reads a JSON list of paths below ROOT, and writes a JSON object: path -> what is in that file.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

KEYWORDS = {"if", "elif", "for", "while", "except", "and", "or"}
BLOCKS = {"if", "elif", "else", "for", "while", "try", "except", "finally", "with", "async", "match", "case"}
# From Python 3.12 on, what stands inside an f-string has tokens of its own.
FSTRING_EDGES = {getattr(tokenize, "FSTRING_START", -1): 1, getattr(tokenize, "FSTRING_END", -2): -1}


@dataclass
class Scope:
    """A module, class or function whose end has not been seen yet."""

    kind: str
    name: str
    line: int
    level: int
    complexity: int = 1
    last: int = 0


@dataclass
class Count:
    """What one file has."""

    lines: int = 0
    code: int = 0
    comments: int = 0
    docstrings: int = 0
    blank: int = 0
    classes: int = 0
    functions: list[tuple[str, int, int, int]] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)


def keywords_in_fstring(literal: str) -> int:
    """Return how many decision keywords stand inside an f-string; Python 3.11 has no tokens for them."""
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
    """Return what a simple statement imports, given its tokens."""
    if statement[:1] == ["import"]:
        names: list[str] = [""]
        renamed = False
        for token in statement[1:]:
            if token == ",":
                names.append("")
                renamed = False
            elif token == "as":
                renamed = True
            elif not renamed:
                names[-1] += token
        return set(names)
    if statement[:1] == ["from"] and "import" in statement:
        origin = "".join(statement[1 : statement.index("import")])
        name = origin.lstrip(".")
        dots = len(origin) - len(name)
        if dots:
            folder = Path(path)
            for _ in range(dots):
                if folder == Path():
                    break
                folder = folder.parent
            if folder == Path():
                return set()
            return {".".join([*folder.parts, name] if name else folder.parts)}
        return {name}
    return set()


def is_docstring(statement: list[tokenize.TokenInfo]) -> bool:
    """Say whether the first statement of a scope is nothing but text."""
    strings = [token for token in statement if token.type == tokenize.STRING]
    others = [token.string for token in statement if token.type != tokenize.STRING]
    prefixes = {
        character for token in strings for character in token.string[: token.string.index(token.string[-1])].lower()
    }
    return bool(strings) and set(others) <= {"(", ")"} and prefixes <= {"r", "u"}


def count_file(root: Path, path: str) -> Count:
    """Count one file."""
    text = io.TextIOWrapper(io.BytesIO((root / path).read_bytes()), encoding=encoding_of(root / path)).read()
    rows = text.split("\n")
    if rows[-1] == "":
        rows.pop()
    count = Count(lines=len(rows))
    code: set[int] = {number for number, row in enumerate(rows, 1) if row.rstrip().endswith("\\")}
    comments: set[int] = set()
    docstrings: set[int] = set()

    scopes = [Scope("module", "", 1, 0)]
    level = depth = pending = fstrings = 0
    header: Scope | None = None  # the def or class whose colon has not come yet
    one_line: list[Scope] = []  # scopes whose body stands on the line of their header
    opened: Scope | None = None  # the scope whose colon was the last thing seen
    fresh: Scope | None = scopes[0]  # the scope whose first statement comes next
    statement: list[tokenize.TokenInfo] = []  # the simple statement, or header, so far
    logical: list[str] = []  # the logical line so far
    match_levels: set[int] = set()
    block_is_match = False

    def end(scope: Scope) -> None:
        if scope.kind == "def":
            names = [outer.name for outer in scopes if outer.name]
            count.functions.append((".".join(names), scope.line, scope.last - scope.line + 1, scope.complexity))
        scopes.remove(scope)

    def end_statement() -> None:
        nonlocal fresh
        if fresh is not None and statement:
            if is_docstring(statement):
                strings = [token for token in statement if token.type == tokenize.STRING]
                docstrings.update(range(strings[0].start[0], strings[-1].end[0] + 1))
            fresh = None
        count.imports |= imports_of([token.string for token in statement], path)
        statement.clear()

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind, string, row = token.type, token.string, token.start[0]
        if kind in FSTRING_EDGES:
            fstrings += FSTRING_EDGES[kind]
        if kind == tokenize.COMMENT:
            if fstrings:
                code.add(row)
            elif not token.line[: token.start[1]].strip():
                comments.add(row)
            continue
        if kind == tokenize.NL:
            continue
        if kind == tokenize.INDENT:
            level += 1
            if block_is_match:
                match_levels.add(level)
            continue
        if kind == tokenize.DEDENT:
            match_levels.discard(level)
            level -= 1
            while scopes[-1].level > level:
                end(scopes[-1])
            continue
        if kind == tokenize.NEWLINE:
            end_statement()
            block_is_match = logical[:1] == ["match"] and logical[-1] == ":"
            logical.clear()
            for scope in scopes:
                scope.last = row
            if opened is not None:  # the body is a block, one level further in
                opened.level = level + 1
                opened = None
            while one_line:
                end(one_line.pop())
            continue
        if kind == tokenize.ENDMARKER:
            while len(scopes) > 1:
                end(scopes[-1])
            continue

        code.update(range(row, token.end[0] + 1))
        if opened is not None:  # something follows the colon on its line
            one_line.append(opened)
            opened = None
        if kind == tokenize.OP and string in ("(", "[", "{"):
            depth += 1
        elif kind == tokenize.OP and string in (")", "]", "}"):
            depth -= 1
        logical.append(string)

        owner = scopes[-1]
        weight = 0
        if kind == tokenize.NAME and (
            string in KEYWORDS or (string == "case" and len(logical) == 1 and level in match_levels)
        ):
            weight = 1
        elif kind == tokenize.STRING and "f" in string[: string.index(string[-1])].lower():
            weight = keywords_in_fstring(string)
        if logical[0] == "@":
            pending += weight
        else:
            owner.complexity += weight

        if kind == tokenize.OP and string == ";" and depth == 0:
            end_statement()
        elif kind == tokenize.OP and string == ":" and depth == 0 and header is not None:
            opened = fresh = header
            header = None
            statement.clear()
        elif kind == tokenize.OP and string == ":" and depth == 0 and logical[0] in BLOCKS:
            statement.clear()
            fresh = None
        else:
            statement.append(token)

        if header is not None and header.name == "?":
            header.name = string
        if kind == tokenize.NAME and string in ("def", "class"):
            header = Scope(string, "?", row, level + 1)
            if string == "def":
                header.complexity += pending
            else:
                count.classes += 1
            pending = 0
            scopes.append(header)

    blank = {number for number, row in enumerate(rows, 1) if not row.strip()} - docstrings
    comments -= docstrings
    count.docstrings = len(docstrings)
    count.blank = len(blank)
    count.comments = len(comments)
    count.code = len(code - docstrings - blank - comments)
    return count


def encoding_of(path: Path) -> str:
    """Return the encoding that a file declares."""
    with path.open("rb") as file:
        return tokenize.detect_encoding(file.readline)[0]


def main() -> None:
    """Count the files that standard input names."""
    root = Path(sys.argv[1])
    counts = {}
    for path in json.load(sys.stdin):
        count = count_file(root, path)
        counts[path] = vars(count) | {"functions": sorted(count.functions), "imports": sorted(count.imports)}
    json.dump(counts, sys.stdout)


if __name__ == "__main__":
    main()
