"""Figures of what networks are made of: activations, starting values, how signals and gradients fare by depth and time;
and of what they see and take it for. They need matplotlib: ``pip install 'pydl[plot]'``.

Every function returns a matplotlib ``Figure`` and writes it where ``path`` says (PNG, SVG or PDF by its ending).
Nothing is shown and no global state of matplotlib is touched. Random numbers come from ``seed`` alone.

>>> import pydl
>>> figure = pydl.plots.activations(["ReLU", "Tanh"])
>>> len(figure.axes)
2
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl import nn
from pydl._atomic import atomic_write

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from pydl import Tensor

__all__ = [
    "activations",
    "attention",
    "confusion_matrix",
    "gradient_norms_by_layer",
    "gradient_norms_by_step",
    "images",
    "initial_weights",
    "signals_by_depth",
]

_BLUE, _ORANGE, _GREY, _RED = "#1f6fb4", "#d9662b", "#8a8a8a", "#b22222"
_LINES = (_BLUE, _ORANGE, "#3a8f5c", "#8d5bb0", "#b8483e", "#5c7f8f", "#a98b2d", "#444444")

ACTIVATIONS = (
    "ReLU", "LeakyReLU", "PReLU", "RReLU", "ReLU6", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Softplus",
    "Sigmoid", "LogSigmoid", "Tanh", "Softsign", "Hardtanh", "Hardsigmoid", "Hardswish", "Tanhshrink", "Hardshrink",
    "Softshrink", "Threshold",
)  # fmt: skip

INITIALIZERS: dict[str, Callable[..., Tensor]] = {
    "normal_(std=0.01)": lambda w, **k: nn.init.normal_(w, 0.0, 0.01, **k),
    "normal_(std=1)": lambda w, **k: nn.init.normal_(w, 0.0, 1.0, **k),
    "lecun_normal_": nn.init.lecun_normal_,
    "lecun_uniform_": nn.init.lecun_uniform_,
    "xavier_normal_": nn.init.xavier_normal_,
    "xavier_uniform_": nn.init.xavier_uniform_,
    "kaiming_normal_": nn.init.kaiming_normal_,
    "kaiming_uniform_": nn.init.kaiming_uniform_,
    "trunc_normal_(std=0.05)": lambda w, **k: nn.init.trunc_normal_(w, 0.0, 0.05, -0.1, 0.1, **k),
    "orthogonal_": nn.init.orthogonal_,
    "sparse_(0.9)": lambda w, **k: nn.init.sparse_(w, 0.9, 0.1, **k),
}


def activations(
    names: Sequence[str] | None = None,
    low: float = -4.0,
    high: float = 4.0,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Each activation with its derivative, as autograd computes it.

    Args:
        names: classes of pydl.nn; default all that act on single elements.
        low, high: range of x; default -4 to 4.
        path: where to write the figure; default nowhere.
    """
    chosen = ACTIVATIONS if names is None else tuple(names)
    arguments = {"Threshold": (0.5, -0.5)}
    figure, panels = _grid(len(chosen), width=2.7, height=2.1, title="Activations and their derivatives")
    for name, axes in zip(chosen, panels):
        if not hasattr(nn, name):
            raise ValueError(f"[plots.activations] got {name!r}, expected the name of an activation of pydl.nn")
        layer = getattr(nn, name)(*arguments.get(name, ())).eval()
        x = pydl.linspace(low, high, 801).requires_grad_()
        y = layer(x)
        (slope,) = pydl.autograd.grad(y.sum(), x)
        axes.axhline(0, color=_GREY, linewidth=0.6)
        axes.axvline(0, color=_GREY, linewidth=0.6)
        at = x.detach().cpu().numpy()
        axes.plot(at, _broken(at, y.detach().cpu().numpy()), color=_BLUE, linewidth=1.8, label="f(x)")
        axes.plot(at, _broken(at, slope.cpu().numpy()), color=_ORANGE, linewidth=1.3, linestyle="--", label="f ′(x)")
        axes.set_title(name + (f"{arguments[name]}" if name in arguments else ""), fontsize=9)
        axes.set_xlim(low, high)
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, -4.2), min(top, 4.2))
        axes.tick_params(labelsize=7)
    if panels:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return _finished(figure, path)


