"""DataParallel, which in PyTorch copies a model to several GPUs. Here is one device, which runs the model as it is."""

from __future__ import annotations

from typing import Any

from pydl.nn.module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """A model under the name ``module``, as programs and their saved weights have it.

    Args:
        module: the model.
        device_ids, output_device, dim: accepted and ignored.

    >>> import pydl
    >>> from pydl import nn
    >>> model = nn.DataParallel(nn.Linear(3, 2))
    >>> model(pydl.ones((4, 3))).shape, list(model.state_dict())
    ((4, 2), ['module.weight', 'module.bias'])
    """

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """What the module makes of the inputs."""
        return self.module(*inputs, **kwargs)
