"""The gradient of every op: finite differences with an asymmetric upstream, layouts, broadcasting, PyTorch, threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import pydl
from layouts import LAYOUTS
from op_cases import ELEMENTWISE, OPS, Op
from oracle import finite_differences
from tolerances import GRAD_ATOL, GRAD_RTOL, TORCH_ATOL, TORCH_RTOL, assert_near, assert_same_bits

DIFFERENTIABLE = [op for op in OPS if op.gradient]
WITH_TORCH = [op for op in OPS if op.torch is not None and "float64" in op.dtypes]
TORCH_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def named(ops: Sequence[Op]) -> dict[str, Any]:
    return {"argnames": "op", "argvalues": ops, "ids": [op.name for op in ops]}


def pydl_gradients(
    op: Op,
    arrays: Sequence[np.ndarray],
    keywords: dict[str, Any],
    upstream: np.ndarray | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray | None]]:
    """The value, the upstream gradient that was sent back, and what arrived at each operand."""
    tensors = [pydl.asarray(a.copy()) for a in arrays]
    for tensor, operand in zip(tensors, op.operands, strict=True):
        if not operand.dtype:
            tensor.requires_grad_()
    y = op(*tensors, **keywords)
    assert y.requires_grad, f"{op.name} was not recorded"
    if upstream is None:
        upstream = rng.uniform(-2, 3, y.shape)
    y.backward(pydl.asarray(np.asarray(upstream, dtype=arrays_dtype(op, arrays))))
    return y.detach().numpy(), upstream, [t.grad.numpy() if t.grad is not None else None for t in tensors]


def arrays_dtype(op: Op, arrays: Sequence[np.ndarray]) -> np.dtype:
    return next(a.dtype for a, operand in zip(arrays, op.operands, strict=True) if not operand.dtype)


@pytest.mark.parametrize(**named(DIFFERENTIABLE))
def test_gradient_against_finite_differences(op: Op, rng: np.random.Generator) -> None:
    for shape in ((), (2, 3)) if op.elementwise else ((),):
        for shapes, keywords in op.cases(shape):
            arrays = op.draw(rng, shapes, "float64")
            wanted = [not operand.dtype for operand in op.operands]
            _, upstream, got = pydl_gradients(op, arrays, keywords, None, rng)
            exact = finite_differences(lambda *x, k=keywords: op.reference(*x, **k), arrays, wanted, upstream)
            for a, g, e in zip(arrays, got, exact, strict=True):
                assert (g is None) == (e is None)
                if e is not None and g is not None:
                    assert g.shape == a.shape
                    assert_near(g, e, GRAD_RTOL, GRAD_ATOL, f"{op.name} {shapes} {keywords}")


@pytest.mark.parametrize(**named([op for op in DIFFERENTIABLE if op.elementwise and len(op.operands) > 1]))
@pytest.mark.parametrize("pair", [((2, 3), (3,)), ((3, 1), (1, 2)), ((2, 1, 2), (3, 1)), ((), (2, 2)), ((3,), ())])
def test_broadcasting_is_undone(op: Op, pair: tuple[tuple[int, ...], ...], rng: np.random.Generator) -> None:
    arrays = op.draw(rng, (*pair, pair[0])[: len(op.operands)], "float64")
    wanted = [not operand.dtype for operand in op.operands]
    _, upstream, got = pydl_gradients(op, arrays, {}, None, rng)
    for g, e in zip(got, finite_differences(op.reference, arrays, wanted, upstream), strict=True):
        if e is not None:
            assert_near(g, e, GRAD_RTOL, GRAD_ATOL, op.name)


@pytest.mark.parametrize(**named(DIFFERENTIABLE))
def test_gradient_through_every_layout(op: Op, rng: np.random.Generator) -> None:
    """Operands and the upstream gradient non-contiguous: the same gradient as with contiguous ones."""
    for shapes, keywords in op.cases((5, 3))[:2]:
        arrays = op.draw(rng, shapes, "float64")
        _, upstream, wanted = pydl_gradients(op, arrays, keywords, None, rng)
        for name in ("transposed", "reversed", "stepped"):
            tensors = [LAYOUTS[name](a)[1] for a in arrays]
            for tensor, operand in zip(tensors, op.operands, strict=True):
                if not operand.dtype:
                    tensor.requires_grad_()
            op(*tensors, **keywords).backward(LAYOUTS[name](upstream)[1])
            for tensor, w in zip(tensors, wanted, strict=True):
                if w is not None:
                    assert_near(tensor.grad.numpy(), w, 1e-12, 1e-13, f"{op.name} {name} {shapes}")


@pytest.mark.parametrize(**named([op for op in DIFFERENTIABLE if op.elementwise or op.big]))
def test_large_gradients_have_the_same_bits_for_any_thread_count(
    op: Op, rng: np.random.Generator, threads: None
) -> None:
    """float32, against the float64 gradient of the same op, so that the float32 kernels' gradients are checked too."""
    for shapes, keywords in op.cases((100_003,), big=True):
        arrays = op.draw(rng, shapes, "float32")
        pydl.set_num_threads(1)
        _, upstream, alone = pydl_gradients(op, arrays, keywords, None, rng)
        doubles = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
        _, _, exact = pydl_gradients(op, doubles, keywords, upstream, rng)
        for g, e in zip(alone, exact, strict=True):
            if e is not None and g is not None:
                size = max(1.0, float(np.max(np.abs(e), initial=0)))
                assert g.dtype == np.float32
                assert_near(g, e, 2e-5, 2e-6 * size, f"{op.name} {shapes} {keywords} float32")
        for count in (2, 3, 8):
            pydl.set_num_threads(count)
            for g, w in zip(pydl_gradients(op, arrays, keywords, upstream, rng)[2], alone, strict=True):
                if w is not None:
                    assert_same_bits(g, w, f"{op.name} {shapes} with {count} threads")


