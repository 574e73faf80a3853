"""Training with numbers of bfloat16: what goes into the large products is rounded to it, sums and weights stay float32.

On every CPU the rounded numbers are multiplied in float32, so there this saves neither time nor memory; it shows
whether a model bears those numbers. A CUDA device multiplies them as they are.
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
    rounding. On a CUDA device dense and convolutional layers work in bfloat16 itself, sums apart, so their biases and
    outputs are rounded as well; what they return is float32 again.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(layer.weight, 1.0 + 2**-9)
    >>> with rounded_layers(layer):
    ...     y = layer(pydl.ones((1, 1)))
    >>> y.item(), layer.weight.item()
    (1.0, 1.001953125)
    """
    kept: list[tuple[dict[str, Any], str, Any]] = []
    handles = []
    done: dict[tuple[int, bool], Tensor] = {}
    try:
        for module in model.modules():
            if not _is_product(module):
                continue
            native = _is_native(module)
            handles.append(
                module.register_forward_pre_hook(_narrow_inputs if native else _round_inputs, with_kwargs=True)
            )
            if native:
                handles.append(module.register_forward_hook(_widen_output))
            state = module.__dict__
            for name in module._parameter_names:
                parameter = state[name]
                if parameter is not None and (parameter.ndim > 1 or native) and parameter.dtype == pydl.float32:
                    key = id(parameter), native
                    if key not in done:
                        done[key] = _narrowed(parameter) if native else _rounded(parameter)
                    kept.append((state, name, parameter))
                    state[name] = done[key]
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


def _is_native(module: Module) -> bool:
    """Whether its kernel takes bfloat16 as it is."""
    kind = isinstance(module, nn.Linear) or any(
        base.__name__.lstrip("_").startswith("Conv") for base in type(module).__mro__
    )
    weight = getattr(module, "weight", None)
    return kind and isinstance(weight, pydl.Tensor) and weight.is_cuda


def _narrowed(t: Any) -> Any:
    if isinstance(t, pydl.Tensor) and t.dtype == pydl.float32:
        return t.astype(pydl.bfloat16)
    return t


def _rounded(t: Any) -> Any:
    narrowed = _narrowed(t)
    return t if narrowed is t else narrowed.astype(pydl.float32)


def _narrow_inputs(module: Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    return map_leaves(_narrowed, args), map_leaves(_narrowed, kwargs)


def _widen_output(module: Module, args: Any, output: Any) -> Any:
    return output.astype(pydl.float32) if output.dtype == pydl.bfloat16 else output


def _round_inputs(module: Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    return map_leaves(_rounded, args), map_leaves(_rounded, kwargs)
