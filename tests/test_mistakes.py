"""The commonest mistakes and what they are answered: the layer, what it got, what it expected, and the fix."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import constraints, nn, optim, regularizers
from pydl.nn import functional as F

ones = pydl.ones


def ids(*values: int) -> pydl.Tensor:
    return pydl.asarray(values)


def weights() -> list[pydl.Tensor]:
    return [ones((2,), requires_grad=True)]


def softmax_along(axis: Any) -> nn.Module:
    layer = nn.Softmax(dim=0)
    layer.dim = axis
    return layer


def without_super() -> Any:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(2, 2)

    return Net()


def misspelt_forward() -> Any:
    class Net(nn.Module):
        def foward(self, x: Any) -> Any:
            return x

    return Net()(ones((1,)))


# name -> (the mistake, its type, what its message holds in this order)
MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "image into a dense layer": (
        lambda: nn.Sequential(nn.ReLU(), nn.Linear(784, 10))(ones((32, 28, 28))), ValueError,
        ["[linear] got an input of shape (32, 28, 28)", "expected (..., 784)", "nn.Flatten()",
         "layer '1' of Sequential, Linear(in_features=784, out_features=10"]),
    "dense layer of another size": (
        lambda: nn.Linear(12, 3)(ones((5, 8))), ValueError,
        ["[linear] got an input of shape (5, 8)", "expected (..., 12)", "make the layer with in_features=8",
         "in Linear(in"]),
    "channels last": (
        lambda: nn.Conv2d(3, 8, 3)(ones((4, 32, 32, 3))), ValueError,
        ["[conv2d] got an input of shape (4, 32, 32, 3)", "expected 3", "permute_dims(x, (0, 3, 1, 2))",
         "in Conv2d(3, 8"]),
    "no axis of channels": (
        lambda: nn.Conv2d(1, 8, 3)(ones((4, 28, 28))), ValueError,
        ["[conv2d] got an input of shape", "4, 28, 28)", "expected 1", "expand_dims(x, axis=1)", "in Conv2d(1, 8"]),
    "features of a recurrent layer": (
        lambda: nn.LSTM(10, 20)(ones((5, 3, 8))), ValueError,
        ["[LSTM] got input of shape (5, 3, 8)", "expected (T, B, D)", "input_size = 10",
         "make the layer with input_size=8"]),
    "state of an LSTM": (
        lambda: nn.LSTM(10, 20)(ones((5, 3, 10)), ones((1, 3, 20))), TypeError,
        ["[LSTM] got a state of Tensor", "expected the pair (h, c)", "in LSTM(10, 20)"]),
    "output and state into the next layer": (
        lambda: nn.Sequential(nn.GRU(10, 20), nn.Linear(20, 2))(ones((5, 3, 10))), TypeError,
        ["expected a tensor, got tuple", "pass on the output alone", "layer '1' of Sequential, Linear"]),
    "NumPy array": (
        lambda: nn.Linear(3, 2)(np.ones((4, 3))), TypeError,
        ["expected a tensor, got numpy.ndarray", "pydl.asarray", "in Linear(in_features=3"]),
    "dtype of a recurrent layer": (
        lambda: nn.GRU(3, 2)(pydl.asarray(np.ones((4, 1, 3)))), TypeError,
        ["[GRU] got input of pydl.float64", "expected the same", "x.astype(pydl.float32)"]),
    "floats as tokens": (
        lambda: nn.Embedding(10, 4)(ones((2, 3))), TypeError,
        ["[embedding] got indices of float32", "expected integers", "astype(int64)", "in Embedding(10, 4)"]),
    "token out of the vocabulary": (
        lambda: nn.Embedding(10, 4)(ids(3, 10)), IndexError,
        ["[embedding] index 10 at position 1", "expected 0 to 9", "in Embedding(10, 4)"]),
    "floats as classes": (
        lambda: nn.CrossEntropyLoss()(ones((4, 3)), ones((4,))), ValueError,
        ["[cross_entropy] got a float32 target of shape (4,)", "expected (4, 3)", "astype(int64)",
         "in CrossEntropyLoss()"]),
    "class that does not exist": (
        lambda: F.cross_entropy(ones((4, 3)), ids(1, 2, 3, 0)), IndexError,
        ["[cross_entropy] target 3 at position 2", "3 classes"]),
    "column against vector": (
        lambda: nn.MSELoss()(ones((4, 1)), ones((4,))), ValueError,
        ["[mse_loss] got input of shape (4, 1) and target of shape (4,)", "expected the same", "reshape",
         "in MSELoss()"]),
    "logits as probabilities": (
        lambda: nn.BCELoss()(ones((4, 1)) * 3, ones((4, 1))), ValueError,
        ["[binary_cross_entropy] got input from 3 to 3", "expected probabilities", "binary_cross_entropy_with_logits"]),
    "batch of one": (
        lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))(ones((1, 2))), ValueError,
        ["[BatchNorm1d] got one value per channel", "drop_last=True", "eval()", "layer '1' of Sequential"]),
    "percent": (
        lambda: nn.Dropout(50), ValueError, ["[Dropout] got p = 50", "expected a probability from 0 to 1"]),
    "name of an argument": (
        lambda: nn.Linear(3, units=2), TypeError,
        ["[Linear] got the unknown argument 'units'", "expected Linear(in_features", "did you mean 'out_features'?"]),
    "name of an option": (
        lambda: optim.Adam([ones((2,), requires_grad=True)], learning_rate=0.1), TypeError,
        ["[Adam] got the unknown argument 'learning_rate'", "expected Adam(params, lr=0.001", "did you mean 'lr'?"]),
    "name of a parameter": (
        lambda: nn.Linear(3, 2).weigth, AttributeError, ["[Linear] has no parameter",
         "'weigth'; did you mean 'weight'?"]),
    "method in place of its result": (
        lambda: optim.SGD(nn.Linear(3, 2).parameters, lr=0.1), TypeError,
        ["[SGD] got a method", "expected tensors", "model.parameters()"]),
    "loss made of tensors": (
        lambda: nn.CrossEntropyLoss(ones((4, 3)), ids(0, 1, 2, 0)), TypeError,
        ["[CrossEntropyLoss] got a tensor", "expected bool",
         "make it first and call it then: CrossEntropyLoss(...)(x)"]),
    "quotient as a size": (
        lambda: nn.Linear(784 / 2, 10), TypeError, ["[Linear] got sizes (10, 392.0)", "expected whole numbers", "//"]),
    "list of layers": (
        lambda: nn.Sequential([nn.ReLU()]), TypeError, ["[Sequential] got a list", "expected a Module", "(*layers)"]),
    "class among layers": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU), TypeError,
        ["[Sequential] got the class ReLU", "expected a Module", "ReLU()"]),
    "device": (
        lambda: nn.Linear(3, 2).to("cuda:7"), (NotImplementedError, ValueError), ["[device]", "'cuda:7'", "CUDA"]),
    "other weights": (
        lambda: nn.Linear(3, 2).load_state_dict({"module.weight": ones((2, 3)), "bias": ones((4,))}), ValueError,
        ["does not fit Linear", "missing: weight", "unexpected: module.weight", "bias: got shape (4,), expected (2,)"]),
    "no super().__init__()": (without_super, AttributeError, ["[Net] call super().__init__() before assigning 'fc'"]),
    "misspelt forward": (misspelt_forward, NotImplementedError, ["[Net] has no forward method", "'foward'"]),
    "second backward": (
        lambda: [loss.backward() for loss in [nn.Linear(3, 1)(ones((2, 3))).sum()] * 2], Exception,
        ["[backward]", "freed by an earlier backward", "retain_graph=True"]),
    "batch norm without eps": (
        lambda: nn.BatchNorm2d(3, eps=0.0), ValueError, ["[BatchNorm2d] got eps 0.0", "expected a positive number"]),
    "probabilities and an ignored class": (
        lambda: nn.CrossEntropyLoss(ignore_index=1)(ones((2, 3)), ones((2, 3))), ValueError,
        ["[cross_entropy] got ignore_index 1 with probabilities", "expected class numbers", "weigh the rows"]),
    "a size in the place of a switch": (
        lambda: nn.LSTM(3, 5, 2, 64), TypeError, ["[LSTM] got bias 64", "expected True or False"]),
    "negative size of pooling": (
        lambda: nn.AdaptiveAvgPool2d((-1, 2)), ValueError,
        ["[AdaptiveAvgPool2d] got output_size (-1, 2)", "expected numbers of 0 or more"]),
    "no parameters at all": (
        lambda: optim.Adam(None), TypeError,
        ["[Adam] got None as parameters", "expected tensors", "model.parameters()"]),
    "rates in one tensor": (
        lambda: optim.SGD([ones((2,))], lr=ones((2,))), ValueError,
        ["[SGD] got lr of shape (2,)", "expected one number"]),
    "rate as a text": (
        lambda: optim.SGD([ones((2,))], lr="fast"), TypeError, ["[SGD] got lr = 'fast'", "expected float"]),
    "names for some": (
        lambda: optim.SGD([("w", ones((2,))), ones((2,))], lr=0.1), ValueError,
        ["[SGD] got parameters with and without names", "expected all or none"]),
    "size as a text": (
        lambda: nn.Linear("3", 2), TypeError, ["[Linear] got in_features = '3'", "expected int"]),
    "nothing as a size": (
        lambda: nn.Linear(3, None), TypeError, ["[Linear] got out_features = None", "expected int"]),
    "probability as a text": (
        lambda: nn.Dropout(p="0.5"), TypeError, ["[Dropout] got p = '0.5'", "expected float"]),
    "list as a size": (
        lambda: nn.LSTM(3, [4, 5]), TypeError, ["[LSTM] got hidden_size = [4, 5]", "expected int"]),
    "axis as a text": (
        lambda: softmax_along("1")(ones((2, 2))), TypeError,
        ["[softmax] got (Tensor, '1'), expected (x: Tensor, axis: int)", "in Softmax(dim=1)"]),
    "hook that is no function": (
        lambda: nn.ReLU().register_forward_hook(3), TypeError, ["[ReLU] got a int", "expected a function"]),
    "one beta": (
        lambda: optim.Adam(weights(), betas=0.9), TypeError, ["[Adam] got betas = 0.9", "expected two numbers"]),
    "the loss into the step": (
        lambda: optim.SGD(weights(), lr=0.1).step(ones((1,))), TypeError,
        ["[SGD] step() got a Tensor", "expected a function", "call loss.backward() before it"]),
    "a model's state into an optimizer": (
        lambda: optim.SGD(weights(), lr=0.1).load_state_dict(nn.Linear(2, 2).state_dict()), ValueError,
        ["[SGD] got ['weight', 'bias']", "expected 'state' and 'param_groups'"]),
    "one milestone": (
        lambda: optim.lr_scheduler.MultiStepLR(optim.SGD(weights()), 30), TypeError,
        ["[MultiStepLR] got milestones 30", "expected a list"]),
    "factor as a text": (
        lambda: optim.lr_scheduler.ExponentialLR(optim.SGD(weights()), "0,9"), TypeError,
        ["[ExponentialLR] got gamma '0,9'", "expected a number"]),
    "plateau of nothing": (
        lambda: optim.lr_scheduler.ReduceLROnPlateau(optim.SGD(weights())).step(), TypeError,
        ["[ReduceLROnPlateau] step() got no metric", "expected", "step(validation_loss)"]),
    "a state that is no schedule's": (
        lambda: optim.lr_scheduler.StepLR(optim.SGD(weights()), 3).load_state_dict({"weight": 1}), ValueError,
        ["[StepLR] got ['weight']", "expected what state_dict() gave"]),
    "average of parameters": (
        lambda: optim.swa_utils.AveragedModel(weights()), TypeError,
        ["[AveragedModel] got a list", "expected the model"]),
    "penalty of a tensor": (
        lambda: regularizers.penalty(ones((2,))), TypeError, ["[penalty] got a Tensor", "expected the model"]),
    "word of a regularizer": (
        lambda: regularizers.L2(l=0.1), TypeError,
        ["[L2] got the unknown argument 'l'", "expected L2(l2=0.01", "did you mean 'l2'?"]),
    "rate of a regularizer as a text": (
        lambda: regularizers.L1("0.1"), TypeError, ["[L1] got l1 = '0.1'", "expected float"]),
    "word of a constraint": (
        lambda: constraints.MaxNorm(max=3), TypeError,
        ["[MaxNorm] got the unknown argument 'max'", "expected MaxNorm(max_value=2.0"]),
    "proximal steps of a model": (
        lambda: regularizers.ProximalL1(nn.Linear(2, 2)), TypeError,
        ["[ProximalL1] got a Linear", "expected the optimizer"]),
    "a layer's initializer": (
        lambda: nn.init.xavier_uniform_(nn.Linear(2, 2)), TypeError,
        ["[xavier_uniform_] got a Linear", "expected a tensor", "layer.weight"]),
    "NumPy array to be initialized": (
        lambda: nn.init.zeros_(np.ones(3)), TypeError, ["[constant_] got a ndarray", "expected a tensor"]),
    "clipping a number": (
        lambda: nn.utils.clip_grad_norm_(3.0, 1.0), TypeError,
        ["[clip_grad] got a float", "expected tensors", "model.parameters()"]),
    "dtype of a cell": (
        lambda: nn.LSTMCell(3, 4)(pydl.asarray(np.ones((2, 3)))), TypeError,
        ["[LSTMCell] got input of pydl.float64", "expected the same", "x.astype(pydl.float32)", "in LSTMCell(3, 4)"]),
    "device of a layer": (
        lambda: nn.Linear(3, 2, device="gpu"), ValueError, ["[Linear] 'gpu' is no device", "expected 'cpu'"]),
    "dtype of a layer": (
        lambda: nn.Conv2d(3, 2, 1, dtype="float33"), TypeError,
        ["[Conv2d] 'float33' is no dtype", "expected one like pydl.float32"]),
    "whole numbers as weights": (
        lambda: nn.Linear(3, 2, dtype=pydl.int64), TypeError, ["[Linear] got pydl.int64", "expected a floating dtype"]),
    "parameter of whole numbers": (
        lambda: nn.Parameter(ids(1, 2)), TypeError,
        ["[Parameter] got pydl.int64", "expected a floating dtype", "requires_grad=False"]),
    "index of a list of layers": (
        lambda: nn.ModuleList([nn.ReLU()])["0"], TypeError,
        ["[ModuleList] got '0' as index", "expected a whole number"]),
    "backward of many numbers": (
        lambda: nn.Linear(3, 2)(ones((2, 3))).backward(), Exception,
        ["[backward]", "got shape (2, 2)", "reduce it", "sum()"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name: str) -> None:
    call, error, parts = MISTAKES[name]
    with pytest.raises(error) as caught:
        call()
    assert re.search(".*".join(map(re.escape, parts)), str(caught.value), re.DOTALL), str(caught.value)


def test_the_layer_is_named_by_its_whole_path() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.ModuleDict({"head": nn.Sequential(nn.ReLU(), nn.Linear(4, 2))})

        def forward(self, x: Any) -> Any:
            return self.body["head"](x)

    with pytest.raises(ValueError, match=r"\n  in layer '1' of Sequential, Linear\(in_features=4"):
        Net().body["head"](ones((2, 3)))
    outer = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh(), nn.Linear(4, 2))))
    with pytest.raises(ValueError, match=r"\n  in layer '0\.1\.1' of Sequential, Linear\(in_features=4") as caught:
        outer(ones((2, 3)))
    assert str(caught.value).count("\n") == 1


def test_other_peoples_errors_are_left_as_they_are() -> None:
    class Net(nn.Module):
        def forward(self, x: Any) -> Any:
            raise ValueError("mine", x)

    with pytest.raises(ValueError) as caught:
        nn.Sequential(Net())(3)
    assert caught.value.args == ("mine", 3)


def test_a_missing_attribute_is_quiet_until_read() -> None:
    layer = nn.Linear(3, 2)
    assert not hasattr(layer, "weigth")
    assert getattr(layer, "gain", None) is None
    assert pickle.loads(pickle.dumps(layer)).in_features == 3


def test_hints_leave_layers_of_ones_own_alone() -> None:
    class LinearAttention(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.reshape((7,))

    class ConvBlock(nn.Conv2d):
        pass

    with pytest.raises(ValueError, match=r"^\[reshape\].*\n  in LinearAttention\(\)"):
        LinearAttention()(ones((3,)))
    with pytest.raises(ValueError, match="make the layer with in_channels=5"):
        ConvBlock(3, 4, 1)(ones((2, 5, 6, 6)))
    with pytest.raises(ValueError, match=r"^\[linear\].*\n  in LinearCrossEntropyLoss"):
        nn.LinearCrossEntropyLoss(3, 2)(ones((4, 5)), ids(0, 1, 0, 1))