@pytest.mark.parametrize("rows", [3, 1000, 40_001])
@pytest.mark.parametrize("columns", [1, 5, 129])
def test_undoing_a_large_broadcast_has_the_same_bits_for_any_thread_count(
    rows: int, columns: int, rng: np.random.Generator, threads: None
) -> None:
    x = pydl.asarray(rng.normal(size=(rows, columns)).astype(np.float32))
    upstream = rng.normal(size=(rows, columns)).astype(np.float32)
    results = []
    for count in (1, 2, 3, 8):
        pydl.set_num_threads(count)
        bias = pydl.zeros((columns,)).requires_grad_()
        (x + bias).backward(pydl.asarray(upstream))
        results.append(bias.grad.numpy().copy())
    wanted = upstream.astype(np.float64).sum(0)
    assert_near(results[0], wanted, 1e-6, 1e-7 * rows**0.5 * 4, "bias gradient")
    for other in results[1:]:
        assert_same_bits(other, results[0])


def _torch_function(op: Op) -> Any:
    torch = pytest.importorskip("torch")
    if callable(op.torch):
        return op.torch
    target: Any = torch
    for part in (op.torch or op.name).split("."):
        target = getattr(target, part)
    if op.name == "clip":
        return lambda x, **k: torch.clamp(x, **k)
    return lambda *x, **k: target(*x, **{TORCH_NAMES.get(key, key): value for key, value in k.items()})


