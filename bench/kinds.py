"""What each kind of case computes: its random inputs, its result in float64, the work it counts. NumPy alone.

A trained model's parameters are the inputs with a dot in their name; its results are the losses of STEPS steps and, by
name, what those steps have added to each parameter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from bench import images, networks

Arrays = dict[str, np.ndarray]
Sizes = Mapping[str, Any]
STEPS = 2  # training steps that are compared


class Work(NamedTuple):
    """A case made ready by one side.

    Attributes:
        step: what is timed.
        results: computes what is compared with the reference; called once, before anything is timed.
        measure: replaces the timing of n steps, for what is not measured by calling step.
    """

    step: Callable[[], object]
    results: Callable[[], Arrays]
    measure: Callable[[int], float] | None = None


class Kind:
    """What a kind of case computes, apart from any side."""

    unit = "s"
    reduced: Sizes = {}  # sizes for tests  # noqa: RUF012

    def inputs(self, *rng: Any, **sizes: Any) -> Arrays:
        """The arrays drawn from a generator."""
        return {}

    def reference(self, *inputs: Any, **sizes: Any) -> Arrays:
        """The results that every side has to have, from inputs in float64."""
        return {}

    def flops(self, *args: Any, **sizes: Any) -> float:
        """Floating-point operations of a step, a multiply-add as two; 0 where another thing bounds it."""
        return 0.0

    def bytes(self, *args: Any, **sizes: Any) -> float:
        """Bytes that a step has to read and write; 0 where another thing bounds it."""
        return 0.0

    def tolerance(self, name: str) -> float:
        return 1e-6


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def uniform(rng: np.random.Generator, bound: float, *shape: int) -> np.ndarray:
    return ((2 * rng.random(shape, dtype=np.float32) - 1) * bound).astype(np.float32)


def parameters(inputs: Arrays) -> Arrays:
    """Those of the inputs that are trained."""
    return {name: a for name, a in inputs.items() if "." in name}


def training_results(inputs: Arrays, step: Callable[[], Any], current: Callable[[], Mapping[str, Any]]) -> Arrays:
    """Runs a side's first steps. step returns the loss, current the parameters by name."""
    losses = [float(step()) for _ in range(STEPS)]
    now = {name: np.asarray(value, np.float64) for name, value in current().items()}
    return {"losses": np.array(losses)} | {n: now[n] - a for n, a in parameters(inputs).items()}


class Gemm(Kind):
    """x @ x: in float32, in TF32 (factors of 10 bits, on a GPU) or in bfloat16."""

    reduced: Sizes = {"n": 37}  # noqa: RUF012

    def __init__(self, error: float = 1e-6) -> None:
        self._error = error

    def inputs(self, rng: np.random.Generator, *, n: int) -> Arrays:
        return {"x": normal(rng, n, n)}

    def reference(self, inputs: Arrays, *, n: int) -> Arrays:
        return {"y": inputs["x"] @ inputs["x"]}

    def flops(self, *, n: int) -> float:
        return 2.0 * n**3

    def tolerance(self, name: str) -> float:
        return self._error


class Copy(Kind):
    reduced: Sizes = {"n": 37}  # noqa: RUF012

    def inputs(self, rng: np.random.Generator, *, n: int) -> Arrays:
        return {"x": normal(rng, n)}

    def reference(self, inputs: Arrays, *, n: int) -> Arrays:
        return {"y": inputs["x"]}

    def bytes(self, *, n: int) -> float:
        return 8.0 * n


class Training(Kind):
    """Trains a model whose loss and gradients are known to networks.py."""

    def tolerance(self, name: str) -> float:
        # Adam's first steps are the signs of the gradients, whatever their size: rounding shows where they are near 0.
        return 1e-5 if name == "losses" else 1e-2

    def trained(
        self, inputs: Arrays, loss: Callable[[Arrays], tuple[float, Arrays]], update: networks.Optimizer
    ) -> Arrays:
        start = parameters(inputs)
        now = dict(start)
        losses = []
        for _ in range(STEPS):
            value, gradients = loss(now)
            losses.append(value)
            now = update(now, gradients)
        return {"losses": np.array(losses)} | {name: now[name] - start[name] for name in start}


