"""A user's mistake is a ValueError, TypeError or IndexError that names the op, in brackets, and what it got."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl


def x(*shape: int) -> pydl.Tensor:
    return pydl.ones(shape)


def ids(*shape: int) -> pydl.Tensor:
    return pydl.zeros(shape, dtype=pydl.int64)


F = pydl.nn.functional
V, T, I = ValueError, TypeError, IndexError  # noqa: E741
Case = tuple[Callable[[], Any], Any, str]

SHAPES: dict[str, Case] = {
    "add": (lambda: x(2, 3) + x(4), V, r"^\[add\].*\(2, 3\).*\(4,?\)"),
    "multiply": (lambda: pydl.multiply(x(2), x(3)), V, r"^\[multiply\].*\(2,?\).*\(3,?\)"),
    "where": (lambda: pydl.where(x(2) > 0, x(3), x(2)), V, r"^\[where\]"),
    "matmul": (lambda: x(2, 3) @ x(4, 5), V, r"^\[matmul\].*\(2, 3\).*\(4, 5\)"),
    "matmul batch": (lambda: x(2, 3, 4) @ x(3, 4, 5), V, r"^\[matmul\]"),
    "matmul of scalars": (lambda: pydl.matmul(x(), x(2)), V, r"^\[matmul\]"),
    "linear": (lambda: F.linear(x(2, 3), x(5, 4), None), V, r"^\[linear\]"),
    "linear bias": (lambda: F.linear(x(2, 3), x(5, 3), x(4)), V, r"^\[linear\]"),
    "reshape": (lambda: pydl.reshape(x(2, 3), (4, 2)), V, r"^\[reshape\].*\(2, 3\).*\(4, 2\)"),
    "reshape with two unknowns": (lambda: pydl.reshape(x(6), (-1, -1)), V, r"^\[reshape\].*-1"),
    "reshape that does not divide": (lambda: pydl.reshape(x(7), (-1, 2)), V, r"^\[reshape\]"),
    "reshape of nothing with an unknown": (lambda: pydl.reshape(x(0, 3), (0, -1)), V, r"^\[reshape\]"),
    "broadcast_to": (lambda: pydl.broadcast_to(x(3), (2, 4)), V, r"^\[broadcast_to\]"),
    "broadcast_to fewer axes": (lambda: pydl.broadcast_to(x(2, 3), (3,)), V, r"^\[broadcast_to\]"),
    "concat": (lambda: pydl.concat([x(2, 3), x(2, 4)]), V, r"^\[concat\].*\(2, 4\)"),
    "concat of nothing": (lambda: pydl.concat([]), V, r"^\[concat\]"),
    "concat ranks": (lambda: pydl.concat([x(2, 3), x(2)]), V, r"^\[concat\]"),
    "stack": (lambda: pydl.stack([x(2), x(3)]), V, r"^\[stack\]"),
    "split": (lambda: pydl.split(x(5), [2, 2]), V, r"^\[split\].*5"),
    "squeeze": (lambda: pydl.squeeze(x(2, 3), axis=0), V, r"^\[squeeze\].*2"),
    "permute_dims": (lambda: pydl.permute_dims(x(2, 3), (0, 0)), V, r"^\[permute_dims\]"),
    "permute_dims too few": (lambda: pydl.permute_dims(x(2, 3), (0,)), V, r"^\[permute_dims\]"),
    "einsum": (lambda: pydl.einsum("ij,jk->ik", x(2, 3), x(4, 5)), V, r"^\[einsum\].*j"),
    "einsum operands": (lambda: pydl.einsum("ij,jk->ik", x(2, 3)), V, r"^\[einsum\]"),
    "einsum output": (lambda: pydl.einsum("ij->ik", x(2, 3)), V, r"^\[einsum\].*k"),
    "einsum syntax": (lambda: pydl.einsum("i1->i", x(2, 3)), V, r"^\[einsum\]"),
    "take": (lambda: pydl.take(x(2, 3), ids(1), axis=5), (I, V), r"^\[take\].*5"),
    "take_along_axis": (lambda: pydl.take_along_axis(x(2, 3), ids(2), axis=1), V, r"^\[take_along_axis\]"),
    "scatter_add": (lambda: pydl.scatter_add(x(2, 3), 0, ids(2, 3), x(1, 3)), V, r"^\[scatter_add\]"),
    "embedding": (lambda: F.embedding(ids(2), x(2, 3, 4)), V, r"^\[embedding\]"),
    "topk": (lambda: pydl.topk(x(3), 4), V, r"^\[topk\].*4"),
    "topk negative": (lambda: pydl.topk(x(3), -1), V, r"^\[topk\]"),
    "tril": (lambda: pydl.tril(x(3)), V, r"^\[tril\]"),
    "in place": (lambda: x(3).add_(x(2, 3)), V, r"^\[add_?\]"),
    "copy_": (lambda: x(3).copy_(x(2)), V, r"^\[copy_?\]"),
    "repeat": (lambda: pydl.repeat(x(3), -1), V, r"^\[repeat\]"),
}  # fmt: skip

AXES: dict[str, Case] = {
    **{
        name: (lambda name=name, f=f: f(x(2, 3)), (I, V), rf"^\[{name}\].*{axis}")
        for name, axis, f in [
            ("sum", 2, lambda t: pydl.sum(t, axis=2)),
            ("mean", -3, lambda t: pydl.mean(t, axis=-3)),
            ("max", 7, lambda t: pydl.max(t, axis=7)),
            ("argmax", 2, lambda t: pydl.argmax(t, axis=2)),
            ("sort", 2, lambda t: pydl.sort(t, axis=2)),
            ("cumulative_sum", 2, lambda t: pydl.cumulative_sum(t, axis=2)),
            ("flip", 4, lambda t: pydl.flip(t, axis=4)),
            ("expand_dims", 4, lambda t: pydl.expand_dims(t, axis=4)),
            ("concat", 3, lambda t: pydl.concat([t, t], axis=3)),
            ("stack", 4, lambda t: pydl.stack([t, t], axis=4)),
            ("softmax", 2, lambda t: F.softmax(t, axis=2)),
            ("roll", 5, lambda t: pydl.roll(t, 1, axis=5)),
            ("permute_dims", 2, lambda t: pydl.permute_dims(t, (0, 2))),
            ("logsumexp", 9, lambda t: pydl.logsumexp(t, axis=9)),
        ]
    },
    "axis twice": (lambda: pydl.sum(x(2, 3), axis=(0, 0)), V, r"^\[sum\]"),
    "axis twice, counted from both ends": (lambda: pydl.sum(x(2, 3), axis=(1, -1)), V, r"^\[sum\]"),
    "fractional axis": (lambda: pydl.sum(x(2, 3), axis=0.5), T, r"^\[?.*sum"),
    "axis missing": (lambda: pydl.cumulative_sum(x(2, 3)), V, r"^\[cumulative_sum\].*axis"),
}  # fmt: skip

EMPTY: dict[str, Case] = {
    name: (lambda f=f: f(pydl.zeros((0, 3))), V, rf"^\[{name}\]")
    for name, f in [
        ("max", lambda t: pydl.max(t)),
        ("min", lambda t: pydl.min(t, axis=0)),
        ("argmax", lambda t: pydl.argmax(t, axis=0)),
        ("argmin", lambda t: pydl.argmin(t)),
    ]
}  # fmt: skip

DTYPES: dict[str, Case] = {
    "bitwise_and": (lambda: pydl.bitwise_and(x(2), x(2)), T, r"^\[bitwise_and\].*float32"),
    "bitwise_left_shift": (lambda: pydl.bitwise_left_shift(x(2), 1), T, r"^\[bitwise_left_shift\].*float32"),
    "negative of bool": (lambda: -(x(2) > 0), T, r"^\[negative\].*bool"),
    "embedding": (lambda: F.embedding(x(2), x(3, 4)), T, r"^\[embedding\].*float32"),
    "take": (lambda: pydl.take(x(2), x(2), axis=0), T, r"^\[take\].*float32"),
    "where": (lambda: pydl.where(x(2), x(2), x(2)), T, r"^\[where\].*bool"),
    "dropout": (lambda: F.dropout(ids(3), 0.5, True), T, r"^\[dropout\].*int64"),
    "softmax": (lambda: F.softmax(ids(3), axis=0), T, r"^\[softmax\].*int64"),
    "add of a string": (lambda: x(2) + "a", T, r"str"),
    "add of None": (lambda: pydl.add(x(2), None), T, r"\[add\]|None"),
    "add of a complex number": (lambda: x(2) + 1j, T, r"complex"),
    "exp of a string": (lambda: pydl.exp("a"), T, r"\[exp\]|str"),
    "unknown dtype": (lambda: pydl.zeros((2,), dtype="float31"), (T, V), r"float31"),
    "unknown device": (lambda: pydl.zeros((2,), device="tpu"), V, r"tpu"),
    "unknown keyword": (lambda: pydl.sum(x(2), axes=1), T, r"axes"),
    "too many arguments": (lambda: pydl.exp(x(2), 1, 2), T, r"exp"),
    "uint8 out of range": (lambda: ids(2).astype(pydl.uint8) + 300, (V, T, OverflowError), r"300"),
}  # fmt: skip

VALUES: dict[str, Case] = {
    "gelu": (lambda: F.gelu(x(2), approximate="quick"), V, r"^\[gelu\].*quick"),
    "clip without bounds of another shape": (lambda: pydl.clip(x(3), pydl.zeros((2,)), None), V, r"^\[clip\]"),
    "norm": (lambda: pydl.nn.functional.mse_loss(x(3), x(3), reduction="avg"), V, r"^\[mse_loss\].*avg"),
    "threads": (lambda: pydl.set_num_threads(0), V, r"^\[set_num_threads\].*0"),
    "item": (lambda: x(3).item(), V, r"^\[item\].*3"),
    "bool of several": (lambda: bool(x(3)), V, r"^\[bool\]|^\[__bool__\]|^\[item\]"),
    "linspace": (lambda: pydl.linspace(0, 1, -1), V, r"^\[linspace\].*-1"),
    "eye": (lambda: pydl.eye(-1), V, r"^\[eye\].*-1"),
    "rank too high": (lambda: pydl.zeros((1,) * 17), V, r"^\[(zeros|shape)\].*1[67]"),
    "expand past the highest rank": (lambda: pydl.expand_dims(pydl.zeros((1,) * 16), axis=0), V, r"^\[expand_dims\]"),
}  # fmt: skip

GROUPS = {"shape": SHAPES, "axis": AXES, "empty": EMPTY, "dtype": DTYPES, "value": VALUES}
ALL = {f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()}


@pytest.mark.parametrize("case", ALL)
def test_mistake(case: str) -> None:
    call, error, pattern = ALL[case]
    with pytest.raises(error, match=pattern):
        call()


@pytest.mark.parametrize("case", [name for name in ALL if name.startswith(("shape", "axis", "value"))])
def test_mistake_with_gradients_recorded(case: str) -> None:
    """The same answer while the tape runs, and the tape is left in order."""
    global x
    plain = x
    try:
        x = lambda *shape: plain(*shape).requires_grad_()  # noqa: E731
        call, error, pattern = ALL[case]
        with pytest.raises(error, match=pattern if "in place" not in case and "copy_" not in case else r"\["):
            call()
    finally:
        x = plain
    leaf = pydl.ones((2,)).requires_grad_()
    (leaf * 3).sum().backward()
    assert leaf.grad.numpy().tolist() == [3, 3]


DANGEROUS = {
    "division by integer zero": "pydl.floor_divide(i([7, 0]), i([0, 0]))",
    "remainder by integer zero": "pydl.remainder(i([7, 0]), i([0, 0]))",
    "smallest integer by -1": "pydl.floor_divide(i([-2**63]), i([-1]))",
    "remainder of the smallest integer by -1": "pydl.remainder(i([-2**63]), i([-1]))",
    "shift too far": "pydl.bitwise_left_shift(i([1]), i([64]))",
    "negative shift": "pydl.bitwise_right_shift(i([1]), i([-1]))",
    "integer to a negative power": "pydl.pow(i([0, 2]), i([-1, -1]))",
    "nan to integer": "pydl.asarray(np.array([np.nan, np.inf, 1e300])).astype(pydl.int32)",
    "take far out of range": "pydl.take(pydl.zeros((3,)), i([2**62]), axis=0)",
    "huge allocation": "pydl.zeros((2**50,))",
    "size that overflows": "pydl.zeros((2**33, 2**33))",
    "broadcast that overflows": "pydl.broadcast_to(pydl.zeros((1, 1)), (2**40, 2**40)) + 1",
    "recursive list": "l = []; l.append(l); pydl.asarray(l)",
    "deep list": "l = 1.0\nfor _ in range(100000): l = [l]\npydl.asarray(l)",
    "setitem into a broadcast view": "x = pydl.broadcast_to(pydl.zeros((1,)), (5,)); x.add_(1)",
    "tensor without __init__": "pydl.Tensor.__new__(pydl.Tensor).shape",
    "set_state of rubbish": "pydl.Generator(1).set_state(pydl.zeros((7,), dtype=pydl.uint64))",
    "attribute deletion": "x = pydl.zeros((2,)); del x.grad; del x.shape",
    "gradient of itself": "x = pydl.zeros((2,)).requires_grad_(); x.grad = x; (x * 2).sum().backward()",
    "gradient of another shape": "x = pydl.zeros((2,)).requires_grad_(); x.grad = pydl.ones((3,)); (x + x).backward(x)",
}


@pytest.mark.parametrize("case", DANGEROUS)
def test_nothing_kills_the_process(case: str) -> None:
    """An answer or an exception, never a signal."""
    program = "import numpy as np, pydl\ndef i(v): return pydl.asarray(np.array(v, np.int64))\ntry:\n"
    program += "".join(f"    {line}\n" for line in DANGEROUS[case].split("\n"))
    program += "except RuntimeError as e:\n    assert isinstance(e, RecursionError), e\n"
    program += "except Exception:\n    pass\nprint('alive', flush=True)\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-800:]


def test_errors_are_no_internal_errors() -> None:
    """RuntimeError is our own bug; a user's mistake never is one."""
    for name, (call, error, _) in ALL.items():
        kinds = error if isinstance(error, tuple) else (error,)
        assert RuntimeError not in kinds, name
        with pytest.raises(kinds):
            call()


def test_failed_in_place_operation_changes_nothing() -> None:
    t = pydl.asarray(np.array([1.0, 2.0]))
    for wrong in (
        lambda: t.add_(pydl.ones((3,))),
        lambda: t.__setitem__(0, pydl.ones((2,))),
        lambda: t.__setitem__(9, 1.0),
    ):
        with pytest.raises((ValueError, IndexError)):
            wrong()
    assert t.numpy().tolist() == [1.0, 2.0]
