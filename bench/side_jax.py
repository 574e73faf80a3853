"""JAX's side of the cases: whole steps under jit, buffers donated, weights stored as (in, out)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import footprint
from bench.kinds import Arrays, Work, parameters, training_results

Params = dict[str, jax.Array]
Update = Callable[[Params, Params, Any], tuple[Params, Any]]  # parameters, gradients, state


def start(threads: int, device: str = "cpu") -> dict[str, str]:
    """Tells what runs; XLA takes its number of threads from the process's affinity and XLA_FLAGS."""
    if device != "cpu":
        raise ValueError("JAX is measured on the CPU only")
    jax.config.update("jax_platforms", "cpu")
    return {"version": jax.__version__}


def wait() -> None:
    """Nothing: every step here waits for its results."""


def _is_transposed(name: str, ndim: int) -> bool:
    return ndim == 2 and not name.startswith("embedding")


def _native(inputs: Arrays) -> Params:
    return {n: jnp.array(a.T if _is_transposed(n, a.ndim) else a) for n, a in parameters(inputs).items()}


def _cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1).mean()


def _adam(lr: float) -> Update:
    def update(p: Params, g: Params, state: Any) -> tuple[Params, Any]:
        m, v, t = state
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        a, b = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        return jax.tree.map(lambda p, m, v: p - lr * (m * a) / (jnp.sqrt(v * b) + 1e-8), p, m, v), (m, v, t)

    return update


def _sgd(lr: float, momentum: float) -> Update:
    def update(p: Params, g: Params, state: Any) -> tuple[Params, Any]:
        velocity = jax.tree.map(lambda u, g: momentum * u + g, state[0], g)
        return jax.tree.map(lambda p, u: p - lr * u, p, velocity), (velocity, *state[1:])

    return update


def _clipped(g: Params, most: float) -> Params:
    norm = jnp.sqrt(sum(jnp.vdot(a, a) for a in g.values()))
    factor = jnp.minimum(1.0, most / (norm + 1e-6))
    return {name: a * factor for name, a in g.items()}


def _training(
    inputs: Arrays, loss: Callable[..., jax.Array], update: Update, clip: float | None, *batch: np.ndarray
) -> Work:
    @partial(jax.jit, donate_argnums=(0, 1))
    def jitted(p: Params, state: Any, *batch: jax.Array) -> tuple[Params, Any, jax.Array]:
        value, g = jax.value_and_grad(loss)(p, *batch)
        p, state = update(p, g if clip is None else _clipped(g, clip), state)
        return p, state, value

    p = _native(inputs)
    now: list[Any] = [p, (jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.float32(0))]
    on_device = [jnp.array(a) for a in batch]

    def step() -> jax.Array:
        now[0], now[1], value = jitted(*now, *on_device)
        return value.block_until_ready()

    def current() -> Arrays:
        return {n: np.asarray(a).T if _is_transposed(n, a.ndim) else np.asarray(a) for n, a in now[0].items()}

    return Work(step, partial(training_results, inputs, step, current))