def _broken(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """With gaps at jumps, so that no line is drawn down them."""
    jumps = np.abs(np.diff(y)) > 12 * (x[1] - x[0])
    y = y.astype(float)
    y[1:][jumps] = np.nan
    return y


def initial_weights(
    initializers: Mapping[str, Callable[..., Tensor]] | None = None,
    shape: tuple[int, int] = (256, 512),
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Distribution of the weights that each initializer draws, with its standard deviation.

    Args:
        initializers: functions of a tensor and ``generator=``, by name; default those of :mod:`pydl.nn.init`.
        shape: (fan_out, fan_in) of the matrix; default (256, 512).
        seed: of the random numbers; default 0.
        path: where to write the figure; default nowhere.
    """
    chosen = INITIALIZERS if initializers is None else initializers
    title = f"Starting weights of a dense layer, {shape[1]} inputs and {shape[0]} outputs"
    figure, panels = _grid(len(chosen), width=3.0, height=1.9, title=title)
    for (name, fill), axes in zip(chosen.items(), panels):
        weights = fill(pydl.empty(shape), generator=pydl.Generator(seed)).cpu().numpy().ravel()
        spread = float(weights.std())
        reach = 3.5 * spread if spread else 1.0
        inside = weights[np.abs(weights) <= reach]
        axes.hist(inside, bins=71, range=(-reach, reach), color=_BLUE, density=True)
        axes.axvline(-spread, color=_ORANGE, linewidth=1)
        axes.axvline(spread, color=_ORANGE, linewidth=1)
        axes.set_title(f"{name}   σ = {spread:.3g}", fontsize=9)
        axes.set_yticks([])
        axes.set_xlim(-reach, reach)
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=5)
        if (weights == 0).mean() > 0.5:
            axes.set_yscale("log")
    figure.supxlabel("weight; the orange lines are at ±σ", fontsize=9)
    return _finished(figure, path)


def signals_by_depth(
    initializers: Mapping[str, Callable[..., Tensor]] | None = None,
    activation: str = "Tanh",
    depth: int = 12,
    width: int = 256,
    batch: int = 256,
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Activations and gradients of a deep dense network, layer by layer, for each initializer.

    Left to right in each panel: the distribution of activations (bands of 50 and 90 percent) and, below, the standard
    deviations of activations and of the gradients for them, on a logarithmic scale: lines that fall vanish, lines that
    rise explode. Inputs and the gradient at the top are N(0, 1).

    Args:
        initializers: functions of a tensor and ``generator=``, by name; default those of :mod:`pydl.nn.init`.
        activation: a class of pydl.nn; default ``"Tanh"``.
        depth, width, batch: of the network and the input; default 12, 256 and 256.
        seed: of the random numbers; default 0.
        path: where to write the figure; default nowhere.
    """
    chosen = INITIALIZERS if initializers is None else initializers
    figure, _ = _grid(0, title=f"{depth} layers of {width} units with {activation}: activations and gradients by depth")
    columns = min(4, max(1, len(chosen)))
    rows = max(1, math.ceil(len(chosen) / columns))
    figure.set_size_inches(3.1 * columns, 3.3 * rows + 0.8)
    cells = figure.add_gridspec(2 * rows, columns, height_ratios=[1.15, 1] * rows)
    layers = np.arange(1, depth + 1)
    handles: Any = ([], [])
    for place, (name, fill) in enumerate(chosen.items()):
        generator = pydl.Generator(seed)
        forward, backward = _pass_through(fill, getattr(nn, activation)(), depth, width, batch, generator)
        top = figure.add_subplot(cells[2 * (place // columns), place % columns])
        bands = np.quantile(forward.reshape(depth, -1), [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
        top.fill_between(layers, bands[0], bands[4], color=_BLUE, alpha=0.25, linewidth=0, label="90 % of activations")
        top.fill_between(layers, bands[1], bands[3], color=_BLUE, alpha=0.55, linewidth=0, label="50 % of activations")
        top.plot(layers, bands[2], color=_BLUE, linewidth=1)
        top.set_title(name, fontsize=9)
        top.tick_params(labelsize=7, labelbottom=False)
        top.yaxis.get_offset_text().set_fontsize(6)
        below = figure.add_subplot(cells[2 * (place // columns) + 1, place % columns], sharex=top)
        for values, colour, label in ((forward, _BLUE, "σ of activations"), (backward, _ORANGE, "σ of gradients")):
            spread = np.maximum(values.reshape(depth, -1).std(axis=1), 1e-30)
            below.plot(layers, spread, color=colour, marker="o", markersize=2.5, linewidth=1.3, label=label)
        below.set_yscale("log")
        bottom, above = below.get_ylim()
        below.set_ylim(min(bottom, 0.05), max(above, 20.0))
        below.tick_params(labelsize=7)
        below.set_xticks(layers[:: max(1, depth // 6)])
        if place + columns >= len(chosen):
            below.set_xlabel("layer", fontsize=8)
        if not handles[0]:
            pairs = [axes.get_legend_handles_labels() for axes in (top, below)]
            handles = ([h for p in pairs for h in p[0]], [text for p in pairs for text in p[1]])
    if handles[0]:
        figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return _finished(figure, path)


def _pass_through(
    fill: Callable[..., Tensor], activation: Any, depth: int, width: int, batch: int, generator: pydl.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Activations and the gradients for them, (depth, batch, width) each."""
    x = pydl.randn(batch, width, generator=generator)
    outputs = []
    for _ in range(depth):
        weight = fill(pydl.empty((width, width)), generator=generator)
        x = activation(nn.functional.linear(x, weight)).requires_grad_()
        x.retain_grad()
        outputs.append(x)
    x.backward(pydl.randn(batch, width, generator=generator))
    with np.errstate(all="ignore"):
        return np.stack([o.detach().cpu().numpy() for o in outputs]), np.stack([o.grad.cpu().numpy() for o in outputs])


def confusion_matrix(
    counts: Any,
    names: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    title: str = "",
) -> Any:
    """How often each class (a row) was taken for each (a column); darker is a larger share of the row.

    Args:
        counts: (C, C), such as :func:`pydl.metrics.confusion_matrix` returns.
        names: of the classes; default 0, 1, 2, ...
        path: where to write the figure; default nowhere.
        title: of the figure; default none.

    Raises:
        ValueError: the counts are not square or negative, or there are not as many names.
    """
    values = np.asarray(counts.detach().cpu().numpy() if isinstance(counts, pydl.Tensor) else counts)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.size == 0 or not (values >= 0).all():
        raise ValueError(f"[plots.confusion_matrix] got counts {values.shape}, expected (C, C), none of them negative")
    labels = [str(i) for i in range(len(values))] if names is None else list(names)
    if len(labels) != len(values):
        raise ValueError(
            f"[plots.confusion_matrix] got {len(labels)} names for {len(values)} classes, expected as many"
        )
    size = 1.5 + 0.45 * len(values)
    figure, (axes,) = _grid(1, width=size, height=size - 0.7)
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(values)):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{values[row, column]:.4g}", ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(values)), labels, rotation=90 if max(map(len, labels)) > 3 else 0)
    axes.set_yticks(range(len(values)), labels)
    axes.set_xlabel("found")
    axes.set_ylabel("is")
    axes.set_title(title, fontsize=11)
    return _finished(figure, path)


def images(
    pictures: Sequence[Any] | np.ndarray,
    titles: Sequence[str] = (),
    wrong: Sequence[int] = (),
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
    labels: tuple[str, str] | None = None,
    **options: Any,
) -> Any:
    """Pictures side by side, each with a title.

    Args:
        pictures: (H, W), or (H, W, 3) in colours, at least one.
        titles: one for each picture, folded where they are long; default none.
        wrong: numbers of pictures whose titles are red.
        path: where to write the figure; default nowhere.
        title: of the figure; default none.
        labels: of the axes, across and up, for pictures that have any, such as spectrograms; default: they have none.
        options: of matplotlib's ``imshow``: ``cmap``, ``vmin``, ``vmax``, ``origin``, ...

    Raises:
        ValueError: no pictures, or not as many titles.
    """
    if len(pictures) == 0 or len(titles) not in (0, len(pictures)):
        raise ValueError(f"[plots.images] got {len(pictures)} pictures and {len(titles)} titles, expected one for each")
    figure, panels = _grid(len(pictures), width=3.2, height=3.2, title=title)
    for i, (axes, picture) in enumerate(zip(panels, pictures)):
        axes.imshow(picture.detach().cpu().numpy() if isinstance(picture, pydl.Tensor) else picture, **options)
        if titles:
            lines = (textwrap.fill(line, 42) for line in titles[i].splitlines())
            axes.set_title("\n".join(lines), fontsize=9, color=_RED if i in wrong else "black")
        if labels is None:
            axes.set_axis_off()
    if labels is not None:
        figure.supxlabel(labels[0], fontsize=10)
        figure.supylabel(labels[1], fontsize=10)
    return _finished(figure, path)


def gradient_norms_by_layer(
    model: nn.Module | Mapping[str, nn.Module],
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Norms of the gradients that the last backward has left in a model's parameters, in the model's order.

    Filled dots joined by a line are matrices, hollow ones vectors such as biases.

    Args:
        model: a module after ``backward()``, or several by name, drawn beside each other.
        path: where to write the figure; default nowhere.

    Raises:
        ValueError: no parameter has a gradient.
    """
    models = {"": model} if isinstance(model, nn.Module) else dict(model)
    lines: dict[str, list[tuple[str, float, bool]]] = {}
    for name, module in models.items():
        named = [(n, p.grad) for n, p in module.named_parameters()]
        lines[name] = [
            (n, max(float(pydl.norm(g.detach().astype(pydl.float64)).item()), 1e-30), g.ndim > 1)
            for n, g in named
            if g is not None
        ]
        if not lines[name]:
            raise ValueError("[plots.gradient_norms_by_layer] no parameter has a gradient; call backward() before")
    names = list(dict.fromkeys(n for line in lines.values() for n, _, _ in line))
    figure, (axes,) = _grid(1, width=7.5, height=max(2.2, 0.24 * len(names) + 1.0), title="Gradient norm by layer")
    place = {n: i for i, n in enumerate(names)}
    for i, (name, line) in enumerate(lines.items()):
        colour = _LINES[i % len(_LINES)]
        for matrices, style in ((True, {"linewidth": 1.2}), (False, {"linestyle": "", "markerfacecolor": "white"})):
            shown = [(norm, place[n]) for n, norm, is_matrix in line if is_matrix == matrices]
            label = name if matrices else None
            norms, places = [norm for norm, _ in shown], [at for _, at in shown]
            axes.plot(norms, places, marker="o", markersize=5, color=colour, label=label, **style)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_xlabel("‖∂L/∂w‖", fontsize=9)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _finished(figure, path)


def gradient_norms_by_step(
    gradients: Mapping[str, Any] | None = None,
    steps: int = 60,
    hidden_size: int = 64,
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """How much of a gradient at the last step arrives at each step before it: ‖∂L/∂x_t‖ by time.

    Args:
        gradients: arrays or tensors (T, ...) by name, such as ``{"LSTM": x.grad}``. Default: a fresh RNN, GRU and LSTM
            of each start of :class:`pydl.nn.RNNBase` on random inputs, with a loss of the last output alone.
        steps, hidden_size, seed: of those networks; default 60, 64 and 0.
        path: where to write the figure; default nowhere.
    """
    chosen = _last_step_gradients(steps, hidden_size, seed) if gradients is None else gradients
    figure, (axes,) = _grid(1, width=7.0, height=3.6, title="Gradient norm by time step")
    for i, (name, gradient) in enumerate(chosen.items()):
        values = _array(gradient)
        norms = np.sqrt((values.reshape(len(values), -1) ** 2).sum(axis=1))
        colour = _LINES[i % len(_LINES)]
        axes.plot(np.arange(1, len(norms) + 1), np.maximum(norms, 1e-45), color=colour, linewidth=1.5, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("step t", fontsize=9)
    axes.set_ylabel("‖∂L/∂x_t‖", fontsize=9)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _finished(figure, path)


def _last_step_gradients(steps: int, hidden_size: int, seed: int) -> dict[str, Tensor]:
    before = pydl.default_generator().get_state()
    found = {}
    try:
        pydl.manual_seed(seed)
        for kind in ("RNN", "GRU", "LSTM"):
            for style in ("torch", "keras"):
                layer = getattr(nn, kind)(8, hidden_size, init=style)
                x = pydl.randn(steps, 16, 8).requires_grad_()
                y = layer(x)[0]
                found[f'{kind}, init="{style}"'] = pydl.autograd.grad((y[steps - 1] ** 2).sum(), x)[0]
    finally:
        pydl.default_generator().set_state(before)
    return found


def attention(
    weights: Sequence[Any],
    read: Sequence[Sequence[str]],
    written: Sequence[Sequence[str]],
    path: str | os.PathLike[str] | None = None,
    title: str = "",
) -> Any:
    """Where a network looked as it wrote: for each sequence a heat map, darker is more.

    Args:
        weights: N arrays (T, S), how much the step that wrote token t looked at token s; such as
            :meth:`pydl.models.Seq2Seq.predict` returns with ``return_attention=True``.
        read: N sequences of S tokens; a string is its characters.
        written: N sequences of T tokens, or more: further ones, such as a stop token, are left out.
        path: where to write the figure; default nowhere.
        title: of the figure; default none.

    Raises:
        ValueError: the numbers of maps and sequences, or of weights and tokens, differ.
    """
    maps = [
        np.asarray(each.detach().cpu().numpy() if isinstance(each, pydl.Tensor) else each, np.float64)
        for each in weights
    ]
    if not maps or not len(maps) == len(read) == len(written):
        raise ValueError(
            f"[plots.attention] got {len(maps)} maps, {len(read)} sequences read and {len(written)} written, expected"
            " as many of each, and one at least"
        )
    for i, each in enumerate(maps):
        if each.ndim != 2 or each.shape[1] != len(read[i]) or len(written[i]) < each.shape[0]:
            raise ValueError(
                f"[plots.attention] map {i} has the shape {each.shape}, expected {(len(written[i]), len(read[i]))}:"
                " tokens written and read"
            )
    columns = min(2, len(maps))
    longest = max(len(each) for each in read), max(len(each) for each in written)
    figure, _ = _grid(0, title=title)
    rows = -(-len(maps) // columns)
    figure.set_size_inches(columns * max(4.0, 0.24 * longest[0] + 1.5), rows * max(2.2, 0.24 * longest[1] + 1.4))
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(len(maps))]
    for axes, each, source, target in zip(panels, maps, read, written):
        image = axes.imshow(each, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        words = max(map(len, source)) > 1
        axes.set_xticks(
            range(len(source)), list(source), rotation=40 if words else 0, ha="right" if words else "center"
        )
        axes.set_yticks(range(len(each)), list(target[: len(each)]))
        axes.set_xlabel("read", fontsize=9)
        axes.set_ylabel("written", fontsize=9)
        axes.tick_params(labelsize=9)
    figure.colorbar(image, ax=panels, label="attention", shrink=0.6)
    return _finished(figure, path)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu().numpy() if isinstance(values, pydl.Tensor) else values, np.float64)


def _grid(count: int, width: float = 3.0, height: float = 2.0, title: str = "") -> tuple[Any, list[Any]]:
    """A figure of small panels, as square as they come."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("[plots] needs matplotlib, which is not installed; pip install 'pydl[plot]'") from error
    columns = min(4, max(1, count)) if count <= 12 else 6
    rows = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(width * columns, height * rows + 0.7), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def _finished(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    if path is not None:
        kind = Path(path).suffix[1:].lower() or "png"
        with atomic_write(path, "wb") as file:
            figure.savefig(file, dpi=130, format=kind)
    return figure
