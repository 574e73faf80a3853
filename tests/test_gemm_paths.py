"""Each way of the matrix product (tiles, dots, streams, few columns) against float64, at sizes that lie oddly."""

from __future__ import annotations

import numpy as np
import pytest

import pydl

SHAPES = [
    (1, 700, 67),
    (1, 33, 2000),
    (2, 1500, 129),
    (3, 515, 257),
    (4, 4099, 300),
    (5, 700, 67),
    (700, 1, 67),
    (1031, 2, 259),
    (600, 4, 300),
    (65, 65, 65),
    (300, 515, 517),
    (250, 60, 301),
    (1031, 215, 250),
    (520, 100, 900),
    (60, 31, 900),
    (29, 256, 1200),
    (100, 300, 700),
    (70, 1030, 40),
    (461, 555, 343),
    (523, 1037, 400),
    (1024, 523, 30),
    (43, 1111, 500),
    (48, 777, 400),
    (64, 300, 1024),
    (112, 205, 700),
    (30, 130, 2048),
    (333, 67, 500),
    (6, 70, 131),
    (13, 301, 515),
    (31, 67, 700),
    (300, 517, 1),
    (301, 700, 2),
    (130, 65, 3),
    (77, 31, 4),
    (5, 40, 4),
    (1, 5, 3001),
    (3, 8, 1000),
    (4, 2, 777),
    (7, 1, 300),
    (8, 2, 129),
    (9001, 1, 4),
    (9001, 3, 5),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_threads(shape: tuple[int, int, int], turned: tuple[bool, bool], dtype: str, threads: None) -> None:
    m, n, k = shape
    rng = np.random.default_rng(m + n + k)
    a = rng.standard_normal((k, m)).T if turned[0] else rng.standard_normal((m, k))
    b = rng.standard_normal((n, k)).T if turned[1] else rng.standard_normal((k, n))
    x, y = pydl.asarray(a).astype(getattr(pydl, dtype)), pydl.asarray(b).astype(getattr(pydl, dtype))
    if turned[0]:
        x = pydl.asarray(np.asarray(x).T.copy()).T
    if turned[1]:
        y = pydl.asarray(np.asarray(y).T.copy()).T
    expected = np.asarray(x, np.float64) @ np.asarray(y, np.float64)
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype] * np.sqrt(k) * 4
    results = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        results.append((x @ y).numpy())
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=tolerance)
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


@pytest.mark.parametrize("rows", [30, 48, 64, 96, 128])
@pytest.mark.parametrize("depth", [1000, 1024, 1300])
def test_a_transposed_operand_gives_the_same_bits(rows: int, depth: int) -> None:
    x, w, bias = pydl.randn(rows, depth), pydl.randn(331, depth), pydl.randn(331)
    y = x @ w.T.contiguous()
    assert (x @ w.T).numpy().tobytes() == y.numpy().tobytes()
    assert pydl.nn.functional.linear(x, w, bias).numpy().tobytes() == (y + bias).numpy().tobytes()


def test_few_rows_add_a_bias_that_lies_anywhere_in_a_long_row() -> None:
    x, w, bias = pydl.randn(2, 40), pydl.randn(40, 5000), pydl.randn(5000)
    y = pydl.nn.functional.linear(x, w.T.contiguous(), bias)
    np.testing.assert_allclose((x @ w + bias).numpy(), y.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [3, 8, 70])
def test_few_columns_add_a_bias(columns: int, depth: int) -> None:
    x, w, bias = pydl.randn(9001, depth), pydl.randn(columns, depth), pydl.randn(columns)
    y = pydl.nn.functional.linear(x, w, bias)
    exact = np.asarray(x, np.float64) @ np.asarray(w, np.float64).T + np.asarray(bias, np.float64)
    np.testing.assert_allclose(y.numpy(), exact, rtol=0, atol=2e-5)


def test_what_lies_beside_narrow_columns_is_left_alone() -> None:
    table = pydl.full((500, 9), float("nan"))
    table[:, 2:5] = pydl.ones(500, 3)
    np.testing.assert_array_equal((pydl.ones(2, 500) @ table[:, 2:5]).numpy(), np.full((2, 3), 500.0))


@pytest.mark.parametrize(
    "shape",
    [
        (1, 8300, 512, 21),
        (1, 8200, 528, 3),
        (3, 1500, 1008, 33),
        (2, 2100, 1030, 9),
        (430, 20, 512, 16),
        (300, 30, 512, 5),
    ],
    ids=str,
)
def test_results_larger_than_the_cache(shape: tuple[int, int, int, int], threads: None) -> None:
    batch, m, n, k = shape
    x, y = pydl.randn(batch, m, k), pydl.randn(batch, k, n)
    expected = np.asarray(x, np.float64) @ np.asarray(y, np.float64)
    results = []
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        results.append((x @ y).numpy())
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=1e-4)
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
    turned = pydl.einsum("bmk,bkn->bnm", x, y)
    np.testing.assert_allclose(turned.numpy(), expected.transpose(0, 2, 1), rtol=0, atol=1e-4)


