"""Drawings for other tools: Mermaid and Graphviz."""

from __future__ import annotations

from .labels import visible_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME_CELLS = 200  # maximum width of a name


def draw_mermaid(tasks: Sequence[str], parents: list[list[int]], dashed: set[tuple[int, int]]) -> str:
    """Return a Mermaid flowchart."""
    # Mermaid interprets quotes, #, backticks, %%{...}%%, fa:..., "1." and tags: encode all but simple characters
    lines = ["flowchart TD"]
    for i, task in enumerate(tasks):
        name = visible_name(task, _NAME_CELLS)
        text = "".join(c if c.isalnum() or c in " _-" or c > "\x7f" else f"#{ord(c)};" for c in name)
        lines.append(f'    n{i}["{text or " "}"]')
    lines += [f"    n{u} {'-.->' if (u, v) in dashed else '-->'} n{v}" for v, ups in enumerate(parents) for u in ups]
    return "\n".join(lines)


def draw_dot(name: str, tasks: Sequence[str], parents: list[list[int]], dashed: set[tuple[int, int]]) -> str:
    """Return a graph in the language DOT of Graphviz."""
    lines = [f"digraph {_quote(name)} {{", "    rankdir=LR;", "    node [shape=box, style=rounded];"]
    lines += [f"    n{i} [label={_quote(task)}];" for i, task in enumerate(tasks)]
    styles = [(u, v, " [style=dashed]" if (u, v) in dashed else "") for v, ups in enumerate(parents) for u in ups]
    lines += [f"    n{u} -> n{v}{style};" for u, v, style in styles]
    return "\n".join([*lines, "}"])


def _quote(text: str) -> str:
    text = visible_name(text, _NAME_CELLS).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text.replace("&", "&amp;")}"'  # Graphviz replaces entities