def mlp(inputs: Arrays, *, batch: int, widths: tuple[int, ...], optimizer: str) -> Work:
    last = len(widths) - 2

    def loss(p: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        for layer in range(last + 1):
            x = x @ p[f"{2 * layer}.weight"] + p[f"{2 * layer}.bias"]
            x = x if layer == last else jax.nn.relu(x)
        return _cross_entropy(x, y)

    update = _adam(1e-3) if optimizer == "adam" else _sgd(1e-2, 0.9)
    return _training(inputs, loss, update, None, inputs["x"], inputs["y"])


def _layer(cell: str, x: jax.Array, w_ih: jax.Array, w_hh: jax.Array, b_ih: jax.Array, b_hh: jax.Array) -> jax.Array:
    """(T, B, D) -> (T, B, H). The product with the inputs is one for all steps."""
    inside = cell == "gru"  # its reset gate lies between the product with h and the sum
    from_x = x @ w_ih + (b_ih if inside else b_ih + b_hh)

    def one(state: tuple[jax.Array, jax.Array], from_x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        h, c = state
        from_h = h @ w_hh
        if cell == "rnn":
            h = jnp.tanh(from_x + from_h)
        elif cell == "lstm":
            i, f, g, o = jnp.split(from_x + from_h, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        else:
            (xr, xz, xn), (hr, hz, hn) = jnp.split(from_x, 3, -1), jnp.split(from_h + b_hh, 3, -1)
            z = jax.nn.sigmoid(xz + hz)
            h = (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + z * h
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], w_hh.shape[0]))
    return jax.lax.scan(one, (zeros, zeros), from_x)[1]


def char_lm(inputs: Arrays, *, cell: str, hidden: int, layers: int, batch: int, steps: int, vocabulary: int) -> Work:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def loss(p: Params, ids: jax.Array, targets: jax.Array) -> jax.Array:
        h = p["embedding.weight"][ids]
        for layer in range(layers):
            h = _layer(cell, h, *(p[f"rnn.{name}_l{layer}"] for name in names))
        return _cross_entropy(h @ p["output.weight"] + p["output.bias"], targets)

    return _training(inputs, loss, _adam(2e-3), 5.0, inputs["x"].T, inputs["y"].T)


def _jitted(function: Callable[..., Any], names: tuple[str, ...], *arrays: np.ndarray) -> Work:
    """A pure function of fixed arrays; names are those of its results."""
    jitted = jax.jit(function)
    on_device = [jnp.array(a) for a in arrays]

    def step() -> Any:
        return jax.block_until_ready(jitted(*on_device))

    def results() -> Arrays:
        values = step()
        return dict(zip(names, map(np.asarray, values if len(names) > 1 else (values,)), strict=True))

    return Work(step, results)


def gemm(inputs: Arrays, *, n: int) -> Work:
    return _jitted(lambda x: x @ x, ("y",), inputs["x"])


def softmax_ce(inputs: Arrays, *, rows: int, classes: int) -> Work:
    return _jitted(jax.value_and_grad(_cross_entropy), ("loss", "d_x"), inputs["x"], inputs["y"])


def conv(inputs: Arrays, *, kernel: int, stride: int, backward: bool, **sizes: int) -> Work:
    """Images as (N, H, W, C) inside, which XLA runs faster here."""
    padding = [(kernel // 2, kernel // 2)] * 2
    names = ("NHWC", "HWIO", "NHWC")

    def forward(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=names)

    def all_of(x: jax.Array, w: jax.Array, g: jax.Array) -> Any:
        y, back = jax.vjp(forward, x, w)
        return (y, *back(g))

    last = (0, 2, 3, 1)
    arrays = [inputs["x"].transpose(last), inputs["w"].transpose(2, 3, 1, 0)]
    if backward:
        work = _jitted(all_of, ("y", "d_x", "d_w"), *arrays, inputs["g"].transpose(last))
    else:
        work = _jitted(forward, ("y",), *arrays)

    def results() -> Arrays:
        return {n: a.transpose((3, 2, 0, 1) if n == "d_w" else (0, 3, 1, 2)) for n, a in work.results().items()}

    return Work(work.step, results)


def _batch_norm(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    mean = jnp.mean(x, (0, 2, 3), keepdims=True)
    variance = jnp.var(x, (0, 2, 3), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * weight[:, None, None] + bias[:, None, None]


def batch_norm(inputs: Arrays, *, batch: int, channels: int, side: int) -> Work:
    def step(x: jax.Array, g: jax.Array, weight: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
        y, back = jax.vjp(_batch_norm, x, weight, bias)
        return y, *back(g)

    names = ("y", "d_x", "d_weight", "d_bias")
    return _jitted(step, names, inputs["x"], inputs["g"], np.ones(channels, np.float32), np.zeros(channels, np.float32))


def gelu(inputs: Arrays, *, n: int) -> Work:
    return _jitted(partial(jax.nn.gelu, approximate=False), ("y",), inputs["x"])


def exp(inputs: Arrays, *, n: int) -> Work:
    return _jitted(jnp.exp, ("y",), inputs["x"])


BUILDERS: dict[str, Callable[..., Work]] = {
    "gemm": gemm,
    "mlp": mlp,
    "char_lm": char_lm,
    "softmax_ce": softmax_ce,
    "conv": conv,
    "batch_norm": batch_norm,
    "gelu": gelu,
    "exp": exp,
    "import_time": partial(footprint.import_time, "jax"),
    "installed_size": partial(footprint.installed_size, "jax"),
}


def builder(kind: str) -> Callable[..., Any] | None:
    """What makes a case of this kind ready, or None where this side has no such thing."""
    return BUILDERS.get(kind)