def test_rows_that_repeat() -> None:
    row = pydl.randn(1, 30)
    x = row.expand(5000, 30).T
    for y in (pydl.randn(5000, 3), pydl.randn(5000, 50)):
        expected = np.asarray(row, np.float64).T * np.asarray(y, np.float64).sum(axis=0)
        np.testing.assert_allclose((x @ y).numpy(), expected, rtol=0, atol=2e-3)
        np.testing.assert_allclose((y.T @ x.T).numpy(), expected.T, rtol=0, atol=2e-3)
    few = pydl.randn(3, 1).expand(3, 9000)
    np.testing.assert_allclose(
        (few @ pydl.ones(9000, 40)).numpy(), np.repeat(few[:, :1].numpy(), 40, 1) * 9000, rtol=1e-4
    )


@pytest.mark.parametrize("rows", [1, 2, 4, 9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_vector_whose_elements_lie_apart(rows: int, dtype: str) -> None:
    rng = np.random.default_rng(rows)
    a, b, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((rows, 301), (301, 3), (1,)))
    expected = a.astype(np.longdouble) @ b[:, 1:2] + bias
    y = pydl.nn.functional.linear(pydl.tensor(a), pydl.tensor(b)[:, 1:2].T, pydl.tensor(bias))
    np.testing.assert_allclose(y.numpy(), expected.astype(dtype), rtol=1e-5 if dtype == "float32" else 1e-13)
    product = pydl.tensor(a) @ pydl.tensor(b)[:, 1:2]
    np.testing.assert_allclose(
        product.numpy() + bias, expected.astype(dtype), atol=1e-5 if dtype == "float32" else 1e-13
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-14), ("bfloat16", 0), ("float16", 0)]
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 40, 33), (3, 700, 65), (65, 66, 130), (300, 17, 257), (4, 6, 0)])
def test_a_scaled_product_added_to_a_matrix(shape: tuple[int, int, int], dtype: str, tolerance: float) -> None:
    """beta * x + alpha * (a @ b) is rounded once: half a last place of 16-bit results, and the sums' error."""
    m, n, k = shape
    kind = getattr(pydl, dtype)
    a, b, x = pydl.randn(m, k).to(kind), pydl.randn(k, n).to(kind), pydl.randn(m, n).to(kind)
    wide = [np.asarray(t.to(pydl.float64)) for t in (a, b, x)]
    for ours, theirs in ((x, wide[2]), (x[0], wide[2][0])):
        for beta, alpha in ((1.0, 1.0), (0.5, -2.0), (0.0, 3.0), (-4.775, 2.0315)):
            expected = beta * theirs + alpha * (wide[0] @ wide[1])
            scale = np.abs(beta * theirs) + np.abs(alpha) * (np.abs(wide[0]) @ np.abs(wide[1]))
            bound = scale * (tolerance or 1e-6)
            if tolerance == 0:
                bound = bound + np.abs(expected) * (2.0**-8 if dtype == "bfloat16" else 2.0**-11) + 1e-7
            for left in (a, a.T.contiguous().T):
                for right in (b, b.T.contiguous().T):
                    got = pydl.addmm(ours, left, right, beta=beta, alpha=alpha)
                    assert got.dtype == kind
                    assert np.all(np.abs(np.asarray(got.to(pydl.float64)) - expected) <= bound)
    nothing = pydl.full((m, n), float("nan"), dtype=kind)
    assert not pydl.isnan(pydl.addmm(nothing, a, b, beta=0)).any()


def test_a_scaled_product_added_to_more_than_a_matrix() -> None:
    for kind in (pydl.float32, pydl.float16, pydl.bfloat16):
        a, b = pydl.ones((3, 4)).to(kind), pydl.ones((4, 5)).to(kind)
        y = pydl.addmm(pydl.ones((2, 3, 5)).to(kind), a, b)
        assert y.shape == (2, 3, 5)
        assert (y == 5).all()


def test_a_factor_of_the_sum_may_be_a_tensor() -> None:
    x, a, b = pydl.ones((2, 2)), pydl.ones((2, 3)), pydl.ones((3, 2))
    beta, alpha = (pydl.asarray(v).requires_grad_() for v in (2.0, 3.0))
    pydl.addmm(x, a, b, beta=beta, alpha=alpha).sum().backward()
    assert (beta.grad.item(), alpha.grad.item()) == (4.0, 12.0)
