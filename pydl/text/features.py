"""Simple features of a text, a number for each character: where in the line it stands, inside quotes, brackets, ..."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["text_features"]

_TAB = 8
_REACH = 10_000  # characters between brackets; a stray one would find another stray one at the other end of the text
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_CLOSING_QUOTE = {"\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}", "«": "»"}
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")
_COMMENT = re.compile(r"#(?=[\s#!])[^\n]*|//[^\n]*|/\*.*?\*/", re.DOTALL)
_AFTER_BLANK = re.compile(r"(?<!\S)\Z")
_COMMENT_MAY_BEGIN = {"#": _AFTER_BLANK, "/*": _AFTER_BLANK, "//": re.compile(r"(?:\A|[\n;,{}])[ \t]*\Z")}
_STRING_PREFIX = re.compile(r"(?<!\w)[bBfFrRuU]{1,2}\Z")


def text_features(text: str) -> dict[str, npt.NDArray[np.int32]]:
    """Features of a text, each an int32 array of shape ``(len(text),)``: what holds once a character has been read.

    - ``in quotes``: 1 from an opening quote to the character before the closing one. ``"`` and typographic quotes
      close within their paragraph, ``'`` within its line (an apostrophe opens nothing), triple quotes anywhere;
      a quote without its partner counts for nothing.
    - ``in brackets``, ``bracket depth``: whether inside, and how many pairs of (), [], {} deep; only brackets with a
      partner at most 10,000 characters away count.
    - ``in a comment``: 1 from ``#`` or ``//`` to the line's end and from ``/*`` to ``*/``, where these stand after a
      blank, and ``//`` where a statement may begin.
    - ``position in line``: characters read of this line, 0 after a line break.
    - ``indentation``: columns of blanks that the line began with, as far as read; tabs go to multiples of 8.
    - ``in indentation``: 1 for those blanks.
    - ``line break``: 1 for a line break: a new line is about to begin.
    - ``blank``, ``digit``, ``capital``: 1 for a space, tab or line break; a digit; a capital letter.

    Raises:
        TypeError: `text` is no string.

    Example:
        >>> features = text_features('f("a", (1))\\n')
        >>> features["bracket depth"].tolist()
        [0, 1, 1, 1, 1, 1, 1, 2, 2, 1, 0, 0]
        >>> features["in quotes"].tolist()
        [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    if not isinstance(text, str):
        raise TypeError(f"[text_features] got a text of type {type(text).__name__}, expected str")
    size = len(text)
    quotes, comments = np.zeros(size, np.int32), np.zeros(size, np.int32)
    for begin, end, kind in _spans(text):
        (comments if kind == "comment" else quotes)[begin:end] = 1
    depth = _bracket_depth(text, quotes + 2 * comments)
    column, indentation, indenting = _line_positions(text)
    return {
        "in quotes": quotes,
        "in brackets": (depth > 0).astype(np.int32),
        "bracket depth": depth,
        "in a comment": comments,
        "position in line": column,
        "indentation": indentation,
        "in indentation": indenting,
        "line break": _flags(text, "\n".__eq__),
        "blank": _flags(text, str.isspace),
        "digit": _flags(text, str.isdigit),
        "capital": _flags(text, str.isupper),
    }


def _flags(text: str, holds: Any) -> npt.NDArray[np.int32]:
    return np.fromiter(map(holds, text), np.int32, len(text))


def _spans(text: str) -> Iterator[tuple[int, int, str]]:
    """(begin, end, "quote" or "comment") of what is quoted, without the closing quote, and of comments."""
    opening = re.compile(r"[\"'#/\N{LEFT DOUBLE QUOTATION MARK}«]")
    at = 0
    while found := opening.search(text, at):
        begin = found.start()
        at = begin + 1
        if text[begin] in "#/":
            comment = _COMMENT.match(text, begin)
            before = text[max(0, begin - 80) : begin]
            if comment and _COMMENT_MAY_BEGIN[text[begin : begin + (text[begin] == "/") + 1]].search(before):
                yield begin, comment.end(), "comment"
                at = comment.end()
            continue
        closing = _closing_quote(text, begin)
        if closing:
            yield begin, closing[0], "quote"
            at = closing[1]


def _closing_quote(text: str, begin: int) -> tuple[int, int] | None:
    """Where the quote that opens at `begin` closes: the closing mark's begin and end; None if it never does."""
    mark = text[begin]
    if mark in _CLOSING_QUOTE:
        mark, limit, start = _CLOSING_QUOTE[mark], _paragraph_end(text, begin), begin + 1
    elif text.startswith(mark * 3, begin):
        mark, limit, start = mark * 3, len(text), begin + 3
    elif mark == "'":
        before = text[max(0, begin - 3) : begin]
        if before[-1:].isalnum() and not _STRING_PREFIX.search(before):
            return None
        limit, start = text.find("\n", begin), begin + 1
    else:
        limit, start = _paragraph_end(text, begin), begin + 1
    limit = len(text) if limit < 0 else limit
    while True:
        place = text.find(mark, start, limit)
        if place < 0:
            return None
        backslashes = place - len(text[begin:place].rstrip("\\")) - begin
        # In 'the dogs' the mark in front of a letter is an apostrophe.
        if backslashes % 2 == 0 and not (mark == "'" and text[place + 1 : place + 2].isalnum()):
            return place, place + len(mark)
        start = place + 1


def _paragraph_end(text: str, begin: int) -> int:
    found = _PARAGRAPH_END.search(text, begin)
    return found.start() if found else -1


def _bracket_depth(text: str, region: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Pairs around each character; the two of a pair lie in the same kind of region: code, quotes or comment."""
    change = np.zeros(len(text) + 1, np.int32)
    stack: list[tuple[str, int, int]] = []
    for found in re.finditer(r"[()\[\]{}]", text):
        place, mark = found.start(), found.group()
        kind = int(region[place])
        if mark not in _BRACKETS:
            stack.append((mark, place, kind))
            continue
        # What is between a pair and has no partner is passed over.
        partner = next((i for i in reversed(range(max(0, len(stack) - 50), len(stack)))
                        if stack[i][0] == _BRACKETS[mark] and stack[i][2] == kind), None)  # fmt: skip
        if partner is not None and place - stack[partner][1] <= _REACH:
            change[stack[partner][1]] += 1
            change[place] -= 1
            del stack[partner:]
    return np.cumsum(change[:-1], dtype=np.int32)


def _line_positions(text: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Position in the line, indentation, and whether a character belongs to the indentation."""
    column, indentation, indenting = (np.zeros(len(text), np.int32) for _ in range(3))
    begin = 0
    for line in text.split("\n"):
        column[begin : begin + len(line)] = np.arange(1, len(line) + 1)
        width, blanks = 0, len(line) - len(line.lstrip(" \t"))
        for i in range(blanks):
            width += _TAB - width % _TAB if line[i] == "\t" else 1
            indentation[begin + i] = width
        indentation[begin + blanks : begin + len(line)] = width
        indenting[begin : begin + blanks] = 1
        begin += len(line) + 1
    return column, indentation, indenting
