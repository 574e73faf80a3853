"""The value of every op: each dtype, layout and odd size, against NumPy in a wider type, at any thread count."""

from __future__ import annotations

import numpy as np
import pytest

import pydl
from layouts import LAYOUTS
from op_cases import ELEMENTWISE, FLOATS, ODD_SIZES, OPS, THREADED_SIZE, Op
from oracle import check_value
from tolerances import assert_same_bits

BY_NAME = {"argnames": "op", "argvalues": OPS, "ids": [op.name for op in OPS]}
BY_ELEMENTWISE = {"argnames": "op", "argvalues": ELEMENTWISE, "ids": [op.name for op in ELEMENTWISE]}
OPS_AND_DTYPES = [pytest.param(op, dtype, id=f"{op.name}-{dtype}") for op in OPS for dtype in op.dtypes]
THREADED = [op for op in OPS if op.elementwise or op.big]


@pytest.mark.parametrize(("op", "dtype"), OPS_AND_DTYPES)
def test_value_in_every_layout(op: Op, dtype: str, rng: np.random.Generator) -> None:
    for shape in ((), (1,), (7,), (5, 3), (2, 3, 9)) if op.elementwise else ((),):
        for shapes, keywords in op.cases(shape):
            arrays = op.draw(rng, shapes, dtype)
            for layout in LAYOUTS.values():
                laid = [layout(a) for a in arrays]
                got = op(*[tensor for _, tensor in laid], **keywords).numpy()
                check_value(op, got, [values for values, _ in laid], keywords, dtype)


@pytest.mark.parametrize(**BY_ELEMENTWISE)
def test_value_at_odd_sizes(op: Op, rng: np.random.Generator) -> None:
    """Vector bodies and tails, in one and two dimensions, contiguous and with a gap between rows."""
    for dtype in op.dtypes if op.kinds in ("b", "i", "ib") else FLOATS:
        for size in ODD_SIZES:
            for shapes, keywords in op.cases((size,)):
                arrays = op.draw(rng, shapes, dtype)
                check_value(op, op(*map(pydl.asarray, arrays), **keywords).numpy(), arrays, keywords, dtype)
            for shapes, keywords in op.cases((3, size)):
                arrays = op.draw(rng, shapes, dtype)
                padded = [pydl.asarray(np.concatenate([a, a], axis=1))[:, : a.shape[1]] for a in arrays]
                check_value(op, op(*padded, **keywords).numpy(), arrays, keywords, dtype)


