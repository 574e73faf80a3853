"""In-place forms: the bits of the function, in the same memory, whatever the layout and whatever else is read."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydl
from pydl import Tensor

Pair = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]

# The method, and what it must give.
FORMS: dict[str, Pair] = {
    "abs": (lambda x, y: x.abs_(), lambda x, y: pydl.abs(x)),
    "add": (lambda x, y: x.add_(y), lambda x, y: x + y),
    "add scaled": (lambda x, y: x.add_(y, alpha=-0.3), lambda x, y: x + y * -0.3),
    "add scaled number": (lambda x, y: x.add_(2, alpha=0.3), lambda x, y: x + 2 * 0.3),
    "subtract": (lambda x, y: x.subtract_(1.5), lambda x, y: x - 1.5),
    "subtract scaled": (lambda x, y: x.sub_(y, alpha=0.3), lambda x, y: x - y * 0.3),
    "multiply": (lambda x, y: x.mul_(y), lambda x, y: x * y),
    "divide": (lambda x, y: x.div_(y), lambda x, y: x / y),
    "divide floor": (
        lambda x, y: x.div_(y, rounding_mode="floor"),
        lambda x, y: pydl.div(x, y, rounding_mode="floor"),
    ),
    "divide trunc": (
        lambda x, y: x.div_(y, rounding_mode="trunc"),
        lambda x, y: pydl.div(x, y, rounding_mode="trunc"),
    ),
    "remainder": (lambda x, y: x.remainder_(y), lambda x, y: x % y),
    "maximum": (lambda x, y: x.maximum_(y), lambda x, y: pydl.maximum(x, y)),
    "atan2": (lambda x, y: x.atan2_(y), lambda x, y: pydl.atan2(x, y)),
    "exp": (lambda x, y: x.exp_(), lambda x, y: pydl.exp(x)),
    "relu": (lambda x, y: x.relu_(), lambda x, y: pydl.relu(x)),
    "sqrt": (lambda x, y: x.sqrt_(), lambda x, y: pydl.sqrt(x)),
    "sigmoid": (lambda x, y: x.sigmoid_(), lambda x, y: pydl.sigmoid(x)),
    "round": (lambda x, y: x.round_(), lambda x, y: pydl.round(x)),
    "round decimals": (lambda x, y: x.round_(decimals=1), lambda x, y: pydl.round(x, decimals=1)),
    "clamp": (lambda x, y: x.clamp_(-0.5, 0.7), lambda x, y: pydl.minimum(pydl.maximum(x, -0.5), 0.7)),
    "clamp above": (lambda x, y: x.clamp_(max=0.1), lambda x, y: pydl.minimum(x, 0.1)),
    "clamp by a tensor": (lambda x, y: x.clip_(min=y), lambda x, y: pydl.maximum(x, y)),
    "clamp_min": (lambda x, y: x.clamp_min_(0.2), lambda x, y: pydl.maximum(x, 0.2)),
    "clamp_max": (lambda x, y: x.clamp_max_(0.2), lambda x, y: pydl.minimum(x, 0.2)),
    "square": (lambda x, y: x.pow_(2), lambda x, y: x * x),
    "power": (lambda x, y: x.pow_(0.5), lambda x, y: x**0.5),
    "power of a tensor": (lambda x, y: x.pow_(y), lambda x, y: x**y),
    "lerp": (lambda x, y: x.lerp_(y, 0.3), lambda x, y: x + 0.3 * (y - x)),
    "lerp by a tensor": (lambda x, y: x.lerp_(y, y), lambda x, y: x + y * (y - x)),
    "addcmul": (lambda x, y: x.addcmul_(y, y + 1, value=-0.7), lambda x, y: x + y * (y + 1) * -0.7),
    "addcdiv": (lambda x, y: x.addcdiv_(y, y * y + 1, value=3), lambda x, y: x + y / (y * y + 1) * 3),
    "equal": (lambda x, y: x.eq_(y), lambda x, y: (x == y).astype(x.dtype)),
}
# Where the tensor lies in a larger one.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "all": lambda x: x,
    "rows": lambda x: x[1:],
    "from the second element": lambda x: x.reshape(-1)[1:],
    "every other": lambda x: x[:, ::2],
    "inner": lambda x: x[2:-1, 3:-2],
    "transposed": lambda x: x.T,
    "one": lambda x: x[3, 4],
    "none": lambda x: x[:0],
}


def special(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Tensor:
    values = rng.standard_normal(shape)
    some = values.reshape(-1)[::17]
    some[:] = np.resize([np.nan, np.inf, -np.inf, 0.0, -0.0], some.shape)
    return pydl.tensor(values.astype("float32")).astype(getattr(pydl, dtype))


def bits(x: Tensor) -> Any:
    return x.detach().astype("float64").numpy()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_bits_of_the_function(form: str, layout: str, dtype: str, rng: np.random.Generator) -> None:
    whole, (method, function) = special(rng, (41, 61), dtype), FORMS[form]
    x = LAYOUTS[layout](whole)
    y = special(rng, x.shape, dtype)
    expected, version = whole.clone(), whole._version
    LAYOUTS[layout](expected).copy_(function(x.clone(), y))
    assert method(x, y) is x
    assert whole._version > version or x.size == 0
    np.testing.assert_array_equal(bits(whole), bits(expected))


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda x: x,
    "transposed": lambda x: x.T,
    "turned": lambda x: pydl.flip(x, 0),
    "row": lambda x: x[7],
    "column": lambda x: x[:, 3:4],
    "one": lambda x: x[5, 5],
    "view of another shape": lambda x: x.reshape(1, 40, 40),
    "other rows": lambda x: x.reshape(-1)[pydl.arange(1600) * 7 % 1600].reshape(40, 40),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("form", ["add", "add scaled", "multiply", "maximum", "lerp", "addcmul", "clamp by a tensor"])
def test_what_is_read_lies_in_the_same_memory(form: str, other: str, rng: np.random.Generator) -> None:
    x, (method, function) = pydl.tensor(rng.standard_normal((40, 40)).astype("float32")), FORMS[form]
    before = x.clone()
    if OTHERS[other](x).ndim > 2:
        with pytest.raises(ValueError, match="shape"):
            method(x, OTHERS[other](x))
        np.testing.assert_array_equal(x.numpy(), before.numpy())
        return
    expected = function(before, OTHERS[other](before)).numpy()
    np.testing.assert_array_equal(method(x, OTHERS[other](x)).numpy(), expected)


def test_memory_met_through_other_tensors() -> None:
    for change in (
        lambda u, v: u.add_(v), lambda u, v: operator.isub(u, v), lambda u, v: u.lerp_(v, 0.5),
        lambda u, v: u.addcmul_(v, v), lambda u, v: u.copy_(v), lambda u, v: u.add_(v, alpha=2),
        lambda u, v: u.__setitem__(slice(None), v), lambda u, v: u.scatter_add_(0, pydl.arange(2999), v),
        lambda u, v: u.index_put_((pydl.arange(2999),), v),
    ):  # fmt: skip
        one = np.arange(3000, dtype="float32")
        other = one.copy()
        change(pydl.asarray(one[1:], copy=False), pydl.asarray(one[:-1], copy=False))
        change(pydl.asarray(other[1:], copy=False), pydl.tensor(other[:-1].copy()))
        np.testing.assert_array_equal(one, other)


def test_a_running_sum_is_none() -> None:
    x = pydl.ones(5000)
    x[1:].add_(x[:-1])
    assert x[:3].tolist() == [1.0, 2.0, 2.0]
    x[:-1].add_(x[1:], alpha=2.0)
    assert x[:3].tolist() == [5.0, 6.0, 6.0]


def test_elements_that_share_a_place() -> None:
    numbers = np.zeros(6, dtype="float32")
    windows = pydl.asarray(np.lib.stride_tricks.sliding_window_view(numbers, 3, writeable=True), copy=False)
    windows.add_(1.0)
    windows.mul_(2.0)
    assert numbers.tolist() == [2.0] * 6
    x = pydl.ones(6)
    with pytest.raises(ValueError, match="broadcast"):
        pydl.broadcast_to(x, (2, 6)).add_(1.0)
    assert x.tolist() == [1.0] * 6


@given(st.lists(st.integers(1, 9), min_size=0, max_size=4), st.data())
def test_broadcast_operands(shape: list[int], data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    axes = data.draw(st.permutations(range(len(shape))))
    kept = [data.draw(st.sampled_from([1, n])) for n in shape][data.draw(st.integers(0, len(shape))) :]
    x = pydl.permute_dims(pydl.tensor(rng.standard_normal(shape).astype("float32")), axes)
    y = pydl.tensor(rng.standard_normal([kept[i - len(shape)] if i + len(kept) >= len(shape) else 1 for i in axes]))
    y = y.astype("float32")
    for form in ("multiply", "add scaled", "lerp by a tensor", "addcdiv"):
        method, function = FORMS[form]
        expected = function(x.clone(), y).numpy()
        np.testing.assert_array_equal(method(x, y).numpy(), expected)


@pytest.mark.parametrize("form", ["add", "subtract", "relu", "lerp", "addcmul", "add scaled"])
def test_any_number_of_threads_and_any_alignment(form: str, rng: np.random.Generator, threads: None) -> None:
    values, (method, function) = rng.standard_normal(300_011).astype("float32"), FORMS[form]
    expected = function(pydl.tensor(values), pydl.tensor(values[::-1].copy())).numpy()
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        for offset in (0, 1, 7, 16):
            around = pydl.zeros(300_011 + offset + 5)
            x = around[offset : offset + 300_011]
            x.copy_(pydl.tensor(values))
            np.testing.assert_array_equal(method(x, pydl.tensor(values[::-1].copy())).numpy(), expected)
            assert not around[:offset].any()
            assert not around[offset + 300_011 :].any()


OPERATORS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any], Any]] = {
    "+=": (operator.iadd, operator.add, 3), "-=": (operator.isub, operator.sub, 3),
    "*=": (operator.imul, operator.mul, 3), "//=": (operator.ifloordiv, operator.floordiv, 3),
    "%=": (operator.imod, operator.mod, 3), "**=": (operator.ipow, operator.pow, 3),
    "&=": (operator.iand, operator.and_, 6), "|=": (operator.ior, operator.or_, 6),
    "^=": (operator.ixor, operator.xor, 6), "<<=": (operator.ilshift, operator.lshift, 2),
    ">>=": (operator.irshift, operator.rshift, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8", "float32"])
def test_operators(name: str, dtype: str, rng: np.random.Generator) -> None:
    change, value, operand = OPERATORS[name]
    if dtype == "float32" and name in ("&=", "|=", "^=", "<<=", ">>="):
        with pytest.raises(TypeError, match="needs integers"):
            change(pydl.ones(3), pydl.ones(3))
        return
    numbers = rng.integers(1, 5, (6, 7)).astype(dtype)
    for other in (operand, numbers[0] % 3 + 1):
        x = pydl.tensor(numbers)
        view = x[1:]
        same = change(view, other if isinstance(other, int) else pydl.tensor(other))
        assert same is view
        expected = numbers.copy()
        expected[1:] = value(numbers[1:], other)
        np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize("name", ["abs", "negative", "sign", "square", "floor", "round", "relu", "clip"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_of_integers(name: str, dtype: str) -> None:
    numbers = np.array([[-7, 3, 0], [120, -1, 5]]).astype(dtype)
    x, bounds = pydl.tensor(numbers), (-2, 4) if name == "clip" else ()
    if dtype == "uint8" and name == "clip":
        bounds = (2, 4)
    expected = getattr(pydl, name)(x.clone(), *bounds).numpy()
    y = x[:, ::2]
    assert getattr(y, name + "_")(*bounds) is y
    np.testing.assert_array_equal(x.numpy()[:, ::2], expected[:, ::2])
    np.testing.assert_array_equal(x.numpy()[:, 1], numbers[:, 1])


def test_activations_in_place(rng: np.random.Generator) -> None:
    F, values = pydl.nn.functional, rng.standard_normal((9, 7)).astype("float32")
    cases: dict[str, tuple[Any, ...]] = {
        "relu": (), "elu": (0.7,), "celu": (1.3,), "selu": (), "hardtanh": (-0.3, 0.4), "leaky_relu": (0.2,),
        "rrelu": (), "threshold": (0.1, -5.0),
    }  # fmt: skip
    for name, arguments in cases.items():
        x = pydl.tensor(values)
        expected = getattr(F, name)(x.clone(), *arguments).numpy()
        assert getattr(F, name + "_")(x, *arguments) is x
        np.testing.assert_array_equal(x.numpy(), expected)
        leaf = pydl.tensor(values.astype("float64")).requires_grad_()
        assert pydl.autograd.gradcheck(lambda t: getattr(F, name + "_")(t * 1, *arguments), [leaf])  # noqa: B023
    x = pydl.tensor(values)
    with pytest.raises(ValueError, match="above max_val"):
        F.hardtanh_(x, 1.0, -1.0)
    with pytest.raises(ValueError, match="alpha = 0"):
        F.celu_(x, 0.0)
    np.testing.assert_array_equal(x.numpy(), values)


def test_scaled_sums_of_unsigned_integers() -> None:
    x, y = pydl.tensor(np.array([9, 5], "uint8")), pydl.tensor(np.array([1, 2], "uint8"))
    assert x.sub(y, alpha=2).tolist() == pydl.subtract(x, y, alpha=2).tolist() == [7, 1]
    assert x.sub_(y, alpha=2).tolist() == [7, 1]
    assert x.add_(y, alpha=3).tolist() == [10, 7]


def test_the_gradient_of_what_is_filled_in() -> None:
    x, w = pydl.ones((2, 3)).requires_grad_(), pydl.tensor(4.0).requires_grad_()
    (x * 2).masked_fill_(pydl.tensor([True, False, True]), w).sum().backward()
    assert w.grad == 4.0
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 2.0, 0.0]] * 2


def test_a_result_that_does_not_fit() -> None:
    whole, row = pydl.tensor([7, 8, 9]), pydl.ones((2, 3), dtype=pydl.int64)
    changes: list[Callable[[], Any]] = [
        lambda: whole.mul_(1.5), lambda: whole.add_(pydl.ones(3)), lambda: whole.div_(2),
        lambda: whole.lerp_(row[0], 0.5),
        lambda: operator.itruediv(whole, 2), lambda: operator.ipow(whole, 0.5), lambda: operator.ifloordiv(whole, 2.0),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(TypeError, match="can't be kept in int64"):
            change()
    larger: list[Callable[[], Any]] = [
        lambda: whole.add_(row), lambda: operator.imul(whole, row), lambda: operator.ior(whole, row),
        lambda: whole.astype("float32").addcmul_(row, row), lambda: whole.astype("float32").add_(row, alpha=2.0),
    ]  # fmt: skip
    for change in larger:
        with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
            change()
    with pytest.raises(ValueError, match="negative power"):
        whole.pow_(-1)
    assert whole.tolist() == [7, 8, 9]
    for wrong in ("two", None):
        with pytest.raises(TypeError):
            whole.clip_(wrong if wrong else (), None)
    x = pydl.ones(3)
    x += pydl.full((3,), 0.1, dtype=pydl.float64)  # converted, as it was
    assert x.dtype == pydl.float32
    np.testing.assert_array_equal(x.numpy(), (np.ones(3) + 0.1).astype("float32"))


def test_memory_that_may_not_be_written() -> None:
    numbers = np.arange(4, dtype="float32")
    numbers.flags.writeable = False
    x = pydl.asarray(numbers)
    for change in (lambda: x.mul_(2), lambda: x.exp_(), lambda: x.lerp_(x, 0.5), lambda: operator.ipow(x, 2)):
        with pytest.raises(ValueError, match="read-only"):
            change()
    assert numbers.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("form", ["add scaled", "multiply", "exp", "clamp", "square", "lerp", "addcmul", "addcdiv"])
def test_what_is_recorded(form: str, rng: np.random.Generator) -> None:
    method, function = FORMS[form]
    values = [rng.standard_normal((5, 4)) for _ in range(2)]
    gradients = []
    for op in (method, function):
        x, y = (pydl.tensor(v).requires_grad_() for v in values)
        (op(x * 2, y) ** 2).sum().backward()
        gradients.append([t.grad.numpy() if t.grad is not None else None for t in (x, y)])
    for ours, expected in zip(*gradients, strict=True):
        np.testing.assert_array_equal(ours, expected)
    x, y = pydl.tensor(values[0]), pydl.tensor(values[1]).requires_grad_()
    if form in ("multiply", "lerp", "addcmul", "addcdiv", "add scaled"):
        assert method(x, y).requires_grad  # by what is read alone
    leaf = pydl.tensor(values[0]).requires_grad_()
    with pytest.raises(pydl.AutogradError, match="leaf"):
        method(leaf, y)
    np.testing.assert_array_equal(leaf.detach().numpy(), values[0])
    with pydl.no_grad():
        np.testing.assert_array_equal(method(leaf, y).detach().numpy(), function(pydl.tensor(values[0]), y).numpy())
    assert leaf.requires_grad


@pytest.mark.parametrize("form", ["add scaled", "multiply", "relu", "square", "lerp", "addcmul"])
def test_a_change_of_what_backward_needs(form: str) -> None:
    x = pydl.ones(3, dtype=pydl.float64).requires_grad_()
    y = x.exp()
    with pydl.no_grad():
        FORMS[form][0](y.detach(), pydl.ones(3, dtype=pydl.float64) * 2)
    with pytest.raises(pydl.AutogradError, match="in place"):
        y.sum().backward()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bfloat16"])
def test_functions_of_three(dtype: str, rng: np.random.Generator) -> None:
    x, a, b = (pydl.tensor(rng.integers(1, 9, shape)).astype(dtype) for shape in ((5, 1, 40), (3, 40), (3, 1)))
    for recorded in (False, True):
        if recorded and dtype != "int64":
            x.requires_grad_()
        pairs = [
            (pydl.addcmul(x, a, b, value=3), x + a * b * 3), (pydl.addcdiv(x, a, b, value=-2), x + a / b * -2),
            (pydl.lerp(x, a, 0.25), x + 0.25 * (a - x)), (pydl.lerp(x, a, b), x + b * (a - x)),
            (pydl.add(x, a, alpha=2), x + a * 2), (x.subtract(a, alpha=2), x - a * 2), (x.add(2, alpha=3), x + 6),
        ]  # fmt: skip
        for ours, expected in pairs:
            assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
            assert ours.requires_grad is (recorded and dtype != "int64")
            np.testing.assert_array_equal(bits(ours), bits(expected))
