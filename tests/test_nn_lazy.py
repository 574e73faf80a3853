"""Lazily sized layers: what they become, state, conversion, copies, optimizers, errors."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from tolerances import assert_near, assert_same_bits

LAYERS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("Linear", {"out_features": 3}, (4, 2, 5)),
    ("Linear", {"out_features": 3, "bias": False}, (5,)),
    ("Conv1d", {"out_channels": 4, "kernel_size": 3, "groups": 2}, (2, 6, 7)),
    ("Conv2d", {"out_channels": 4, "kernel_size": (3, 2), "stride": 2, "padding": 1, "bias": False}, (2, 3, 7, 6)),
    ("Conv2d", {"out_channels": 4, "kernel_size": 3, "padding_mode": "circular", "padding": 1}, (3, 7, 6)),
    ("Conv3d", {"out_channels": 2, "kernel_size": 2}, (1, 3, 4, 4, 4)),
    ("ConvTranspose1d", {"out_channels": 4, "kernel_size": 3}, (2, 3, 7)),
    ("ConvTranspose2d", {"out_channels": 4, "kernel_size": 3, "stride": 2, "output_padding": 1}, (2, 3, 5, 4)),
    ("ConvTranspose3d", {"out_channels": 2, "kernel_size": 2}, (1, 3, 4, 4, 4)),
    ("BatchNorm1d", {}, (4, 5)),
    ("BatchNorm1d", {"affine": False}, (4, 5, 3)),
    ("BatchNorm2d", {"track_running_stats": False, "eps": 1e-3}, (4, 5, 3, 2)),
    ("BatchNorm3d", {"momentum": None}, (4, 5, 3, 2, 2)),
    ("InstanceNorm1d", {"affine": True, "track_running_stats": True}, (4, 5, 3)),
    ("InstanceNorm2d", {"affine": True, "track_running_stats": False}, (5, 3, 4)),
    ("InstanceNorm3d", {"affine": False, "track_running_stats": False}, (2, 5, 3, 2, 2)),
]  # fmt: skip
IDS = [f"{name}-{sorted(options)}" for name, options, _ in LAYERS]


@pytest.mark.parametrize(("name", "options", "shape"), LAYERS, ids=IDS)
def test_becomes_the_plain_layer(name: str, options: dict[str, Any], shape: tuple[int, ...], rng: Any) -> None:
    lazy = getattr(nn, f"Lazy{name}")(**options)
    plain_class = getattr(nn, name)
    assert isinstance(lazy, plain_class)
    assert type(lazy) is not plain_class
    assert f"Lazy{name}(" in repr(lazy)
    params = list(lazy.parameters())
    channel = -1 if name == "Linear" else 1 if name.startswith("Batch") else -int(name[-2]) - 1
    size = shape[channel]
    plain = plain_class(size, **options)
    assert lazy.has_uninitialized_params() == any(v.ndim > 0 for v in plain.state_dict().values())
    assert set(lazy.state_dict()) == set(plain.state_dict())
    x = pydl.asarray(rng.normal(size=shape).astype("float32"))
    pydl.manual_seed(3)
    y = lazy(x)
    assert type(lazy) is plain_class
    assert repr(lazy) == repr(plain)
    assert [id(p) for p in lazy.parameters()] == [id(p) for p in params]  # the same objects
    assert all(type(p) is nn.Parameter for p in params)
    pydl.manual_seed(3)
    plain = plain_class(size, **options)
    for key, value in plain.state_dict().items():
        if "running" not in key and "num_batches" not in key:
            assert_same_bits(lazy.state_dict()[key].numpy(), value.numpy(), key)
    assert_same_bits(y.detach().numpy(), plain(x).detach().numpy())
    public = {k: v for k, v in plain.__dict__.items() if not isinstance(v, pydl.Tensor)}
    assert {k: v for k, v in lazy.__dict__.items() if not isinstance(v, pydl.Tensor)} == public
    assert_same_bits(copy.deepcopy(lazy)(x).detach().numpy(), plain(x).detach().numpy())


def network() -> Any:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))


def test_copies_pickles_conversion_and_state(rng: np.random.Generator) -> None:
    x = pydl.asarray(rng.normal(size=(3, 2, 5, 5)))
    for net in (copy.deepcopy(network()), pickle.loads(pickle.dumps(network())), network()):
        assert net[4].has_uninitialized_params()
        net.double()
        assert net(x).shape == (3, 2)
        assert all(v.dtype == pydl.float64 for k, v in net.state_dict().items() if "num_batches" not in k)
        assert type(net[1]) is nn.BatchNorm2d
    fresh = network().double()
    fresh.load_state_dict(net.state_dict())
    assert not fresh[0].has_uninitialized_params()
    assert type(fresh[0]) is nn.LazyConv2d
    assert_same_bits(fresh.eval()(x).detach().numpy(), net.eval()(x).detach().numpy())
    assert fresh[0].in_channels == 2
    assert type(fresh[0]) is nn.Conv2d
    wrong = network().double()
    wrong.load_state_dict(net.state_dict())
    with pytest.raises(ValueError, match=r"\[LazyConv2d\] the loaded weight has shape \(4, 2, 3, 3\)"):
        wrong(pydl.ones((3, 7, 5, 5), dtype=pydl.float64))


def test_an_optimizer_may_have_the_parameters_already(rng: np.random.Generator) -> None:
    x = pydl.asarray(rng.normal(size=(3, 5)).astype("float32"))
    for name in ("SGD", "Adam", "Adafactor", "RMSprop"):
        layer = nn.LazyLinear(2)
        optimizer = getattr(optim, name)(layer.parameters(), lr=0.1)
        layer(x).sum().backward()
        before = layer.weight.detach().numpy().copy()
        optimizer.step()
        assert np.abs(layer.weight.detach().numpy() - before).max() > 1e-4
    with pytest.raises(ValueError, match=r"\[Adagrad\] got a parameter without a shape yet"):
        optim.Adagrad(nn.LazyLinear(2).parameters())


class LazyScale(nn.LazyModuleMixin):
    """A user's own, which stays what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.UninitializedParameter()
        self.register_buffer("calls", nn.UninitializedBuffer())

    def initialize_parameters(self, x: Any) -> None:
        if self.has_uninitialized_params():
            self.scale.materialize((x.shape[-1],))
            self.calls.materialize((1,))
            with pydl.no_grad():
                self.scale.fill_(2.0)
                self.calls.fill_(0.0)

    def forward(self, x: Any) -> Any:
        return self.scale * x


