"""Weights of 8 bits: the kernel against exact integers, layers and generation against their originals."""

from __future__ import annotations

import numpy as np
import pytest

import pydl
from pydl import _C, nn
from pydl.models import CharLM


def exact(x: np.ndarray, q: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) @ (q.astype(np.float64) * scale[:, None]).T + bias


@pytest.mark.parametrize("k", [1, 3, 15, 16, 17, 64, 100, 512, 2047, 4099])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_product_at_odd_sizes(k: int, rows: int, rng: np.random.Generator) -> None:
    for n in (1, 2, 3, 4, 5, 33):
        q = rng.integers(-127, 128, (n, k)).astype(np.int8)
        scale, bias = rng.uniform(0.01, 1, n).astype(np.float32), rng.normal(size=n).astype(np.float32)
        x = rng.normal(size=(rows, k)).astype(np.float32)
        got = _C.int8_linear(*(pydl.asarray(a) for a in (x, q, scale, bias))).numpy()
        steps = min(32767, (2**31 - 1) // (127 * k))
        error = np.abs(x).max(1, keepdims=True) / steps * np.abs(q * scale[:, None].astype(np.float64)).sum(1)
        assert (np.abs(got - exact(x, q, scale, bias)) <= 0.51 * error + 1e-5 * np.sqrt(k)).all()


def test_largest_sums_do_not_overflow() -> None:
    for k in (515, 516, 517, 1024, 65536):
        x, q = np.full((1, k), 3.0, np.float32), np.full((2, k), 127, np.int8)
        q[1] = -127
        got = _C.int8_linear(pydl.asarray(x), pydl.asarray(q), pydl.ones(2), None).numpy()
        np.testing.assert_allclose(got, [[381.0 * k, -381.0 * k]], 1e-5)


def test_same_bits_for_any_thread_count_and_any_batch(rng: np.random.Generator) -> None:
    q = pydl.asarray(rng.integers(-127, 128, (1030, 700)).astype(np.int8))
    x, scale = pydl.asarray(rng.normal(size=(5, 700)).astype(np.float32)), pydl.rand(1030)
    before = pydl.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        pydl.set_num_threads(threads)
        results.append(_C.int8_linear(x, q, scale, None).numpy())
    pydl.set_num_threads(before)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    for i in range(5):
        assert (_C.int8_linear(x[i : i + 1], q, scale, None).numpy() == results[0][i]).all()


def test_special_inputs() -> None:
    q, scale = pydl.ones((2, 3), dtype=pydl.int8), pydl.ones(2)
    rows = pydl.asarray(
        [[0.0, 0.0, 0.0], [1.0, float("nan"), 0.0], [float("inf"), 1.0, 0.0], [1e-38, 0.0, 1e-38], [1e-25, 0.0, 1e-25]]
    )
    y = _C.int8_linear(rows, q, scale, None).numpy()
    assert (y[0] == 0).all()
    assert np.isnan(y[1]).all()
    assert np.isnan(y[2]).all()
    np.testing.assert_allclose(y[3], 0, atol=2e-38)
    np.testing.assert_allclose(y[4], 2e-25, 1e-4)
    assert _C.int8_linear(pydl.ones((0, 3)), q, scale, None).shape == (0, 2)
    assert _C.int8_linear(pydl.ones((4, 0)), q[:, :0], scale, pydl.ones(2)).tolist() == [[1.0, 1.0]] * 4


def test_wrong_arguments() -> None:
    q, scale = pydl.ones((2, 3), dtype=pydl.int8), pydl.ones(2)
    for x, w, s, error, words in (
        (pydl.ones((1, 4)), q, scale, ValueError, "shape"),
        (pydl.ones((1, 3), dtype=pydl.float64), q, scale, TypeError, "float32"),
        (pydl.ones((1, 3)), pydl.ones((2, 3)), scale, TypeError, "int8"),
        (pydl.ones((1, 3)), q, pydl.ones(3), ValueError, "scale"),
        (pydl.ones((1, 3)).requires_grad_(), q, scale, ValueError, "gradient"),
    ):
        with pytest.raises(error, match=words):
            _C.int8_linear(x, w, s, None)


def test_rows_are_rounded_to_the_nearest(rng: np.random.Generator) -> None:
    w = rng.normal(size=(9, 31)).astype(np.float32)
    w[4] = 0
    values, scale = nn.quantize_rows(pydl.asarray(w))
    assert values.dtype == pydl.int8
    step = scale.numpy()[:, None]
    assert (np.abs(values.numpy() * step - w) <= step * 0.5001).all()
    assert (np.abs(values.numpy()).max(1)[np.arange(9) != 4] == 127).all()
    with pytest.raises(ValueError, match="finite"):
        nn.quantize_rows(pydl.asarray([[float("nan")]]))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "batch_first": True}, {"bias": False}])
def test_recurrent_layers_are_near_their_originals(kind: type[nn.Module], options: dict) -> None:
    pydl.manual_seed(1)
    layer = kind(12, 20, 2, **options).eval()
    quantized = nn.quantize_dynamic(layer)
    x = pydl.randn(5, 3, 12)
    lengths = pydl.asarray([2, 5, 3] if not options.get("batch_first") else [2, 3, 3, 1, 2])
    for given in (None, lengths):
        with pydl.no_grad():
            y, _ = layer(x, lengths=given)
            z, _ = quantized(x, lengths=given)
        assert y.shape == z.shape
        error = (y - z).abs().max().item()
        assert 0 < error < 0.02
    assert quantized.weight_ih_l0.dtype == pydl.int8
    again = nn.quantize_dynamic(kind(12, 20, 2, **options))
    again.load_state_dict(quantized.state_dict())
    assert (again(x)[0] == quantized(x)[0]).all().item()


def test_a_model_keeps_its_other_layers() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 2, bias=False))
    quantized = nn.quantize_dynamic(model)
    assert [type(m).__name__ for m in quantized] == ["QuantizedLinear", "Tanh", "LayerNorm", "QuantizedLinear"]
    assert type(model[0]) is nn.Linear
    x = pydl.randn(4, 6)
    assert (quantized(x) - model(x)).abs().max().item() < 0.05


def test_generation_with_8_bits(tmp_path) -> None:
    pydl.manual_seed(0)
    model = CharLM("hello world", hidden_size=24)
    quantized = nn.quantize_dynamic(model)
    logits, _ = model(pydl.asarray([[0, 1, 2, 3]]))
    near, _ = quantized(pydl.asarray([[0, 1, 2, 3]]))
    assert 0 < (logits - near).abs().max().item() < 0.02
    text = quantized.generate("hel", 30, seed=3)
    assert len(text) == 30
    first = quantized.stream("hel", 12, seed=3, temperature=0)
    whole = quantized.generate("hel", 20, temperature=0)
    assert "".join(first) + quantized.generate(length=8, temperature=0, state=first.state) == whole
    quantized.save(tmp_path / "small.safetensors")
    assert CharLM.load(tmp_path / "small.safetensors").generate("hel", 30, seed=3) == text
