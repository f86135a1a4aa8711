"""Drawings of a graph: text with box-drawing characters, Mermaid, and Graphviz."""

from .text import draw, html

__all__ = ["draw", "html"]