@pytest.mark.parametrize(**named(WITH_TORCH))
def test_value_and_gradient_against_torch(op: Op, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    function = _torch_function(op)
    for shapes, keywords in op.cases((4, 7)):
        arrays = op.draw(rng, shapes, "float64")
        theirs = [torch.tensor(a) for a in arrays]
        for tensor, operand in zip(theirs, op.operands, strict=True):
            tensor.requires_grad_(not operand.dtype and op.gradient)
        wanted = function(*theirs, **keywords)
        if not op.gradient:
            got = op(*map(pydl.asarray, arrays), **keywords).numpy()
            assert_near(got, wanted.numpy(), TORCH_RTOL, TORCH_ATOL, op.name)
            continue
        upstream = rng.uniform(-2, 3, tuple(wanted.shape))
        wanted.backward(torch.tensor(upstream))
        value, _, gradients = pydl_gradients(op, arrays, keywords, upstream, rng)
        assert_near(value, wanted.detach().numpy(), TORCH_RTOL, TORCH_ATOL, f"{op.name} {shapes} {keywords}")
        for g, t in zip(gradients, theirs, strict=True):
            if g is not None:
                assert_near(g, t.grad.numpy(), 1e-10, 1e-11, f"gradient of {op.name} {shapes} {keywords}")


KINKS = {
    "abs": ([0.0, -0.0], {}),
    "nn.functional.relu": ([0.0, -0.0], {}),
    "nn.functional.leaky_relu": ([0.0], {}),
    "nn.functional.elu": ([0.0], {}),
    "nn.functional.relu6": ([0.0, 6.0], {}),
    "nn.functional.hardtanh": ([-1.0, 1.0], {}),
    "nn.functional.hardsigmoid": ([-3.0, 3.0], {}),
    "nn.functional.softsign": ([0.0], {}),
    "clip": ([-1.0, 1.0], {"min": -1.0, "max": 1.0}),
    "sqrt": ([0.0], {}),
    "sign": ([0.0], {}),
    "nn.functional.softplus": ([20.0, 20.1, 800.0, -800.0], {}),
    "nn.functional.logsigmoid": ([0.0, 800.0, -800.0], {}),
    "nn.functional.silu": ([0.0, 800.0, -800.0], {}),
    "nn.functional.mish": ([0.0, 50.0, -50.0], {}),
    "nn.functional.gelu": ([0.0, 30.0, -30.0], {}),
    "sigmoid": ([800.0, -800.0], {}),
    "tanh": ([800.0, -800.0], {}),
    "exp": ([-800.0, 800.0], {}),
    "asinh": ([0.0, 1e30, -1e30], {}),
}


@pytest.mark.parametrize("name", KINKS)
def test_gradient_at_kinks_and_far_out_is_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    points, keywords = KINKS[name]
    op = next(op for op in OPS if op.name == name)
    theirs = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    _torch_function(op)(theirs, **keywords).backward(torch.arange(1.0, len(points) + 1, dtype=torch.float64))
    ours = pydl.asarray(np.array(points)).requires_grad_()
    op(ours, **keywords).backward(pydl.asarray(np.arange(1.0, len(points) + 1)))
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("base", "exponent"),
    [(0.0, 2.0), (0.0, 1.0), (0.0, 0.0), (-2.0, 3.0), (-2.0, 2.0), (3.0, 0.0), (-1.5, -2.0), (2.0, 0.5)],
)
def test_gradient_of_pow_at_its_special_points_is_torchs(base: float, exponent: float) -> None:
    """With a scalar exponent nothing is undefined, even where log(base) is."""
    torch = pytest.importorskip("torch")
    theirs = torch.tensor(base, dtype=torch.float64, requires_grad=True)
    (theirs**exponent).backward()
    ours = pydl.asarray(np.array(base)).requires_grad_()
    (ours**exponent).backward()
    assert float(ours.grad.numpy()) == pytest.approx(float(theirs.grad), rel=1e-13)


@pytest.mark.parametrize("name", ["max", "min", "maximum", "minimum"])
def test_ties_share_the_gradient_and_none_is_lost(name: str) -> None:
    x = pydl.asarray(np.array([2.0, 5.0, 5.0, 2.0])).requires_grad_()
    if name in ("max", "min"):
        getattr(pydl, name)(x).backward(pydl.asarray(np.array(3.0)))
        assert x.grad.numpy().sum() == 3.0
        extreme = 5.0 if name == "max" else 2.0
        assert np.all(x.grad.numpy()[x.detach().numpy() != extreme] == 0)
    else:
        getattr(pydl, name)(x, x).backward(pydl.asarray(np.array([1.0, 2.0, 3.0, 4.0])))
        np.testing.assert_array_equal(x.grad.numpy(), [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("values", "axis"), [([[2.0, 0.0, 3.0], [4.0, 5.0, 6.0]], 1), ([[0.0, 0.0, 3.0]], 1), ([[0.0, 2.0]], None)]
)
def test_gradient_of_prod_with_zeros(values: list[list[float]], axis: int | None) -> None:
    """The product of the others: a division by the element itself would give NaN."""
    x = pydl.asarray(np.array(values)).requires_grad_()
    pydl.prod(x, axis=axis).sum().backward()
    a = np.array(values)
    wanted = np.empty_like(a)
    for at in np.ndindex(*a.shape):
        others = a.copy()
        others[at] = 1
        wanted[at] = np.prod(others[at[0]] if axis == 1 else others)
    np.testing.assert_array_equal(x.grad.numpy(), wanted)


def test_gradient_of_norm_at_zero_is_zero() -> None:
    x = pydl.zeros((3,), dtype=pydl.float64).requires_grad_()
    pydl.norm(x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros(3))


def test_every_elementwise_float_row_has_a_gradient_or_says_why() -> None:
    """Guards the table itself: a new row that forgets its gradient must be one of these."""
    silent = {op.name for op in ELEMENTWISE if not op.gradient and "float64" in op.dtypes}
    assert silent == {
        "isnan", "isinf", "isfinite", "signbit", "floor_divide", "nextafter", "equal", "not_equal",
        "less", "less_equal", "greater", "greater_equal",
    }  # fmt: skip
