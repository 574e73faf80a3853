"""Training with numbers of bfloat16: what goes into the large products is rounded to it, sums and weights stay float32.

Kernels here compute in float32, so this saves neither time nor memory; it shows whether a model bears those numbers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pydl
from pydl import nn
from pydl.train.structure import call_model, map_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydl import Tensor
    from pydl.nn import Module

__all__ = ["autocast_calls", "rounded_layers"]


def autocast_calls(dtype: Any) -> Callable[..., Any]:
    """A ``call_model`` whose layers see numbers of ``dtype``.

    Raises:
        ValueError: another dtype than bfloat16. float16 would need its gradients scaled, and no kernel here is faster
            with it.
    """
    if dtype not in ("bfloat16", pydl.bfloat16):
        raise ValueError(f"[Trainer] got autocast={dtype!r}, expected 'bfloat16' or None")

    def call(model: Module, x: Any) -> Any:
        with rounded_layers(model):
            return call_model(model, x)

    return call


@contextmanager
def rounded_layers(model: Module) -> Iterator[None]:
    """Within the block, dense, convolutional and recurrent layers of a float32 model see their inputs and weights
    (parameters of two axes and more) rounded to bfloat16, and so do the gradients on their way back through the
    rounding.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(layer.weight, 1.0 + 2**-9)
    >>> with rounded_layers(layer):
    ...     y = layer(pydl.ones((1, 1)))
    >>> y.item(), layer.weight.item()
    (1.0, 1.001953125)
    """
    kept: list[tuple[dict[str, Any], str, Any]] = []
    handles = []
    done: dict[int, Tensor] = {}
    try:
        for module in model.modules():
            if not _is_product(module):
                continue
            handles.append(module.register_forward_pre_hook(_round_inputs, with_kwargs=True))
            state = module.__dict__
            for name in module._parameter_names:
                parameter = state[name]
                if parameter is not None and parameter.ndim > 1 and parameter.dtype == pydl.float32:
                    if id(parameter) not in done:
                        done[id(parameter)] = _rounded(parameter)
                    kept.append((state, name, parameter))
                    state[name] = done[id(parameter)]
        yield
    finally:
        for state, name, parameter in kept:
            state[name] = parameter
        for handle in handles:
            handle.remove()


def _is_product(module: Module) -> bool:
    return isinstance(module, (nn.Linear, nn.Bilinear)) or any(
        base.__name__.lstrip("_").startswith(("Conv", "RNN", "LSTM", "GRU", "Recurrent"))
        for base in type(module).__mro__
    )


def _rounded(t: Any) -> Any:
    if isinstance(t, pydl.Tensor) and t.dtype == pydl.float32:
        return t.astype(pydl.bfloat16).astype(pydl.float32)
    return t


def _round_inputs(module: Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    return map_leaves(_rounded, args), map_leaves(_rounded, kwargs)