@pytest.mark.parametrize("op", THREADED, ids=[op.name for op in THREADED])
@pytest.mark.parametrize("dtype", FLOATS)
def test_value_of_large_inputs_and_the_same_bits_for_any_thread_count(
    op: Op, dtype: str, rng: np.random.Generator, threads: None
) -> None:
    if dtype not in op.dtypes:
        dtype = "int32" if "int32" in op.dtypes else "bool"
    for shapes, keywords in op.cases((THREADED_SIZE,), big=True):
        arrays = op.draw(rng, shapes, dtype)
        tensors = [pydl.asarray(a) for a in arrays]
        pydl.set_num_threads(1)
        alone = op(*tensors, **keywords).numpy()
        some = slice(None, None, 7) if op.elementwise else ...  # references in long double are slow
        check_value(op, alone[some], [a[some] for a in arrays], keywords, dtype)
        for count in (2, 3, 4, 8):
            pydl.set_num_threads(count)
            assert_same_bits(op(*tensors, **keywords).numpy(), alone, f"{op.name} {shapes} with {count} threads")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_one_value_beside_rows_of_any_length(dtype: str, rng: np.random.Generator) -> None:
    """A column or a number beside long rows, on either side, and both: what repeats is not written out."""
    for rows, n in ((3, 1), (5, 7), (4, 16), (3, 17), (2, 512), (3, 513), (2, 1025), (2, 2500)):
        x = rng.integers(1, 99, (2, rows, n)).astype(dtype)
        column, number = rng.integers(1, 99, (2, rows, 1)).astype(dtype), np.array(7, dtype)
        whole, line, one = (pydl.asarray(a) for a in (x, column, number))
        for got, wanted in [
            (whole - line, x - column),
            (line - whole, column - x),
            (whole - one, x - number),
            (one - whole, number - x),
            (whole[:, :, 0:1] - line, x[:, :, 0:1] - column),
            (whole[:, ::2] - line[:, ::2], x[:, ::2] - column[:, ::2]),
            (whole[..., ::2] - line, x[..., ::2] - column),
            (whole - line[:, :1], x - column[:, :1]),
            (pydl.broadcast_to(line, x.shape) - one, np.broadcast_to(column, x.shape) - number),
            (pydl.broadcast_to(line, x.shape) - line[:, :1], np.broadcast_to(column - column[:, :1], x.shape)),
        ]:
            np.testing.assert_array_equal(got.numpy(), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_one_row_beside_many(dtype: str, rng: np.random.Generator, threads: None) -> None:
    """Rows of any length beside one that all, or all of a block, share; on either side, in three operands, in place."""
    for blocks, rows, n in (
        (1, 3000, 3),
        (1, 3024, 15),
        (3, 500, 9),
        (1, 5000, 17),
        (2, 90, 100),
        (1, 40, 511),
        (2, 9, 600),
    ):
        x = rng.integers(0, 99, (blocks, rows, n)).astype(dtype)
        shared = [x[:1, :1] + x[-1:, -1:], x[:, :1] + x[:, -1:]]
        for row in shared:
            for count in (1, 2, 5):
                pydl.set_num_threads(count)
                many, one = pydl.asarray(x), pydl.asarray(row)
                np.testing.assert_array_equal((many + one).numpy(), x + row)
                np.testing.assert_array_equal((one * many).numpy(), row * x)
                np.testing.assert_array_equal(pydl.less(one, many).numpy(), row < x)
                np.testing.assert_array_equal(pydl.where(many > one, one, many).numpy(), np.where(x > row, row, x))
                np.testing.assert_array_equal((many.clone().add_(one)).numpy(), x + row)
                np.testing.assert_array_equal((many[:, ::2] + one).numpy(), x[:, ::2] + row)


@pytest.mark.parametrize(**BY_ELEMENTWISE)
def test_value_of_broadcast_operands(op: Op, rng: np.random.Generator) -> None:
    dtype = op.dtypes[0]
    pairs = [
        ((5, 3), (3,)),
        ((4, 1), (1, 9)),
        ((2, 1, 3), (5, 1)),
        ((), (3, 4)),
        ((6,), ()),
        ((2, 3, 4), (3, 1)),
        ((1,), (3, 1000)),
    ]
    if len(op.operands) == 1:
        pytest.skip("one operand")
    for pair in pairs:
        shapes = (*pair, pair[0])[: len(op.operands)]
        arrays = op.draw(rng, shapes, dtype)
        check_value(op, op(*map(pydl.asarray, arrays)).numpy(), arrays, {}, dtype)


@pytest.mark.parametrize(**BY_NAME)
def test_operands_are_left_alone(op: Op, rng: np.random.Generator) -> None:
    for shapes, keywords in op.cases((5, 3)):
        arrays = op.draw(rng, shapes, op.dtypes[0])
        tensors = [pydl.asarray(a.copy()) for a in arrays]
        op(*tensors, **keywords)
        for a, t in zip(arrays, tensors, strict=True):
            assert_same_bits(t.numpy(), a, op.name)


@pytest.mark.parametrize(**BY_ELEMENTWISE)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 5)])
def test_zero_size_elementwise(op: Op, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    dtype = op.dtypes[0]
    for shapes, keywords in op.cases(shape):
        arrays = op.draw(rng, shapes, dtype)
        check_value(op, op(*map(pydl.asarray, arrays), **keywords).numpy(), arrays, keywords, dtype)


ZERO_SIZE = {
    "sum": (lambda x: pydl.sum(x, axis=0), (0, 3), np.zeros(3, np.float32)),
    "sum all": (lambda x: pydl.sum(x), (0, 3), np.float32(0)),
    "prod": (lambda x: pydl.prod(x, axis=1), (2, 0), np.ones(2, np.float32)),
    "mean": (lambda x: pydl.mean(x, axis=0), (0, 2), np.full(2, np.nan, np.float32)),
    "var": (lambda x: pydl.var(x), (0,), np.float32(np.nan)),
    "any": (lambda x: pydl.any(x), (0,), np.bool_(False)),
    "all": (lambda x: pydl.all(x, axis=1), (3, 0), np.ones(3, np.bool_)),
    "max over the other axis": (lambda x: pydl.max(x, axis=1), (0, 3), np.zeros(0, np.float32)),
    "logsumexp": (lambda x: pydl.logsumexp(x, axis=0), (0, 2), np.full(2, -np.inf, np.float32)),
    "cumulative_sum": (lambda x: pydl.cumulative_sum(x, axis=0), (0, 2), np.zeros((0, 2), np.float32)),
    "cumulative_sum with initial": (
        lambda x: pydl.cumulative_sum(x, axis=0, include_initial=True), (0, 2), np.zeros((1, 2), np.float32)),
    "matmul over nothing": (lambda x: pydl.matmul(x, x.mT), (3, 0), np.zeros((3, 3), np.float32)),
    "matmul of no rows": (lambda x: pydl.matmul(x, pydl.ones((3, 2))), (0, 3), np.zeros((0, 2), np.float32)),
    "softmax of no rows": (lambda x: pydl.nn.functional.softmax(x, axis=1), (0, 3), np.zeros((0, 3), np.float32)),
    "softmax of no columns": (lambda x: pydl.nn.functional.softmax(x, axis=1), (3, 0), np.zeros((3, 0), np.float32)),
    "sort": (lambda x: pydl.sort(x, axis=1), (2, 0), np.zeros((2, 0), np.float32)),
    "concat": (lambda x: pydl.concat([x, pydl.ones((2, 3))]), (0, 3), np.ones((2, 3), np.float32)),
    "take nothing": (
        lambda x: pydl.take(x, pydl.zeros((0,), dtype=pydl.int64), axis=0), (4, 2), np.zeros((0, 2), np.float32)),
    "embedding of no ids": (
        lambda x: pydl.nn.functional.embedding(pydl.zeros((0,), dtype=pydl.int64), x), (4, 2),
        np.zeros((0, 2), np.float32)),
    "reshape": (lambda x: pydl.reshape(x, (3, 0)), (0, 5), np.zeros((3, 0), np.float32)),
    "broadcast": (lambda x: x + pydl.ones((1,)), (0,), np.zeros(0, np.float32)),
}  # fmt: skip


@pytest.mark.parametrize("case", ZERO_SIZE)
def test_zero_size(case: str) -> None:
    function, shape, wanted = ZERO_SIZE[case]
    x = pydl.zeros(shape).requires_grad_()
    got = function(x)
    np.testing.assert_array_equal(got.detach().numpy(), wanted, strict=True)
    if got.requires_grad:
        got.sum().backward()
        assert x.grad.shape == shape


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_integer_arithmetic_wraps(dtype: str) -> None:
    info = np.iinfo(dtype)
    a = np.array([info.max, info.min, info.max, 3], dtype)
    b = np.array([1, 1, info.max, 5], dtype)
    with np.errstate(over="ignore"):
        for name in ("add", "subtract", "multiply"):
            wanted = getattr(np, name)(a, b)
            np.testing.assert_array_equal(
                getattr(pydl, name)(pydl.asarray(a), pydl.asarray(b)).numpy(), wanted, strict=True
            )


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"])
@pytest.mark.parametrize("name", ["sum", "prod"])
def test_integer_sums_do_not_overflow_narrow_types(name: str, dtype: str, rng: np.random.Generator) -> None:
    """The standard: a sum of signed integers is the default integer, one of unsigned ones its unsigned twin."""
    x = rng.integers(1, 4, (11, 30)).astype(dtype) if name == "prod" else rng.integers(0, 100, (7, 999)).astype(dtype)
    got = getattr(pydl, name)(pydl.asarray(x), axis=1).numpy()
    assert got.dtype == ("uint64" if dtype.startswith("u") else "int64")
    np.testing.assert_array_equal(got, getattr(np, name)(x, axis=1))


def test_sum_of_float32_is_accurate_over_many_terms() -> None:
    """A naive float32 running sum of ten million tenths is wrong in the third digit."""
    x = np.full(10_000_019, 0.1, np.float32)
    got = float(pydl.sum(pydl.asarray(x)).numpy())
    wanted = float(np.float32(0.1)) * x.size
    assert abs(got - wanted) / wanted < 2e-6


def test_sum_dtype_argument() -> None:
    x = pydl.asarray(np.full(1000, 0.1, np.float32))
    got = pydl.sum(x, dtype=pydl.float64).numpy()
    assert got.dtype == np.float64
    assert abs(float(got) - 1000 * float(np.float32(0.1))) < 1e-11


def test_variance_does_not_cancel() -> None:
    """Two passes: a spread of 1 around 10^4 survives float32."""
    x = (10_000 + np.arange(-500, 501) / 500).astype(np.float32)
    got = float(pydl.var(pydl.asarray(x)).numpy())
    assert abs(got - np.var(x.astype(np.float64))) < 1e-6


def test_sort_is_stable_and_puts_nan_last() -> None:
    x = np.array([3, np.nan, -np.inf, 1, 3, np.inf, -0.0, 0.0, 1], np.float32)
    order = pydl.argsort(pydl.asarray(x), stable=True).numpy()
    np.testing.assert_array_equal(order, np.argsort(x, kind="stable"))
    np.testing.assert_array_equal(pydl.sort(pydl.asarray(x)).numpy(), np.sort(x))


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8"])
def test_sort_of_integers_with_ties(dtype: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 20, (5, 301)).astype(dtype)
    np.testing.assert_array_equal(pydl.sort(pydl.asarray(x), axis=1).numpy(), np.sort(x, axis=1), strict=True)
    np.testing.assert_array_equal(pydl.argsort(pydl.asarray(x), axis=1).numpy(), np.argsort(x, axis=1, kind="stable"))


def test_topk_indices_point_at_the_values(rng: np.random.Generator) -> None:
    x = rng.permutation(400).reshape(4, 100).astype(np.float32)
    values, indices = pydl.topk(pydl.asarray(x), 7, axis=1)
    np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy(), axis=1), values.numpy())
    np.testing.assert_array_equal(values.numpy(), -np.sort(-x, axis=1)[:, :7])


def test_argmax_takes_the_first_of_equals() -> None:
    x = pydl.asarray(np.array([[1, 5, 5, 2], [7, 7, 7, 7]], np.float32))
    assert pydl.argmax(x, axis=1).numpy().tolist() == [1, 0]
    assert pydl.argmin(x, axis=1).numpy().tolist() == [0, 0]
    assert pydl.argmax(x, axis=1).dtype == pydl.int64


def test_clip_of_integers_and_of_tensor_bounds() -> None:
    x = np.array([-5, 0, 3, 9], np.int32)
    np.testing.assert_array_equal(pydl.clip(pydl.asarray(x), -1, 4).numpy(), np.clip(x, -1, 4), strict=True)
    low, high = np.array([-9, 1, 1, 1], np.int32), np.array([0, 2, 2, 8], np.int32)
    got = pydl.clip(pydl.asarray(x), pydl.asarray(low), pydl.asarray(high)).numpy()
    np.testing.assert_array_equal(got, np.clip(x, low, high), strict=True)
