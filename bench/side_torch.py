"""PyTorch's side of the cases, eager and through torch.compile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bench import footprint, image_modules, images
from bench.kinds import Arrays, Work, parameters, training_results

_compiled = False
_device = "cpu"


def start(threads: int, compiled: bool = False, device: str = "cpu") -> dict[str, str]:
    """Fixes the number of threads, the device and whether things are compiled, and tells what runs."""
    global _compiled, _device
    _compiled, _device = compiled, device
    torch.set_num_threads(threads)
    if device == "cpu":
        return {"version": torch.__version__}
    torch.backends.cudnn.allow_tf32 = False  # on by default, unlike that of products
    return {"version": torch.__version__, "device": torch.cuda.get_device_name()}


def wait() -> None:
    """Until all that was asked for is done."""
    if _device != "cpu":
        torch.cuda.synchronize()


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).to(_device)


def _array(x: torch.Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()


def _maybe_compiled(function: Any) -> Any:
    return torch.compile(function) if _compiled else function


def _load(model: nn.Module, inputs: Arrays) -> None:
    model.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in parameters(inputs).items()})
    model.to(_device)


def _current(model: nn.Module) -> Callable[[], Arrays]:
    return lambda: {name: _array(p) for name, p in model.named_parameters()}


def gemm(inputs: Arrays, *, n: int, precision: str = "float32") -> Work:
    x = _tensor(inputs["x"])
    if precision == "bfloat16":
        x = x.bfloat16()
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    function = _maybe_compiled(lambda x: x @ x)
    return Work(lambda: function(x), lambda: {"y": _array(function(x).float())})


def mlp(inputs: Arrays, *, batch: int, widths: tuple[int, ...], optimizer: str) -> Work:
    layers: list[nn.Module] = []
    for d, h in itertools.pairwise(widths):
        layers += [nn.Linear(d, h), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    _load(model, inputs)
    called = _maybe_compiled(model)
    x, y = _tensor(inputs["x"]), _tensor(inputs["y"])
    update: torch.optim.Optimizer
    if optimizer == "adam":
        update = torch.optim.Adam(model.parameters(), 1e-3)
    else:
        update = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)

    def step() -> torch.Tensor:
        update.zero_grad(set_to_none=True)
        loss = F.cross_entropy(called(x), y)
        loss.backward()
        update.step()
        return loss

    return Work(step, partial(training_results, inputs, lambda: step().item(), _current(model)))


class _CharLM(nn.Module):
    """Ids (B, T) and a state to logits (B, T, V) and the new state."""

    def __init__(self, inputs: Arrays, cell: str, hidden: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.rnn = kind(hidden, hidden, layers, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary)
        _load(self, inputs)

    def forward(self, ids: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        y, state = self.rnn(self.embedding(ids), state)
        return self.output(y), state


def char_lm(inputs: Arrays, *, cell: str, hidden: int, layers: int, batch: int, steps: int, vocabulary: int) -> Work:
    model = _CharLM(inputs, cell, hidden, layers, vocabulary)
    called = _maybe_compiled(model)
    x, y = _tensor(inputs["x"]), _tensor(inputs["y"])
    update = torch.optim.Adam(model.parameters(), 2e-3)

    def step() -> torch.Tensor:
        update.zero_grad(set_to_none=True)
        logits, _ = called(x)
        loss = F.cross_entropy(logits.reshape(-1, vocabulary), y.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        update.step()
        return loss

    return Work(step, partial(training_results, inputs, lambda: step().item(), _current(model)))


def sample(inputs: Arrays, *, cell: str, hidden: int, layers: int, length: int, vocabulary: int) -> Work:
    called = _maybe_compiled(_CharLM(inputs, cell, hidden, layers, vocabulary).eval())

    def generate(draw: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        ids, state, drawn = torch.zeros(1, 1, dtype=torch.long, device=_device), None, []
        with torch.inference_mode():
            for _ in range(length):
                logits, state = called(ids, state)
                ids = draw(logits[:, -1])
                drawn.append(ids)
        return drawn

    def results() -> Arrays:
        return {"ids": np.array([int(i) for i in generate(lambda logits: logits.argmax(-1, keepdim=True))])}

    return Work(lambda: generate(lambda logits: torch.multinomial(logits.softmax(-1), 1)), results)


def softmax_ce(inputs: Arrays, *, rows: int, classes: int) -> Work:
    x, y = _tensor(inputs["x"]).requires_grad_(), _tensor(inputs["y"])
    loss_of = _maybe_compiled(F.cross_entropy)

    def results() -> Arrays:
        loss = loss_of(x, y)
        return {"loss": _array(loss), "d_x": _array(torch.autograd.grad(loss, x)[0])}

    return Work(lambda: torch.autograd.grad(loss_of(x, y), x), results)


def conv(inputs: Arrays, *, kernel: int, stride: int, backward: bool, **sizes: int) -> Work:
    x, w = (_tensor(inputs[name]).requires_grad_(backward) for name in ("x", "w"))
    g = _tensor(inputs["g"]) if backward else None
    function = _maybe_compiled(lambda x, w: F.conv2d(x, w, stride=stride, padding=kernel // 2))

    def step() -> tuple[torch.Tensor, ...]:
        y = function(x, w)
        return (y, *torch.autograd.grad(y, (x, w), g)) if backward else (y,)

    return Work(step, lambda: dict(zip(("y", "d_x", "d_w"), (_array(t) for t in step()), strict=False)))


def _image_model(inputs: Arrays, layers: list[images.Layer]) -> nn.Sequential:
    model = image_modules.sequential(nn, layers)
    model.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in parameters(inputs).items()}, strict=False)
    return model.to(_device)


def _image_training(inputs: Arrays, layers: list[images.Layer], optimizer: str, bfloat16: bool = False) -> Work:
    model = _image_model(inputs, layers)
    called = _maybe_compiled(model)
    x, y = _tensor(inputs["x"]), _tensor(inputs["y"])
    update: torch.optim.Optimizer
    if optimizer == "adam":
        update = torch.optim.Adam(model.parameters(), 1e-3)
    else:
        update = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)

    def step() -> torch.Tensor:
        update.zero_grad(set_to_none=True)
        with torch.autocast(_device, torch.bfloat16, enabled=bfloat16):
            loss = F.cross_entropy(called(x), y)
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
    x, g = _tensor(inputs["x"]).requires_grad_(), _tensor(inputs["g"])
    layer = nn.BatchNorm2d(channels).to(_device)
    called = _maybe_compiled(layer)

    def step() -> tuple[torch.Tensor, ...]:
        y = called(x)
        return y, *torch.autograd.grad(y, (x, layer.weight, layer.bias), g)

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
    called = _maybe_compiled(model)
    x = _tensor(inputs["x"])

    def step() -> torch.Tensor:
        with torch.inference_mode():
            return called(x)

    return Work(step, lambda: {"y": _array(step())})


def adam(inputs: Arrays, *, tensors: int, side: int) -> Work:
    params = [nn.Parameter(_tensor(p)) for p in inputs["p"].copy()]
    gradients = [_tensor(g) for g in inputs["g"]]
    update = torch.optim.Adam(params)
    step = _maybe_compiled(update.step)

    def give(order: list[torch.Tensor]) -> None:
        for p, g in zip(params, order, strict=True):
            p.grad = g

    give(gradients)

    def results() -> Arrays:
        for order in (gradients, gradients[::-1]):
            give(order)
            step()
        return {"change": np.stack([_array(p) for p in params]).astype(np.float64) - inputs["p"]}

    return Work(step, results)


def add_backward(inputs: Arrays) -> Work:
    x = _tensor(inputs["x"]).requires_grad_()

    def results() -> Arrays:
        y = x + x
        y.backward()
        assert x.grad is not None
        return {"y": _array(y), "d_x": _array(x.grad).copy()}

    return Work(lambda: (x + x).backward(), results)


def add_recorded(inputs: Arrays) -> Work:
    x = _tensor(inputs["x"]).requires_grad_()
    return Work(lambda: x + x, lambda: {"y": _array(x + x), "recorded": np.array(int((x + x).requires_grad))})


def gelu(inputs: Arrays, *, n: int) -> Work:
    x = _tensor(inputs["x"])
    function = _maybe_compiled(F.gelu)
    return Work(lambda: function(x), lambda: {"y": _array(function(x))})


def exp(inputs: Arrays, *, n: int) -> Work:
    x = _tensor(inputs["x"])
    y = torch.empty_like(x)
    function = _maybe_compiled(torch.exp)
    return Work(lambda: function(x, out=y), lambda: {"y": _array(function(x, out=y))})


def copy(inputs: Arrays, *, n: int) -> Work:
    x = _tensor(inputs["x"])
    y = torch.empty_like(x)
    return Work(lambda: y.copy_(x), lambda: {"y": _array(y.copy_(x))})


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
    "char_lm_captured": char_lm,
    "vgg": vgg,
    "batch_norm": batch_norm,
    "adam": adam,
    "adam_compiled_step": adam,
    "add_backward": add_backward,
    "add_recorded": add_recorded,
    "gelu": gelu,
    "exp": exp,
    "copy": copy,
    "import_time": partial(footprint.import_time, "torch"),
    "installed_size": partial(footprint.installed_size, "torch"),
}
_EAGER_ONLY = {"adam", "add_backward", "add_recorded", "copy", "import_time", "installed_size"}


def builder(kind: str) -> Callable[..., Any] | None:
    """What makes a case of this kind ready, or None where this side has no such thing."""
    return None if _compiled and kind in _EAGER_ONLY else BUILDERS.get(kind)