class MLP(Training):
    reduced: Sizes = {"batch": 7}  # noqa: RUF012

    def inputs(self, rng: np.random.Generator, *, batch: int, widths: tuple[int, ...], optimizer: str) -> Arrays:
        arrays = {"x": normal(rng, batch, widths[0]), "y": rng.integers(0, widths[-1], batch)}
        for layer, (d, h) in enumerate(itertools.pairwise(widths)):
            arrays[f"{2 * layer}.weight"] = uniform(rng, d**-0.5, h, d)
            arrays[f"{2 * layer}.bias"] = uniform(rng, d**-0.5, h)
        return arrays

    def reference(self, inputs: Arrays, *, batch: int, widths: tuple[int, ...], optimizer: str) -> Arrays:
        update = networks.Adam(1e-3) if optimizer == "adam" else networks.SGD(1e-2, 0.9)
        return self.trained(inputs, lambda p: networks.mlp(p, inputs["x"], inputs["y"]), update)

    def flops(self, *, batch: int, widths: tuple[int, ...], optimizer: str) -> float:
        pairs = [d * h for d, h in itertools.pairwise(widths)]
        return 2.0 * batch * (3 * sum(pairs) - pairs[0])  # nobody wants the gradient of the input


def _lm_parameters(rng: np.random.Generator, cell: str, hidden: int, layers: int, vocabulary: int) -> Arrays:
    rows, bound = networks.GATES[cell] * hidden, hidden**-0.5
    arrays = {"embedding.weight": normal(rng, vocabulary, hidden)}
    for layer in range(layers):
        arrays[f"rnn.weight_ih_l{layer}"] = uniform(rng, bound, rows, hidden)
        arrays[f"rnn.weight_hh_l{layer}"] = uniform(rng, bound, rows, hidden)
        arrays[f"rnn.bias_ih_l{layer}"] = uniform(rng, bound, rows)
        arrays[f"rnn.bias_hh_l{layer}"] = uniform(rng, bound, rows)
    arrays["output.weight"] = uniform(rng, bound, vocabulary, hidden)
    arrays["output.bias"] = uniform(rng, bound, vocabulary)
    return arrays


class CharLM(Training):
    """Embedding, recurrent layers, linear layer, cross-entropy, clipping at norm 5, Adam at 2e-3; ids are (B, T)."""

    reduced: Sizes = {"hidden": 24, "batch": 3, "steps": 7}  # noqa: RUF012

    def inputs(
        self, rng: np.random.Generator, *, cell: str, hidden: int, layers: int, batch: int, steps: int, vocabulary: int
    ) -> Arrays:
        ids = rng.integers(0, vocabulary, (2, batch, steps))
        return {"x": ids[0], "y": ids[1]} | _lm_parameters(rng, cell, hidden, layers, vocabulary)

    def reference(self, inputs: Arrays, *, cell: str, layers: int, **sizes: int) -> Arrays:
        def loss(p: Arrays) -> tuple[float, Arrays]:
            value, gradients = networks.char_lm(p, inputs["x"].T, inputs["y"].T, cell, layers)
            return value, networks.clipped(gradients, 5.0)

        return self.trained(inputs, loss, networks.Adam(2e-3))

    def flops(self, *, cell: str, hidden: int, layers: int, batch: int, steps: int, vocabulary: int) -> float:
        weights = 2 * layers * networks.GATES[cell] * hidden**2 + vocabulary * hidden
        return 3 * 2.0 * batch * steps * weights


class Sample(Kind):
    """Generates text from id 0, a character at a time, each drawn from the softmax of the logits.

    Compared are the most probable characters instead, each fed back.
    """

    reduced: Sizes = {"hidden": 24, "length": 20}  # noqa: RUF012

    def inputs(
        self, rng: np.random.Generator, *, cell: str, hidden: int, layers: int, length: int, vocabulary: int
    ) -> Arrays:
        return _lm_parameters(rng, cell, hidden, layers, vocabulary)

    def reference(self, inputs: Arrays, *, cell: str, layers: int, length: int, **sizes: int) -> Arrays:
        return {"ids": networks.greedy(inputs, length, cell, layers)}


class SoftmaxCE(Kind):
    reduced: Sizes = {"rows": 13, "classes": 101}  # noqa: RUF012

    def inputs(self, rng: np.random.Generator, *, rows: int, classes: int) -> Arrays:
        return {"x": normal(rng, rows, classes), "y": rng.integers(0, classes, rows)}

    def reference(self, inputs: Arrays, *, rows: int, classes: int) -> Arrays:
        loss, d_x = networks.cross_entropy(inputs["x"], inputs["y"])
        return {"loss": np.array(loss), "d_x": d_x}

    def bytes(self, *, rows: int, classes: int) -> float:
        return 2.0 * 4 * rows * classes


