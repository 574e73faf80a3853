"""Layers without recurrence: closed forms in NumPy, the wiring of each activation's arguments, and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn import functional as F
from tolerances import TORCH_ATOL, TORCH_RTOL, assert_near


def double(array: Any) -> Any:
    return pydl.asarray(np.asarray(array, np.float64))


def numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 0, 3), (2, 4, 3)])
def test_linear(shape: tuple[int, ...], bias: bool, rng: np.random.Generator) -> None:
    layer = nn.Linear(3, 4, bias=bias, dtype=pydl.float64)
    x = rng.normal(size=shape)
    expected = x @ numpy(layer.weight).T + (numpy(layer.bias) if bias else 0)
    assert_near(numpy(layer(double(x))), expected, 1e-14, 1e-14)


def test_linear_gradients(rng: np.random.Generator) -> None:
    layer = nn.Linear(3, 4, dtype=pydl.float64)
    x, upstream = rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    tensor = double(x).requires_grad_()
    (layer(tensor) * double(upstream)).sum().backward()
    assert_near(tensor.grad.numpy(), upstream @ numpy(layer.weight), 1e-14, 1e-14)
    assert_near(layer.weight.grad.numpy(), upstream.T @ x, 1e-14, 1e-14)
    assert_near(layer.bias.grad.numpy(), upstream.sum(0), 1e-14, 1e-14)


def test_linear_starts_uniform_in_its_bound() -> None:
    layer = nn.Linear(100, 200)
    for parameter in (layer.weight, layer.bias):
        values = numpy(parameter)
        assert np.abs(values).max() <= 0.1
        assert np.abs(values).max() > 0.09
        assert abs(values.mean()) < 5 * 0.1 / np.sqrt(3 * values.size)
    assert abs(numpy(layer.weight).var() / (0.01 / 3) - 1) < 0.03


def test_linear_errors() -> None:
    with pytest.raises(ValueError, match=r"\[linear\]"):
        nn.Linear(3, 4)(pydl.ones((2, 5)))
    with pytest.raises(ValueError, match=r"\[Linear\] got sizes -1 and 4"):
        nn.Linear(-1, 4)


def test_bilinear(rng: np.random.Generator) -> None:
    layer = nn.Bilinear(3, 4, 5, dtype=pydl.float64)
    a, b = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6, 4))
    expected = np.einsum("...i,kij,...j->...k", a, numpy(layer.weight), b) + numpy(layer.bias)
    assert_near(numpy(layer(double(a), double(b))), expected, 1e-13, 1e-13)
    with pytest.raises(ValueError, match=r"\[bilinear\]"):
        layer(double(a), double(a))


def test_flatten_and_unflatten(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4, 5))
    assert_near(numpy(nn.Flatten()(double(x))), x.reshape(2, 60), 0, 0)
    assert_near(numpy(nn.Flatten(0, 2)(double(x))), x.reshape(24, 5), 0, 0)
    assert_near(numpy(nn.Flatten(-3, -2)(double(x))), x.reshape(2, 12, 5), 0, 0)
    assert nn.Flatten(0)(pydl.zeros(())).shape == (1,)
    assert nn.Flatten()(pydl.zeros((0, 3, 2))).shape == (0, 6)
    assert_near(numpy(nn.Unflatten(2, (2, -1))(double(x))), x.reshape(2, 3, 2, 2, 5), 0, 0)
    with pytest.raises(IndexError, match=r"^\[flatten\].*\n  in Flatten"):
        nn.Flatten(5)(double(x))
    with pytest.raises(ValueError, match=r"^\[flatten\].*\n  in Flatten"):
        nn.Flatten(2, 1)(double(x))
    for sizes in ((3, 3), (-1, -1), (3, -1)):
        with pytest.raises(ValueError, match=r"^\[unflatten\] cannot split axis 2 of size 4"):
            nn.Unflatten(2, sizes)(double(x))


# name, module, its function, a closed form where op_cases.py has no row
ACTIVATIONS: list[tuple[nn.Module, Callable[..., Any]]] = [
    (nn.ReLU(), F.relu),
    (nn.ReLU(inplace=True), F.relu),
    (nn.ReLU6(), F.relu6),
    (nn.Sigmoid(), F.sigmoid),
    (nn.Tanh(), F.tanh),
    (nn.GELU(), F.gelu),
    (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    (nn.SiLU(), F.silu),
    (nn.Mish(), F.mish),
    (nn.Softplus(2.0, 1.0), lambda x: F.softplus(x, beta=2.0, threshold=1.0)),
    (nn.LeakyReLU(0.3), lambda x: F.leaky_relu(x, negative_slope=0.3)),
    (nn.ELU(0.7), lambda x: F.elu(x, alpha=0.7)),
    (nn.SELU(), F.selu),
    (nn.CELU(0.7), lambda x: F.celu(x, alpha=0.7)),
    (nn.Hardtanh(-0.5, 0.25), lambda x: F.hardtanh(x, min_val=-0.5, max_val=0.25)),
    (nn.Hardsigmoid(), F.hardsigmoid),
    (nn.Hardswish(), F.hardswish),
    (nn.Softsign(), F.softsign),
    (nn.LogSigmoid(), F.logsigmoid),
    (nn.Tanhshrink(), F.tanhshrink),
    (nn.Hardshrink(0.8), lambda x: F.hardshrink(x, lambd=0.8)),
    (nn.Softshrink(0.8), lambda x: F.softshrink(x, lambd=0.8)),
    (nn.Threshold(0.1, 7.0), lambda x: double(np.where(numpy(x) > 0.1, numpy(x), 7.0))),
    (nn.Softmax(dim=0), lambda x: F.softmax(x, axis=0)),
    (nn.Softmax(), lambda x: F.softmax(x, axis=1)),
    (nn.Softmin(dim=0), lambda x: F.softmax(-x, axis=0)),
    (nn.LogSoftmax(dim=-1), lambda x: F.log_softmax(x, axis=-1)),
    (nn.GLU(0), lambda x: double(numpy(x)[:2] / (1 + np.exp(-numpy(x)[2:])))),
    (nn.PReLU(dtype=pydl.float64), lambda x: double(np.where(numpy(x) > 0, numpy(x), 0.25 * numpy(x)))),
]


@pytest.mark.parametrize(("layer", "function"), ACTIVATIONS, ids=[repr(layer) for layer, _ in ACTIVATIONS])
def test_activation_is_its_function(layer: nn.Module, function: Callable[..., Any], rng: np.random.Generator) -> None:
    x = double(rng.normal(size=(4, 6)) * 2)
    before = x.numpy().copy()
    assert_near(numpy(layer(x)), numpy(function(x)), 1e-15, 1e-15)
    np.testing.assert_array_equal(x.numpy(), before)  # also with inplace=True
    assert not list(layer.parameters()) or isinstance(layer, nn.PReLU)


@pytest.mark.parametrize(("layer", "function"), ACTIVATIONS, ids=[repr(layer) for layer, _ in ACTIVATIONS])
def test_activation_is_pytorchs(layer: nn.Module, function: Callable[..., Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    extra = {"dim": layer.dim} if hasattr(layer, "dim") else {}
    names = ("approximate", "beta", "threshold", "negative_slope", "alpha", "min_val", "max_val", "lambd", "value")
    extra |= {name: getattr(layer, name) for name in names if hasattr(layer, name)}
    theirs = getattr(torch.nn, type(layer).__name__)(**extra).double()
    x, upstream = rng.normal(size=(4, 6)) * 2, None
    a, b = double(x).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
    if isinstance(layer, nn.Softmax) and layer.dim is None:
        pytest.skip("PyTorch warns")
    y, z = layer(a), theirs(b)
    rtol = 1e-7 if isinstance(layer, (nn.CELU, nn.Hardsigmoid)) else TORCH_RTOL  # whose constants are float32 there
    assert_near(numpy(y), z.detach().numpy(), rtol, TORCH_ATOL)
    upstream = rng.normal(size=y.shape)
    (y * double(upstream)).sum().backward()
    (z * torch.from_numpy(upstream)).sum().backward()
    assert_near(a.grad.numpy(), b.grad.numpy(), rtol, TORCH_ATOL)
    for p, q in zip(layer.parameters(), theirs.parameters(), strict=True):
        assert_near(p.grad.numpy(), q.grad.numpy(), TORCH_RTOL, TORCH_ATOL)
        p.grad = None


def test_prelu_per_channel(rng: np.random.Generator) -> None:
    x, slopes = rng.normal(size=(2, 3, 4)), rng.normal(size=3)
    a, w = double(x).requires_grad_(), double(slopes).requires_grad_()
    y = F.prelu(a, w)
    assert_near(numpy(y), np.where(x > 0, x, x * slopes[:, None]), 1e-15, 0)
    upstream = rng.normal(size=x.shape)
    (y * double(upstream)).sum().backward()
    assert_near(a.grad.numpy(), upstream * np.where(x > 0, 1, slopes[:, None]), 1e-14, 0)
    assert_near(w.grad.numpy(), (upstream * np.minimum(x, 0)).sum((0, 2)), 1e-13, 1e-14)
    with pytest.raises(ValueError, match=r"\[prelu\].*one for each channel"):
        F.prelu(a, double(np.ones(4)))
    assert F.prelu(double(-2.0), double([0.5])).shape == ()


def test_activation_errors() -> None:
    for wrong, error in (
        (lambda: nn.GELU("erf"), ValueError),
        (lambda: nn.Hardtanh(1.0, -1.0), ValueError),
        (lambda: F.celu(pydl.ones((1,)), 0.0), ValueError),
        (lambda: F.softshrink(pydl.ones((1,)), -1.0), ValueError),
        (lambda: F.glu(pydl.ones((3,))), ValueError),
        (lambda: F.glu(pydl.ones((4,)), 1), IndexError),
    ):
        with pytest.raises(error, match=r"\["):
            wrong()


def test_dropout_zeroes_scales_and_rests() -> None:
    pydl.manual_seed(3)
    layer = nn.Dropout(0.25)
    x = pydl.ones((100, 200)).requires_grad_()
    y = layer(x)
    values = numpy(y)
    assert set(np.unique(values)) == {0.0, np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / values.size)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values)
    assert not np.array_equal(numpy(layer(x)), values)
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    np.testing.assert_array_equal(numpy(nn.Dropout(1.0)(x)), np.zeros((100, 200)))
    for p in (-0.1, 1.1, float("nan"), True):
        with pytest.raises(ValueError, match=r"\[Dropout\]"):
            nn.Dropout(p)
    with pytest.raises(ValueError, match=r"\[dropout\]"):
        F.dropout(x, 2.0)


def test_embedding_is_one_hot_times_table(rng: np.random.Generator) -> None:
    layer = nn.Embedding(7, 3, dtype=pydl.float64)
    ids = rng.integers(0, 7, size=(4, 5))
    one_hot = np.eye(7)[ids]
    assert F.one_hot(pydl.asarray(ids), 7).numpy().tolist() == one_hot.astype(int).tolist()
    y = layer(pydl.asarray(ids))
    assert_near(numpy(y), one_hot @ numpy(layer.weight), 0, 0)
    upstream = rng.normal(size=(4, 5, 3))
    (y * double(upstream)).sum().backward()
    assert_near(layer.weight.grad.numpy(), np.einsum("bti,btj->ij", one_hot, upstream), 1e-13, 1e-14)


def test_embedding_padding_row() -> None:
    for given in (2, -3):
        layer = nn.Embedding(5, 4, padding_idx=given)
        assert layer.padding_idx == 2
        rows = numpy(layer.weight)
        assert not rows[2].any()
        assert rows[[0, 1, 3, 4]].all()
        layer(pydl.asarray([2, 2, 1])).sum().backward()
        assert layer.weight.grad.numpy().tolist() == [[0] * 4, [1] * 4, [0] * 4, [0] * 4, [0] * 4]
    with pytest.raises(ValueError, match=r"\[Embedding\] got padding_idx 5"):
        nn.Embedding(5, 4, padding_idx=5)


@pytest.mark.parametrize("norm_type", [1.0, 2.0])
def test_embedding_max_norm_changes_only_long_rows_that_are_used(norm_type: float) -> None:
    table = np.asarray([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]])
    layer = nn.Embedding.from_pretrained(double(table.copy()), freeze=False, max_norm=1.0, norm_type=norm_type)
    y = layer(pydl.asarray([0, 1, 0]))
    scaled = table[0] / np.linalg.norm(table[0], norm_type)
    assert_near(numpy(layer.weight), [scaled, table[1], table[2]], 1e-6, 0)
    assert_near(numpy(y), [scaled, table[1], scaled], 1e-6, 0)
    y.sum().backward()
    assert layer.weight.grad.numpy().tolist() == [[2, 2], [1, 1], [0, 0]]


def test_embedding_scale_grad_by_freq() -> None:
    layer = nn.Embedding(4, 2, scale_grad_by_freq=True)
    layer(pydl.asarray([[0, 1, 0], [0, 2, 2]])).sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), [[1, 1], [1, 1], [1, 1], [0, 0]], rtol=1e-6)


def test_embedding_from_pretrained_and_errors() -> None:
    table = pydl.ones((3, 2))
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad
    table.fill_(2.0)
    assert layer(pydl.asarray([1])).numpy().tolist() == [[2.0, 2.0]]
    with pytest.raises(IndexError, match=r"\[embedding\]"):
        layer(pydl.asarray([3]))
    with pytest.raises(IndexError, match=r"\[embedding\]"):
        layer(pydl.asarray([-1]))
    with pytest.raises(TypeError, match=r"\[embedding\]"):
        layer(pydl.asarray([1.0]))
    with pytest.raises(ValueError, match="two axes"):
        nn.Embedding.from_pretrained(pydl.ones((3,)))
    assert nn.Embedding(3, 2, sparse=True)(pydl.asarray([1])).shape == (1, 2)  # accepted, gradients are dense
    assert layer(pydl.zeros((0, 4), dtype=pydl.int64)).shape == (0, 4, 2)


def test_identity_takes_anything() -> None:
    x = object()
    assert nn.Identity(1, 2, three=4)(x) is x


def test_a_whole_model_agrees_with_pytorch_with_copied_weights(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")

    def build(library: Any) -> Any:
        return library.Sequential(
            library.Embedding(11, 6), library.Flatten(), library.Linear(24, 8), library.GELU(), library.Linear(8, 3)
        )

    ours, theirs = build(nn), build(torch.nn)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: t.numpy() for name, t in theirs.state_dict().items()})
    ids = rng.integers(0, 11, size=(5, 4))
    y, z = ours(pydl.asarray(ids)), theirs(torch.from_numpy(ids))
    assert_near(numpy(y), z.detach().numpy(), 1e-5, 1e-6)
    y.sum().backward()
    z.sum().backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_near(p.grad.numpy(), q.grad.numpy(), 1e-5, 1e-5)


def test_max_norm_refuses_wrong_rows_before_it_changes_any() -> None:
    layer = nn.Embedding(4, 2, max_norm=0.1)
    before = layer.weight.detach().numpy().copy()
    for index in (4, -1):
        with pytest.raises(IndexError, match=rf"^\[embedding\] index {index} is out of range for a table of 4 rows"):
            layer(pydl.asarray([0, index]))
    with pytest.raises(TypeError, match=r"^\[embedding\] got indices of pydl.float32"):
        layer(pydl.asarray([0.0]))
    assert np.array_equal(layer.weight.detach().numpy(), before)
    for cls in (nn.Embedding, nn.EmbeddingBag):
        with pytest.raises(ValueError, match=rf"^\[{cls.__name__}\] got max_norm -1"):
            cls(3, 2, max_norm=-1)
