"""Kernels of the CUDA module against the CPU's: the same op on the same numbers, values and gradients.

Ops that op_cases.py and the layers' tests run on every device are not repeated; here are the shapes at which a kernel
changes its way of working, empty ones, NaN and infinities, and what must be the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import pydl
import pydl.nn.functional as F
from pydl import Tensor, optim

pytestmark = pytest.mark.skipif(not pydl.cuda.is_available(), reason="no CUDA device")

TOLERANCE = {"float32": 3e-5, "float64": 2e-13}
FLOATS = ("float32", "float64")


def tree(value: Any) -> list[Any]:
    return [part for item in value for part in tree(item)] if isinstance(value, (tuple, list)) else [value]


def run(device: str, function: Callable[..., Any], arrays: Sequence[Any], gradients: bool) -> list[np.ndarray]:
    """The results of function(*tensors), then the gradients of the floating operands, on the host."""
    pydl.manual_seed(11)
    tensors = [pydl.tensor(a).to(device) if isinstance(a, np.ndarray) else a for a in arrays]
    leaves = [t.requires_grad_() for t in tensors if gradients and isinstance(t, Tensor) and t.dtype.is_floating_point]
    outputs = tree(function(*tensors))
    for y in outputs:
        assert y.device.type == device
    results = [y.detach().cpu().numpy() for y in outputs]
    if leaves:
        upstream = np.random.default_rng(5)
        loss = sum(
            (y * pydl.tensor(upstream.normal(size=y.shape).astype(y.detach().cpu().numpy().dtype)).to(device)).sum()
            for y in outputs
            if y.requires_grad
        )
        loss.backward()
        results += [np.zeros(0) if t.grad is None else t.grad.cpu().numpy() for t in leaves]
    return results


def check(function: Callable[..., Any], *arrays: Any, gradients: bool = True, exact: bool = False) -> None:
    expected = run("cpu", function, arrays, gradients)
    got = run("cuda", function, arrays, gradients)
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == e.dtype
        assert g.shape == e.shape
        if exact or e.dtype.kind != "f":
            np.testing.assert_array_equal(g, e)
        else:
            tolerance = TOLERANCE.get(e.dtype.name, 0.01)
            finite = np.abs(e[np.isfinite(e)])
            scale = float(finite.max()) if finite.size else 1.0
            np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance * min(max(scale, 0.05), 1e3))


@pytest.fixture(params=FLOATS)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def normal(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


# --- element by element, in one pass


def test_over_an_operand_and_of_three(dtype: str, rng: np.random.Generator) -> None:
    def one_pass(x: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        changed = [x.clone() for _ in range(6)]
        changed[0].mul_(a).exp_().clamp_(0.5, 2)
        changed[1].add_(a, alpha=-2)
        changed[2].addcmul_(a, b, value=0.5)
        changed[3].T.addcdiv_(a.T, b.T)
        changed[4].lerp_(a, 0.25)
        changed[5].index_put_((pydl.tensor([1, 0, 1]),), b[:1], accumulate=True)
        return [*changed, pydl.addcmul(x, a, b), pydl.addcdiv(x, a, b, value=3), pydl.lerp(x, a, b)]

    for rows, columns in ((2, 3), (5, 1031)):
        b = np.abs(normal(rng, dtype, rows, columns)) + 1
        check(one_pass, normal(rng, dtype, rows, columns), normal(rng, dtype, 1, columns), b, gradients=False)


# --- reductions

AXES = [((1,), 0), ((0, 3), 0), ((0, 3), 1), ((5,), 0), ((33,), 0), ((1000,), 0), ((4099,), 0), ((40_001,), 0),
        ((300, 3), 0), ((3, 300), 1), ((3000, 2), 0), ((17, 40), 0), ((2, 300, 35), 1), ((513, 5, 4), 1),
        ((600, 31), 1)]  # fmt: skip
SUMS = ("sum", "mean", "prod", "max", "min", "var", "logsumexp", "argmax", "argmin", "any", "all", "count_nonzero")


@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
@pytest.mark.parametrize("name", SUMS)
def test_reductions(name: str, shape: tuple[int, ...], axis: int, dtype: str, rng: np.random.Generator) -> None:
    if shape[axis] == 0 and name not in ("sum", "prod", "any", "all", "count_nonzero"):
        pytest.skip("has no value")
    x = normal(rng, dtype, *shape)
    if name == "prod":
        x = 1 + x / 100
    check(lambda t: getattr(pydl, name)(t, axis=axis), x, gradients=name in ("sum", "mean", "max", "var", "logsumexp"))


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "argmax", "argmin", "any", "all"])
@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_reductions_of_integers(name: str, kind: str, rng: np.random.Generator) -> None:
    x = rng.integers(0, 2 if kind == "bool" else 120, size=(7, 65, 3)).astype(kind)
    if kind.startswith("int"):
        x = x - x.dtype.type(60)
    for axis in (0, 1, 2):
        if kind == "bool" and name in ("max", "min"):
            continue
        check(lambda t, axis=axis: getattr(pydl, name)(t, axis=axis), x, gradients=False)


@pytest.mark.parametrize("name", ["sum", "max", "min", "argmax", "argmin", "logsumexp", "any", "all"])
def test_reductions_with_nan_and_infinity(name: str, dtype: str) -> None:
    nan, inf = np.nan, np.inf
    rows = [[1, nan, 3], [nan, nan, 1], [inf, 1, 2], [-inf, -inf, -inf], [inf, -inf, 0], [-0.0, 0.0, 0.0]]
    x = np.array(rows, dtype)
    check(lambda t: getattr(pydl, name)(t, axis=1), x, gradients=False)
    check(lambda t: getattr(pydl, name)(t, axis=0), np.ascontiguousarray(x.T), gradients=False)


# --- rows

ROWS = [((3, 0), 1), ((0, 4), 1), ((1, 1), 1), ((9, 5), 1), ((2, 1024), 1), ((3, 1025), 1), ((2, 3001), 1),
        ((4, 7, 3), 1), ((2, 50, 40), 1), ((600, 2), 0)]  # fmt: skip


@pytest.mark.parametrize(("shape", "axis"), ROWS, ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name: str, shape: tuple[int, ...], axis: int, dtype: str, rng: np.random.Generator) -> None:
    x = 30 * normal(rng, dtype, *shape)
    check(lambda t: getattr(F, name)(t, axis), x)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_nan_and_infinity(name: str, dtype: str) -> None:
    nan, inf = np.nan, np.inf
    rows = [[1, -inf, 3, 2], [-inf] * 4, [inf, 1, 2, 3], [inf, inf, 0, 1], [nan, 1, 2, 3], [1, 2, nan, inf]]
    for x in (np.array(rows, dtype), np.tile(np.array(rows, dtype), (1, 300))):
        check(lambda t: getattr(F, name)(t, 1), x, gradients=False)
        check(lambda t: getattr(F, name)(t, 0), np.ascontiguousarray(x.T), gradients=False)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(5, 3), (300, 10), (3, 1500), (2, 5, 9)], ids=str)
def test_cross_entropy(
    shape: tuple[int, ...], smoothing: float, reduction: str, dtype: str, rng: np.random.Generator
) -> None:
    x = 5 * normal(rng, dtype, *shape)
    target = rng.integers(0, shape[1], size=(shape[0], *shape[2:]))
    target[0] = 1
    target[-1] = -100
    weight = rng.uniform(0.5, 2, size=shape[1]).astype(dtype)
    q = np.abs(normal(rng, dtype, *shape))
    how = {"reduction": reduction, "label_smoothing": smoothing}
    check(lambda x, t: F.cross_entropy(x, t, **how), x, target)
    check(lambda x, t, w: F.cross_entropy(x, t, w.detach(), **how), x, target, weight)
    check(lambda x, q, w: F.cross_entropy(x, q, w.detach(), **how), x, q, weight)
    check(lambda x, t: F.cross_entropy(x, t, **how), x, np.full_like(target, -100))


def test_a_target_out_of_range_is_named(rng: np.random.Generator) -> None:
    x, target = pydl.tensor(normal(rng, "float32", 6, 3)).to("cuda"), pydl.tensor([0, 1, 2, 7, 9, 0]).to("cuda")
    with pytest.raises(IndexError, match="target 7 at position 3"):
        F.cross_entropy(x, target)
    with pytest.raises(IndexError, match="target 7 at position 3"):
        F.nll_loss(x, target)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(5, 3), (700, 10), (2, 5, 9)], ids=str)
def test_nll_loss(shape: tuple[int, ...], reduction: str, dtype: str, rng: np.random.Generator) -> None:
    x = normal(rng, dtype, *shape)
    target = rng.integers(0, shape[1], size=(shape[0], *shape[2:]))
    target[-1] = 2
    weight = rng.uniform(0.5, 2, size=shape[1]).astype(dtype)
    check(lambda x, t, w: F.nll_loss(x, t, w.detach(), ignore_index=2, reduction=reduction), x, target, weight)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "huber": lambda x, t, **k: F.huber_loss(x, t, delta=0.7, **k),
    "smooth_l1": lambda x, t, **k: F.smooth_l1_loss(x, t, beta=0.3, **k),
    "bce": lambda x, t, **k: F.binary_cross_entropy(pydl.sigmoid(x), pydl.sigmoid(t), **k),
    "logits": F.binary_cross_entropy_with_logits,
    "kl": lambda x, t, **k: F.kl_div(x, pydl.abs(t), **k),
    "kl_log": lambda x, t, **k: F.kl_div(x, t, log_target=True, **k),
    "poisson": F.poisson_nll_loss,
    "poisson_rate": lambda x, t, **k: F.poisson_nll_loss(pydl.abs(x), t, log_input=False, **k),
    "soft_margin": F.soft_margin_loss,
    "hinge": lambda x, t, **k: F.hinge_embedding_loss(x, pydl.sign(t).detach(), **k),
}


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, reduction: str, dtype: str, rng: np.random.Generator) -> None:
    for shape in ((), (1,), (7, 5), (9001,)):
        x, t = normal(rng, dtype, *shape), normal(rng, dtype, *shape)
        check(lambda x, t: LOSSES[name](x, t, reduction=reduction), x, t)


def test_losses_with_weights(dtype: str, rng: np.random.Generator) -> None:
    x, t, w = normal(rng, dtype, 7, 5), np.abs(normal(rng, dtype, 7, 5)), np.abs(normal(rng, dtype, 7, 5))
    check(
        lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, weight=w.detach(), pos_weight=w.detach() + 1),
        x, t, w,
    )  # fmt: skip


# --- random numbers: the same Philox words, so the same numbers, up to the rounding of elementary functions


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 1023, 4099])
def test_random_numbers_are_the_cpu_s(count: int, dtype: str) -> None:
    how = {"dtype": getattr(pydl, dtype)}

    def draws(x: Tensor) -> list[Tensor]:
        of = {**how, "device": x.device}
        return [pydl.rand((count,), **of), pydl.randn((count,), **of), pydl.rand((3, count), **of)]

    got, expected = (run(d, draws, [np.zeros(1, dtype)], False) for d in ("cuda", "cpu"))
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[2], expected[2])
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-5, atol=3e-6)
    check(lambda x: pydl.randint(-5, 1000, (count,), device=x.device), np.zeros(1), gradients=False, exact=True)


@pytest.mark.parametrize("count", [1, 2, 10, 1000, 3001])
def test_a_permutation_is_the_cpu_s(count: int) -> None:
    check(lambda x: pydl.randperm(count, device=x.device), np.zeros(1), gradients=False, exact=True)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.999, 1.0])
def test_a_dropout_mask_is_the_cpu_s(p: float, dtype: str, rng: np.random.Generator) -> None:
    for count in (0, 1, 3, 4, 1001):
        x = normal(rng, dtype, count)
        x[:1] = np.nan
        check(lambda t: F.dropout(t, p), x, exact=True)
        check(lambda t: pydl.bernoulli(pydl.sigmoid(t)), normal(rng, dtype, count), gradients=False)


@pytest.mark.parametrize(("n", "samples"), [(1, 1), (5, 3), (300, 20), (1500, 400), (2000, 700)])
def test_categories_are_the_cpu_s(n: int, samples: int, dtype: str, rng: np.random.Generator) -> None:
    p = rng.uniform(size=(3, n)).astype(dtype)
    p[:, ::4] = 0 if n >= 3 * samples else 1
    check(lambda t: pydl.multinomial(t, samples), p, gradients=False)
    check(lambda t: pydl.multinomial(t, 50, replacement=True), p, gradients=False)


def test_a_row_without_probabilities_is_named() -> None:
    p = pydl.tensor([[0.5, 0.5], [0.0, 0.0], [-1.0, 2.0]]).to("cuda")
    with pytest.raises(ValueError, match="from row 1"):
        pydl.multinomial(p, 1)


# --- index, sort, scan


@pytest.mark.parametrize("count", [0, 1, 7, 100, 2500])
def test_embedding(count: int, dtype: str, rng: np.random.Generator) -> None:
    for rows, width in ((9, 5), (40, 64), (1, 3)):
        table, index = normal(rng, dtype, rows, width), rng.integers(0, rows, size=count)
        check(lambda t, i: F.embedding(i, t), table, index)
        check(lambda t, i: F.embedding(i, t, padding_idx=0), table, index)


def test_an_index_out_of_range_is_named() -> None:
    table, index = pydl.ones((4, 3), device="cuda"), pydl.tensor([0, 3, 4, -1]).to("cuda")
    with pytest.raises(IndexError, match="index 4 at position 2"):
        F.embedding(index, table)
    with pytest.raises(IndexError, match="index 4 is out of range"):
        pydl.take(table, index, axis=0)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "int8", "int32", "int64", "bool"])
def test_places_along_an_axis(kind: str, rng: np.random.Generator) -> None:
    adds = kind != "bool"

    def places(x: Tensor, src: Tensor, index: Tensor) -> list[Tensor]:
        x, src = x.astype(getattr(pydl, kind)), src.astype(getattr(pydl, kind))
        results = [pydl.gather(x, 1, index), pydl.scatter(x, 1, index, src), x[index[:, 0]]]
        if adds:
            results += [
                pydl.scatter_add(x, 1, index, src),
                pydl.index_add(x, 0, index[:, 0, 0] % 3, src[:, : x.shape[1]]),
            ]
        return [r.astype(pydl.float64) if r.dtype.is_floating_point else r for r in results]

    for m, n, inner in ((4, 130, 1), (3, 6, 5), (3, 3000, 1)):
        if kind == "bfloat16" and n > 1000:  # the CPU rounds each sum, and then stops at 256
            continue
        x, src = rng.integers(-9, 9, size=(3, m, inner)), rng.integers(0, 2, size=(3, n, inner))
        index = rng.integers(0, 3 if n != 6 else m, size=(3, n, inner))
        check(places, x, src, index, gradients=False, exact=True)


def test_gradients_of_indexing(dtype: str, rng: np.random.Generator) -> None:
    x, index = normal(rng, dtype, 6, 5), rng.integers(0, 5, size=(6, 90))
    check(lambda x, i: pydl.gather(x, 1, i), x, index)
    check(lambda x, i: x[i[0] % 6, i[1] % 5], x, index)
    check(lambda x, i: x[:, i[0]], x, index)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "int16", "int32", "int64", "uint32", "uint64", "float16",
                                  "bfloat16", "float32", "float64"])  # fmt: skip
@pytest.mark.parametrize(("shape", "axis"), [((0,), 0), ((1,), 0), ((50, 9), 1), ((9, 50), 0), ((3, 1024), 1),
                                             ((2, 2500), 1)], ids=str)  # fmt: skip
def test_sort(kind: str, shape: tuple[int, ...], axis: int, rng: np.random.Generator) -> None:
    x = rng.integers(-50, 50, size=shape).astype("float64")
    if "float" in kind and x.size > 3:
        x.flat[rng.integers(0, x.size, size=3)] = [np.nan, np.inf, -0.0]

    def sorts(x: Tensor) -> list[Tensor]:
        x = (x if "float" in kind else x.astype(pydl.int64)).astype(getattr(pydl, kind if kind != "bool" else "bool_"))
        size = x.shape[axis]
        results = [*pydl.sort(x, axis=axis), *pydl.sort(x, axis=axis, descending=True)]
        for k in {min(3, size), size // 2, size}:
            if k > 0:
                results += [*pydl.topk(x, k, axis=axis), *pydl.topk(x, k, axis=axis, largest=False)]
        return [r.astype(pydl.float64) if r.dtype.is_floating_point else r for r in results]

    check(sorts, x, gradients=False, exact=True)


@pytest.mark.parametrize(("shape", "axis"), [((0,), 0), ((1,), 0), ((5,), 0), ((2047,), 0), ((3, 2049), 1),
                                             ((70_000,), 0), ((2, 300, 7), 1), ((5, 9000), 0)], ids=str)  # fmt: skip
def test_running_sums(shape: tuple[int, ...], axis: int, dtype: str, rng: np.random.Generator) -> None:
    x = normal(rng, dtype, *shape)
    check(lambda t: pydl.cumulative_sum(t, axis=axis), x)
    check(lambda t: pydl.cumulative_prod(t, axis=axis), (1 + x / 1000).astype(dtype), gradients=False)
    for kind in ("int8", "int32", "int64", "uint8"):
        check(lambda t: pydl.cumulative_prod(t, axis=axis), (x * 4).astype(kind), gradients=False)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
@pytest.mark.parametrize(("shape", "axis"), [((0,), 0), ((5,), 0), ((3, 2049), 1), ((2, 300, 7), 1)], ids=str)
def test_running_extremes(name: str, shape: tuple[int, ...], axis: int, dtype: str, rng: np.random.Generator) -> None:
    function = getattr(pydl, name)
    x = normal(rng, dtype, *shape)
    check(lambda t: function(t, axis)[0], x)
    check(lambda t: list(function(t, axis)), np.round(x), gradients=False, exact=True)
    check(lambda t: list(function(t, axis)), (x * 4).astype("int32"), gradients=False, exact=True)


# --- normalization

IMAGES = [(4, 3, 1), (300, 6), (3, 8, 200), (2, 4, 7, 9), (500, 64)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_batch_norm(shape: tuple[int, ...], training: bool, dtype: str, rng: np.random.Generator) -> None:
    c = shape[1]
    x, weight, bias = 3 + normal(rng, dtype, *shape), normal(rng, dtype, c), normal(rng, dtype, c)
    mean, var = normal(rng, dtype, c), np.abs(normal(rng, dtype, c)) + dtype_one(dtype)

    def norm(x: Tensor, w: Tensor, b: Tensor, m: Tensor, v: Tensor) -> list[Tensor]:
        m, v = m.detach().clone(), v.detach().clone()
        y = F.batch_norm(x, m, v, w, b, training=training, momentum=0.3)
        return [y, m, v, F.relu(F.batch_norm(x, m, v, None, None, training=training))]

    check(norm, x, weight, bias, mean, var)
    if len(shape) == 4:
        check(lambda x, *rest: norm(x.to(memory_format="channels_last"), *rest), x, weight, bias, mean, var)


def dtype_one(dtype: str) -> Any:
    return np.dtype(dtype).type(1)


@pytest.mark.parametrize("shape", [(0, 5), (3, 1), (6, 7), (500, 40), (4, 1024), (3, 1500)], ids=str)
def test_layer_norm(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> None:
    x, w, b = 3 + normal(rng, dtype, *shape), normal(rng, dtype, shape[1]), normal(rng, dtype, shape[1])
    check(lambda x, w, b: F.layer_norm(x, (shape[1],), w, b), x, w, b)
    check(lambda x: F.layer_norm(x, (shape[1],)), x)
    check(lambda x, w: F.rms_norm(x, (shape[1],), w), x, w)


@pytest.mark.parametrize("shape", [(3, 6), (2, 6, 5), (2, 6, 300), (3, 12, 4, 9)], ids=str)
def test_group_norm(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> None:
    x, w, b = 3 + normal(rng, dtype, *shape), normal(rng, dtype, shape[1]), normal(rng, dtype, shape[1])
    for groups in (1, 3) if len(shape) == 2 else (1, 3, 6):
        check(lambda x, w, b, g=groups: F.group_norm(x, g, w, b), x, w, b)
        check(lambda x, g=groups: F.group_norm(x, g), x)
    if len(shape) == 4:
        check(lambda x, w, b: F.group_norm(x.to(memory_format="channels_last"), 3, w, b), x, w, b)


# --- images


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_pooling(channels: int, dtype: str, rng: np.random.Generator) -> None:
    x = normal(rng, dtype, 2, channels, 9, 11)
    check(lambda x: F.max_pool2d(x, 2), x)
    check(lambda x: F.max_pool2d(x, 3, 2, 1), x)
    check(lambda x: F.max_pool2d(x, (2, 3), 1, 0, (2, 3)), x)
    check(lambda x: F.max_pool2d_with_indices(x, 3, 2, 1), x)
    check(lambda x: F.avg_pool2d(x, 3, 2, 1), x)
    check(lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x)
    check(lambda x: F.avg_pool2d(x, 2, divisor_override=3), x)
    check(lambda x: F.adaptive_avg_pool2d(x, (4, 5)), x)
    check(lambda x: F.adaptive_max_pool2d(x, (4, 5)), x)
    check(lambda x: F.max_pool2d(x[:0], 2), x, gradients=False)
    cube = normal(rng, dtype, 2, channels, 4, 5, 6)
    cube[0, 0, 1, 2, 3] = np.nan
    check(lambda x: F.max_pool3d(x, 2, 1), cube)
    check(lambda x: F.max_pool1d(x[:, :, 0], 9), x)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_interpolation(mode: str, dtype: str, rng: np.random.Generator) -> None:
    x = normal(rng, dtype, 2, 3, 5, 6)
    for size in ((9, 4), (5, 6), (1, 13)):
        check(lambda x, size=size: F.interpolate(x, size, mode=mode), x)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders(mode: str, dtype: str, rng: np.random.Generator) -> None:
    x = normal(rng, dtype, 2, 3, 5, 6)
    check(lambda x: F.pad(x, (1, 2, 3, 1), mode=mode), x)
    check(lambda x: F.pad(x[:, :, 0], (4, 0), mode=mode), x)


# --- sequences


def test_ctc_loss(dtype: str, rng: np.random.Generator) -> None:
    x = normal(rng, dtype, 12, 4, 5)
    targets = np.array([[1, 2, 2, 3], [1, 1, 1, 4], [4, 3, 2, 1], [3, 3, 3, 3]])
    inputs, lengths = np.array([12, 12, 7, 3]), np.array([4, 3, 0, 4])

    def loss(x: Tensor, t: Tensor, i: Tensor, n: Tensor) -> list[Tensor]:
        return [F.ctc_loss(F.log_softmax(x, 2), t, i, n, reduction="none", zero_infinity=z) for z in (True, False)][:1]

    check(loss, x, targets, inputs, lengths)
    check(
        lambda x, t, i, n: F.ctc_loss(F.log_softmax(x, 2), t, i, n, blank=4, reduction="sum"),
        x, targets[:, :], np.array([12, 12, 12, 12]), np.array([4, 2, 2, 3]),
    )  # fmt: skip


# --- optimizers and other lists of tensors

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, 0.1, weight_decay=0.01),
    "amsgrad": lambda p: optim.Adam(p, 0.1, amsgrad=True, maximize=True),
    "adamw": lambda p: optim.AdamW(p, 0.1),
    "nadam": lambda p: optim.NAdam(p, 0.1),
    "radam": lambda p: optim.RAdam(p, 0.1),
    "adamax": lambda p: optim.Adamax(p, 0.1),
    "adagrad": lambda p: optim.Adagrad(p, 0.1),
    "adadelta": lambda p: optim.Adadelta(p, 1.0),
    "rmsprop": lambda p: optim.RMSprop(p, 0.1, momentum=0.9),
    "centered": lambda p: optim.RMSprop(p, 0.1, centered=True),
    "rprop": lambda p: optim.Rprop(p, 0.1),
    "asgd": lambda p: optim.ASGD(p, 0.1),
    "adafactor": lambda p: optim.Adafactor(p, 0.1),
}
SHAPES = [(3,), (64, 65), (1,), (0,), (5000,), (2, 3, 4), *[(2,)] * 60]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, dtype: str, rng: np.random.Generator) -> None:
    starts = [normal(rng, dtype, *s) for s in SHAPES]
    gradients = [[normal(rng, dtype, *s) for s in SHAPES] for _ in range(6)]

    def train(*params: Tensor) -> list[Tensor]:
        params_ = [pydl.nn.Parameter(p.clone()) for p in params]
        optimizer = OPTIMIZERS[name](params_)
        for step in gradients:
            for p, g in zip(params_, step, strict=True):
                p.grad = pydl.tensor(g).to(p.device)
            optimizer.step()
        return [p.detach() for p in params_]

    check(train, *starts, gradients=False)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, float("inf")])
def test_clipping_of_gradients(order: float, dtype: str, rng: np.random.Generator) -> None:
    gradients = [normal(rng, dtype, *s) for s in SHAPES]

    def clipped(*tensors: Tensor) -> list[Tensor]:
        params = [pydl.nn.Parameter(t.clone()) for t in tensors]
        for p, t in zip(params, tensors, strict=True):
            p.grad = t.clone()
        pydl.nn.utils.clip_grad_norm_(params, 2.0, order)
        results = [p.grad.clone() for p in params]
        pydl.nn.utils.clip_grad_value_(params, 0.01)
        return results + [p.grad for p in params]

    check(clipped, *gradients, gradients=False)


def test_two_runs_have_the_same_bits(dtype: str, rng: np.random.Generator) -> None:
    x, table, index = normal(rng, dtype, 30, 700), normal(rng, dtype, 7, 40), rng.integers(0, 7, size=900)

    def results(x: Tensor, table: Tensor, index: Tensor) -> list[Tensor]:
        normed = F.batch_norm(x, None, None, training=True)
        return [pydl.sum(x), F.mse_loss(x, x * 2), normed, pydl.softmax(x, 0), F.embedding(index, table)]

    first, second = (run("cuda", results, (x, table, index), True) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
