"""pydl's side of the cases: written as a user would, with the public API alone."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

import pydl
from bench import footprint, image_modules, images
from bench.kinds import Arrays, Work, parameters, training_results
from pydl import nn
from pydl.nn import functional as F
from pydl.train.autocast import rounded_layers

_device = "cpu"


def start(threads: int, device: str = "cpu") -> dict[str, str]:
    """Fixes the number of threads and the device, and tells what runs."""
    global _device
    _device = device
    pydl.set_num_threads(threads)
    info = pydl.backend.info()
    found = {"version": pydl.__version__, "isa": info["isa"], "cpu": info["cpu"]}
    return found if device == "cpu" else {**found, "device": pydl.cuda.get_device_name()}


def wait() -> None:
    """Until all that was asked for is done."""
    if _device != "cpu":
        pydl.cuda.synchronize()


def _tensor(array: np.ndarray, requires_grad: bool = False) -> pydl.Tensor:
    x = pydl.asarray(array)
    if _device != "cpu":
        x = x.to(_device)
    x.requires_grad = requires_grad
    return x


def _array(x: pydl.Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()


def _placed(model: Any) -> Any:
    return model if _device == "cpu" else model.to(_device)


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, pydl.Tensor]:
    return {name: pydl.asarray(array) for name, array in arrays.items()}


def _current(model: nn.Module) -> Callable[[], Arrays]:
    return lambda: {name: _array(p) for name, p in model.named_parameters()}


def gemm(inputs: Arrays, *, n: int, precision: str = "float32") -> Work:
    x = _tensor(inputs["x"])
    if precision == "bfloat16":
        x = x.astype(pydl.bfloat16)
    if _device != "cpu":
        pydl.cuda.allow_tf32(precision == "tf32")
    return Work(lambda: x @ x, lambda: {"y": _array((x @ x).astype(pydl.float32))})


def mlp(inputs: Arrays, *, batch: int, widths: tuple[int, ...], optimizer: str) -> Work:
    layers: list[nn.Module] = []
    for d, h in itertools.pairwise(widths):
        layers += [nn.Linear(d, h), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    model.load_state_dict(_tensors(parameters(inputs)))
    model = _placed(model)
    x, y = _tensor(inputs["x"]), _tensor(inputs["y"])
    update: pydl.optim.Optimizer
    if optimizer == "adam":
        update = pydl.optim.Adam(model.parameters(), 1e-3)
    else:
        update = pydl.optim.SGD(model.parameters(), 1e-2, momentum=0.9)

    def step() -> pydl.Tensor:
        update.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        update.step()
        return loss

    return Work(step, partial(training_results, inputs, lambda: step().item(), _current(model)))


def _char_lm(inputs: Arrays, cell: str, hidden: int, layers: int, vocabulary: int) -> pydl.models.CharLM:
    symbols = "".join(map(chr, range(256, 256 + vocabulary)))
    model = pydl.models.CharLM(symbols, cell=cell, hidden_size=hidden, num_layers=layers)
    model.load_state_dict(_tensors(parameters(inputs)))
    return _placed(model)


def _captured(step: Callable[[], pydl.Tensor]) -> Callable[[], pydl.Tensor]:
    """The first call makes what optimizers remember; the step of the second one is replayed from there on."""
    graph, losses, calls = pydl.cuda.CUDAGraph(), [], itertools.count()

    def replayed() -> pydl.Tensor:
        if next(calls) == 0:
            return step()
        if not losses:
            with pydl.cuda.graph(graph):
                losses.append(step())
        graph.replay()
        return losses[0]

    return replayed


def char_lm(
    inputs: Arrays, *, cell: str, hidden: int, layers: int, batch: int, steps: int, vocabulary: int,
    captured: bool = False,
) -> Work:  # fmt: skip
    model = _char_lm(inputs, cell, hidden, layers, vocabulary)
    x, y = _tensor(inputs["x"]), _tensor(inputs["y"])
    update = pydl.optim.Adam(model.parameters(), 2e-3)

    def step() -> pydl.Tensor:
        update.zero_grad()
        loss, _ = model.loss(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        update.step()
        return loss

    done = _captured(step) if captured else step
    return Work(done, partial(training_results, inputs, lambda: done().item(), _current(model)))


def sample(inputs: Arrays, *, cell: str, hidden: int, layers: int, length: int, vocabulary: int) -> Work:
    model = _char_lm(inputs, cell, hidden, layers, vocabulary).eval()
    first = model.vocabulary.symbols[0]
    seeds = itertools.count()

    def results() -> Arrays:
        return {"ids": model.vocabulary.encode(model.generate(first, length, temperature=0))}

    return Work(lambda: model.generate(first, length, seed=next(seeds)), results)


def softmax_ce(inputs: Arrays, *, rows: int, classes: int) -> Work:
    x, y = _tensor(inputs["x"], True), _tensor(inputs["y"])

    def results() -> Arrays:
        loss = F.cross_entropy(x, y)
        return {"loss": _array(loss), "d_x": _array(pydl.autograd.grad(loss, x)[0])}

    return Work(lambda: pydl.autograd.grad(F.cross_entropy(x, y), x), results)


def conv(inputs: Arrays, *, kernel: int, stride: int, backward: bool, **sizes: int) -> Work:
    x, w = (_tensor(inputs[name], backward) for name in ("x", "w"))
    g = _tensor(inputs["g"]) if backward else None

    def step() -> tuple[pydl.Tensor, ...]:
        y = F.conv2d(x, w, stride=stride, padding=kernel // 2)
        return (y, *pydl.autograd.grad(y, (x, w), g)) if backward else (y,)

    return Work(step, lambda: dict(zip(("y", "d_x", "d_w"), (_array(t) for t in step()), strict=False)))


def _image_model(inputs: Arrays, layers: list[images.Layer]) -> nn.Sequential:
    model = image_modules.sequential(nn, layers)
    model.load_state_dict(_tensors(parameters(inputs)), strict=False)
    return _placed(model)


def _image_training(inputs: Arrays, layers: list[images.Layer], optimizer: str, bfloat16: bool = False) -> Work:
    model = _image_model(inputs, layers)
    rounding = partial(rounded_layers, model) if bfloat16 else contextlib.nullcontext
    x, y = _tensor(inputs["x"]), _tensor(inputs["y"])
    update: pydl.optim.Optimizer
    if optimizer == "adam":
        update = pydl.optim.Adam(model.parameters(), 1e-3)
    else:
        update = pydl.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)

    def step() -> pydl.Tensor:
        update.zero_grad()
        with rounding():
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        update.step()
        return loss

    def results() -> Arrays:
        dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
        for m in dropouts:
            m.p = 0.0
        found = training_results(inputs, lambda: step().item(), _current(model))
        for m in dropouts:
            m.p = 0.5
        return found

    return Work(step, results)


def batch_norm(inputs: Arrays, *, batch: int, channels: int, side: int) -> Work:
    x, g = _tensor(inputs["x"], True), _tensor(inputs["g"])
    layer = _placed(nn.BatchNorm2d(channels))

    def step() -> tuple[pydl.Tensor, ...]:
        y = layer(x)
        return y, *pydl.autograd.grad(y, (x, layer.weight, layer.bias), g)

    def results() -> Arrays:
        names = ("y", "d_x", "d_weight", "d_bias")
        return {name: _array(t) for name, t in zip(names, step(), strict=True)}

    return Work(step, results)


def cnn(inputs: Arrays, *, batch: int, **sizes: Any) -> Work:
    return _image_training(inputs, images.cnn(**sizes), "adam")


def resnet(inputs: Arrays, *, batch: int, size: int, widths: tuple[int, ...], bfloat16: bool = False) -> Work:
    return _image_training(inputs, images.resnet(widths), "sgd", bfloat16)


def vgg(inputs: Arrays, *, batch: int, **sizes: Any) -> Work:
    model = _image_model(inputs, images.vgg(**sizes)).eval()
    x = _tensor(inputs["x"])

    def step() -> pydl.Tensor:
        with pydl.no_grad():
            return model(x)

    return Work(step, lambda: {"y": _array(step())})


def adam(inputs: Arrays, *, tensors: int, side: int) -> Work:
    params = [nn.Parameter(_tensor(p)) for p in inputs["p"].copy()]
    gradients = [_tensor(g) for g in inputs["g"]]
    update = pydl.optim.Adam(params)

    def give(order: list[pydl.Tensor]) -> None:
        for p, g in zip(params, order, strict=True):
            p.grad = g

    give(gradients)

    def results() -> Arrays:
        for order in (gradients, gradients[::-1]):
            give(order)
            update.step()
        return {"change": np.stack([_array(p) for p in params]).astype(np.float64) - inputs["p"]}

    return Work(update.step, results)


def add_backward(inputs: Arrays) -> Work:
    x = _tensor(inputs["x"], True)

    def results() -> Arrays:
        y = x + x
        y.backward()
        assert x.grad is not None
        return {"y": _array(y), "d_x": _array(x.grad).copy()}

    return Work(lambda: (x + x).backward(), results)


def add_recorded(inputs: Arrays) -> Work:
    x = _tensor(inputs["x"], True)
    return Work(lambda: x + x, lambda: {"y": _array(x + x), "recorded": np.array(int((x + x).requires_grad))})


def copy(inputs: Arrays, *, n: int) -> Work:
    x = _tensor(inputs["x"])
    y = pydl.zeros_like(x)
    return Work(lambda: y.copy_(x), lambda: {"y": _array(y.copy_(x))})


def elementwise(function: Callable[[pydl.Tensor], pydl.Tensor], inputs: Arrays, *, n: int) -> Work:
    x = _tensor(inputs["x"])
    return Work(lambda: function(x), lambda: {"y": _array(function(x))})


BUILDERS: dict[str, Callable[..., Work]] = {
    "gemm": gemm,
    "gemm_tf32": partial(gemm, precision="tf32"),
    "gemm_bfloat16": partial(gemm, precision="bfloat16"),
    "mlp": mlp,
    "char_lm": char_lm,
    "sample": sample,
    "softmax_ce": softmax_ce,
    "conv": conv,
    "cnn": cnn,
    "resnet": resnet,
    "resnet_bfloat16": partial(resnet, bfloat16=True),
    "char_lm_captured": partial(char_lm, captured=True),
    "vgg": vgg,
    "batch_norm": batch_norm,
    "adam": adam,
    "adam_compiled_step": adam,
    "add_backward": add_backward,
    "add_recorded": add_recorded,
    "gelu": partial(elementwise, F.gelu),
    "exp": partial(elementwise, pydl.exp),
    "copy": copy,
    "import_time": partial(footprint.import_time, "pydl"),
    "installed_size": partial(footprint.installed_size, "pydl"),
}


def builder(kind: str) -> Callable[..., Any] | None:
    """What makes a case of this kind ready, or None where this side has no such thing."""
    return BUILDERS.get(kind)