class LazyForgetful(LazyScale):
    def initialize_parameters(self, x: Any) -> None:
        self.calls.materialize((1,))


def test_a_lazy_layer_of_ones_own(rng: np.random.Generator) -> None:
    layer = LazyScale()
    x = rng.normal(size=(2, 3)).astype("float32")
    assert_near(layer(pydl.asarray(x)).detach().numpy(), 2 * x, 1e-7, 0)
    assert type(layer) is LazyScale
    assert type(layer.scale) is nn.Parameter
    assert type(layer.calls) is pydl.Tensor
    layer(pydl.asarray(x)).sum().backward()
    assert_near(layer.scale.grad.numpy(), x.sum(axis=0), 1e-5, 1e-6)
    with pytest.raises(ValueError, match=r"\[LazyForgetful\] initialize_parameters left scale without a shape"):
        LazyForgetful()(pydl.asarray(x))
    with pytest.raises(ValueError, match=r"\[LazyConv2d\] got input of shape \(3, 5\), expected 4 or 3 axes"):
        nn.LazyConv2d(2, 3)(pydl.ones((3, 5)))
    with pytest.raises(ValueError, match=r"\[LazyBatchNorm1d\] got input of shape \(3,\), which has no channels"):
        nn.LazyBatchNorm1d()(pydl.ones((3,)))


def test_same_names_as_pytorch() -> None:
    torch = pytest.importorskip("torch")
    for name in [n for n in dir(torch.nn) if n.startswith("Lazy")]:
        if hasattr(nn, name):
            theirs = getattr(torch.nn, name)
            options = (3,) if "Linear" in name else (3, 2) if "Conv" in name else ()
            assert set(getattr(nn, name)(*options).state_dict()) == set(theirs(*options).state_dict()), name