class Conv(Kind):
    """A square 2-d convolution padded by half its kernel; with backward, the gradients of input and weight too."""

    reduced: Sizes = {"batch": 2, "size": 9, "channels": 5, "out_channels": 6}  # noqa: RUF012

    def inputs(self, rng: np.random.Generator, **sizes: Any) -> Arrays:
        n, c, o, size, k = (sizes[name] for name in ("batch", "channels", "out_channels", "size", "kernel"))
        arrays = {"x": normal(rng, n, c, size, size), "w": normal(rng, o, c, k, k)}
        if sizes["backward"]:
            out = self._out(size, k, sizes["stride"])
            arrays["g"] = normal(rng, n, o, out, out)
        return arrays

    def reference(self, inputs: Arrays, *, stride: int, backward: bool, **sizes: int) -> Arrays:
        y, gradients = networks.conv2d(inputs["x"], inputs["w"], stride, inputs["w"].shape[-1] // 2)
        if not backward:
            return {"y": y}
        d_x, d_w = gradients(inputs["g"])
        return {"y": y, "d_x": d_x, "d_w": d_w}

    def flops(self, **sizes: Any) -> float:
        out = self._out(sizes["size"], sizes["kernel"], sizes["stride"])
        pairs = sizes["channels"] * sizes["out_channels"] * sizes["kernel"] ** 2
        return 2.0 * sizes["batch"] * out**2 * pairs * (3 if sizes["backward"] else 1)

    def tolerance(self, name: str) -> float:
        return 6e-6  # of Winograd, and of a weight gradient summed over 50,000 positions

    @staticmethod
    def _out(size: int, kernel: int, stride: int) -> int:
        return (size + 2 * (kernel // 2) - kernel) // stride + 1


class ImageTraining(Training):
    """Trains an image network on a cross-entropy; without dropout where results are compared."""

    def __init__(
        self,
        layers: Callable[..., list[images.Layer]],
        optimizer: Callable[[], Any],
        reduced: Sizes,
        undetermined: tuple[str, ...] = (),
    ) -> None:
        self.layers, self.optimizer, self.reduced, self.undetermined = layers, optimizer, reduced, undetermined

    def tolerance(self, name: str) -> float:
        # A bias under batch normalization has no gradient but rounding's, of which Adam makes whole steps.
        # Where rounding turns one of the millions of choices that ReLU and pooling make, small gradients change sign: a
        # ResNet-18 in NumPy's own float32 is 1.5e-5 off in its losses and 0.047 in a weight's change.
        return math.inf if name in self.undetermined else 1e-4 if name == "losses" else 0.1

    def inputs(self, rng: np.random.Generator, *, batch: int, size: int, **sizes: Any) -> Arrays:
        layers = self.layers_of(size=size, **sizes)
        x = normal(rng, batch, layers[0][1], size, size)
        return {"x": x, "y": rng.integers(0, 10, batch)} | images.draw(rng, layers)

    def layers_of(self, **sizes: Any) -> list[images.Layer]:
        if "hidden" not in sizes:
            sizes.pop("size")
        return self.layers(**sizes)

    def reference(self, inputs: Arrays, *, batch: int, **sizes: Any) -> Arrays:
        layers = self.layers_of(**sizes)
        return self.trained(inputs, lambda p: images.loss(p, layers, inputs["x"], inputs["y"]), self.optimizer())

    def flops(self, *, batch: int, size: int, **sizes: Any) -> float:
        counts = images.multiply_adds(self.layers_of(size=size, **sizes), size)
        return 2.0 * batch * (3 * sum(counts) - counts[0])


class RoundedImageTraining(ImageTraining):
    """With the inputs and weights of its products in bfloat16, whose 8 bits leave steps near the exact ones."""

    def tolerance(self, name: str) -> float:
        return 0.05 if name == "losses" else math.inf


class ImageInference(Kind):
    reduced: Sizes = {"batch": 2, "size": 8, "widths": (4, 0, 5, 6, 0), "hidden": 9}  # noqa: RUF012

    def inputs(self, rng: np.random.Generator, *, batch: int, size: int, **sizes: Any) -> Arrays:
        return {"x": normal(rng, batch, 3, size, size)} | images.draw(rng, images.vgg(size=size, **sizes))

    def reference(self, inputs: Arrays, *, batch: int, **sizes: Any) -> Arrays:
        return {"y": images.run(parameters(inputs), images.vgg(**sizes), inputs["x"])[0]}

    def flops(self, *, batch: int, size: int, **sizes: Any) -> float:
        return 2.0 * batch * sum(images.multiply_adds(images.vgg(size=size, **sizes), size))

    def tolerance(self, name: str) -> float:
        return 2e-5  # of Winograd, through sixteen layers


class BatchNorm(Kind):
    """Batch normalization of (N, C, H, H) in training, with the gradients of input, weight and bias."""

    reduced: Sizes = {"batch": 3, "channels": 5, "side": 7}  # noqa: RUF012

    def inputs(self, rng: np.random.Generator, *, batch: int, channels: int, side: int) -> Arrays:
        shape = (batch, channels, side, side)
        return {"x": normal(rng, *shape), "g": normal(rng, *shape)}

    def reference(self, inputs: Arrays, *, batch: int, channels: int, side: int) -> Arrays:
        x, g, axes = inputs["x"], inputs["g"], (0, 2, 3)
        centered = x - x.mean(axes, keepdims=True)
        inverse = 1 / np.sqrt((centered**2).mean(axes, keepdims=True) + 1e-5)
        y = centered * inverse
        d_x = inverse * (g - g.mean(axes, keepdims=True) - y * (g * y).mean(axes, keepdims=True))
        return {"y": y, "d_x": d_x, "d_weight": (g * y).sum(axes), "d_bias": g.sum(axes)}

    def bytes(self, *, batch: int, channels: int, side: int) -> float:
        return 8.0 * 4 * batch * channels * side**2  # x twice and y; x and g twice and d_x

    def tolerance(self, name: str) -> float:
        return 1e-5


class AdamStep(Kind):
    """One step over many tensors. Compared are two steps, the gradients of the second in the other order.

    Users of torch.compile compile the model and leave the optimizer; "adam_compiled_step" compiles its step too.
    """

    reduced: Sizes = {"tensors": 3, "side": 19}  # noqa: RUF012

    def inputs(self, rng: np.random.Generator, *, tensors: int, side: int) -> Arrays:
        return {"p": normal(rng, tensors, side, side), "g": normal(rng, tensors, side, side)}

    def reference(self, inputs: Arrays, *, tensors: int, side: int) -> Arrays:
        update = networks.Adam(1e-3)
        p = {"p": inputs["p"]}
        for g in (inputs["g"], inputs["g"][::-1]):
            p = update(p, {"p": g})
        return {"change": p["p"] - inputs["p"]}

    def bytes(self, *, tensors: int, side: int) -> float:
        return 7.0 * 4 * tensors * side**2  # reads p, g, m and v, writes p, m and v

    def tolerance(self, name: str) -> float:
        return 1e-4  # the change is a thousandth of the parameter, in whose digits it is rounded


class AddBackward(Kind):
    def inputs(self, rng: np.random.Generator) -> Arrays:
        return {"x": normal(rng, 1)}

    def reference(self, inputs: Arrays) -> Arrays:
        return {"y": 2 * inputs["x"], "d_x": np.array([2.0])}


class AddRecorded(AddBackward):
    def reference(self, inputs: Arrays) -> Arrays:
        return {"y": 2 * inputs["x"], "recorded": np.array(1)}


class Elementwise(Kind):
    reduced: Sizes = {"n": 1001}  # noqa: RUF012

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.function = function

    def inputs(self, rng: np.random.Generator, *, n: int) -> Arrays:
        return {"x": normal(rng, n)}

    def reference(self, inputs: Arrays, *, n: int) -> Arrays:
        return {"y": self.function(inputs["x"])}

    def bytes(self, *, n: int) -> float:
        return 2.0 * 4 * n


class InstalledSize(Kind):
    unit = "B"


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution function at x."""
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))


KINDS: dict[str, Kind] = {
    "gemm": Gemm(),
    "gemm_tf32": Gemm(1e-3),
    "gemm_bfloat16": Gemm(1e-2),
    "copy": Copy(),
    "mlp": MLP(),
    "char_lm": CharLM(),
    "char_lm_captured": CharLM(),  # as a CUDA graph
    "sample": Sample(),
    "softmax_ce": SoftmaxCE(),
    "conv": Conv(),
    "cnn": ImageTraining(
        images.cnn,
        lambda: networks.Adam(1e-3),
        {"batch": 5, "size": 12, "widths": (4, 6)},
        undetermined=("0.bias", "4.bias"),
    ),
    "resnet": ImageTraining(
        images.resnet, lambda: networks.SGD(0.1, 0.9, 5e-4), {"batch": 5, "size": 8, "widths": (4, 6)}
    ),
    "resnet_bfloat16": RoundedImageTraining(
        images.resnet, lambda: networks.SGD(0.1, 0.9, 5e-4), {"batch": 5, "size": 8, "widths": (4, 6)}
    ),
    "vgg": ImageInference(),
    "batch_norm": BatchNorm(),
    "adam": AdamStep(),
    "adam_compiled_step": AdamStep(),
    "add_backward": AddBackward(),
    "add_recorded": AddRecorded(),
    "gelu": Elementwise(gelu),
    "exp": Elementwise(np.exp),
    "import_time": Kind(),
    "installed_size": InstalledSize(),
}
