"""SyncBatchNorm, whose statistics are those of all processes that train together; pydl trains in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, _BatchNorm

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pydl.nn.arguments import AttachedToNorm
    from pydl.nn.module import Module

__all__ = ["SyncBatchNorm"]


class SyncBatchNorm(_BatchNorm):
    """Batch normalization of (N, C, ...) over the batches of all processes, which is this one's: as BatchNorm.

    Args:
        num_features, eps, momentum, affine, track_running_stats, device, dtype, bias: as :class:`BatchNorm1d`.
        process_group: None (default): there are no groups of processes.

    >>> import pydl
    >>> from pydl import nn
    >>> model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)))
    >>> model(pydl.randn(2, 1, 5, 5)).shape, type(model[1]).__name__
    ((2, 3, 3, 3), 'SyncBatchNorm')
    """

    _ranks = (2, 3, 4, 5)
    _expected = "(N, C) or (N, C, ...)"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        **attached: Unpack[AttachedToNorm],
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        if process_group is not None:
            raise ValueError("[SyncBatchNorm] got a process_group, expected None: all training is in one process")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: None = None) -> Module:
        """The module with every batch normalization in it made a SyncBatchNorm with the same parameters and buffers."""
        if isinstance(module, (BatchNorm1d, BatchNorm2d, BatchNorm3d)):
            same = (module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
            synced = cls(*same, process_group)
            for name in (*module._parameter_names, *module._buffer_names):
                setattr(synced, name, module.__dict__[name])
            return synced.train(module.training)
        for name, child in list(module.named_children()):
            module.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return module
