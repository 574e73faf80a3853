"""einsum: sums of products in Einstein's notation, by matrix products two operands at a time."""

from __future__ import annotations

import math
from typing import Any

from pydl import _C
from pydl._tensor import Tensor


def _parse(equation: str, operands: tuple[Tensor, ...]) -> tuple[list[list[str]], list[str]]:
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"[einsum] '{equation}' names {len(terms)} operands, got {len(operands)}")
    longest = 0
    for term, x in zip(terms, operands):
        named = len(term.replace("...", ""))
        if "..." in term:
            longest = max(longest, x.ndim - named)
        if (named > x.ndim) or ("..." not in term and named != x.ndim):
            raise ValueError(f"[einsum] term '{term}' of '{equation}' does not fit shape {x.shape}")
    dots = [f".{i}" for i in range(longest)]

    def axes(term: str, ndim: int | None) -> list[str]:
        before, ellipsis, after = term.partition("...")
        if not all(c.isalpha() for c in before + after):
            raise ValueError(f"[einsum] '{equation}': axes are named by letters")
        count = longest if ndim is None else ndim - len(before) - len(after)
        return [*before, *(dots[longest - count :] if ellipsis else []), *after]

    inputs = [axes(term, x.ndim) for term, x in zip(terms, operands)]
    if arrow:
        output = axes(right, None)
    else:
        letters = sorted({a for t in inputs for a in t if not a.startswith(".")})
        output = dots + [a for a in letters if sum(t.count(a) for t in inputs) == 1]
    known = {a for t in inputs for a in t}
    for a in output:
        if a not in known or output.count(a) > 1:
            raise ValueError(f"[einsum] '{equation}': output axis '{a}' must stand in an input, and once in the output")
    return inputs, output


def _single(x: Tensor, axes: list[str], keep: set[str]) -> tuple[Tensor, list[str]]:
    """Diagonals of repeated axes taken, axes that nobody else needs summed."""
    axes = list(axes)
    for a in list(dict.fromkeys(axes)):
        while axes.count(a) > 1:
            i = axes.index(a)
            j = axes.index(a, i + 1)
            if x.shape[i] != x.shape[j]:
                raise ValueError(f"[einsum] axis '{a}' has sizes {x.shape[i]} and {x.shape[j]}")
            x = _C.diagonal(x, 0, i, j)
            axes = [b for k, b in enumerate(axes) if k not in (i, j)] + [a]
    gone = [i for i, a in enumerate(axes) if a not in keep]
    if gone:
        x = _C.sum(x, gone)
        axes = [a for a in axes if a in keep]
    return x, axes


def _pair(x: Tensor, xa: list[str], y: Tensor, ya: list[str], keep: set[str]) -> tuple[Tensor, list[str]]:
    """Two operands contracted to one: (batch, rows, inner) @ (batch, inner, columns)."""
    size: dict[str, int] = {}
    for axes, t in ((xa, x), (ya, y)):
        for a, n in zip(axes, t.shape):
            if size.setdefault(a, n) != n:
                if 1 not in (size[a], n):
                    raise ValueError(f"[einsum] axis '{a}' has sizes {size[a]} and {n}")
                size[a] = max(size[a], n)
    x = _C.broadcast_to(x, [size[a] for a in xa])
    y = _C.broadcast_to(y, [size[a] for a in ya])
    batch = [a for a in xa if a in ya and a in keep]
    inner = [a for a in xa if a in ya and a not in keep]
    rows = [a for a in xa if a not in ya]
    columns = [a for a in ya if a not in xa]

    def count(axes: list[str]) -> int:
        return math.prod(size[a] for a in axes)

    left = _C.permute_dims(x, [xa.index(a) for a in batch + rows + inner])
    right = _C.permute_dims(y, [ya.index(a) for a in batch + inner + columns])
    left = _C.reshape(left, [count(batch), count(rows), count(inner)])
    right = _C.reshape(right, [count(batch), count(inner), count(columns)])
    out = batch + rows + columns
    return _C.reshape(_C.matmul(left, right), [size[a] for a in out]), out


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products, as NumPy's and PyTorch's einsum: repeated axes are multiplied, those not in the output summed.

    Args:
        equation: like "bij,bjk->bik"; "..." stands for the axes not named.
        operands: the tensors, or one sequence of them.

    Raises:
        ValueError: where the equation and the shapes do not fit.

    >>> import pydl
    >>> pydl.einsum("ij,j->i", pydl.ones((2, 3)), pydl.ones(3)).tolist()
    [3.0, 3.0]
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    inputs, output = _parse(equation, operands)
    x, axes = _single(operands[0], inputs[0], set(output).union(*inputs[1:]))
    for i in range(1, len(operands)):
        keep = set(output).union(*inputs[i + 1 :])
        y, y_axes = _single(operands[i], inputs[i], keep | set(axes))
        x, axes = _single(x, axes, keep | set(y_axes))
        x, axes = _pair(x, axes, y, y_axes, keep)
    x, axes = _single(x, axes, set(output))
    return _C.permute_dims(x, [axes.index(a) for a in output]) if output else x
