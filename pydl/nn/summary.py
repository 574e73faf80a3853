"""The table that Module.summary makes: layers, output shapes and numbers of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pydl

if TYPE_CHECKING:
    from pydl.nn.module import Module

__all__ = ["Summary", "SummaryRow", "summarize"]


class SummaryRow(NamedTuple):
    """One layer: its dotted name, class, depth in the tree, output shape (None if not run) and own parameters."""

    name: str
    kind: str
    depth: int
    output_shape: Any
    parameters: int
    trainable: int


class Summary:
    """What :meth:`Module.summary` returns; ``str`` and ``repr`` are the table.

    Attributes:
        rows: a list of :class:`SummaryRow`, parents first.
        total_parameters, trainable_parameters: numbers of scalars, a shared parameter counted once.
        bytes: size of all parameters in memory.
    """

    def __init__(self, rows: list[SummaryRow], total: int, trainable: int, size: int) -> None:
        self.rows = rows
        self.total_parameters = total
        self.trainable_parameters = trainable
        self.bytes = size

    def __str__(self) -> str:
        table = [("Layer", "Output shape", "Parameters")]
        for row in self.rows:
            label = f"{row.name.rpartition('.')[2]}: {row.kind}" if row.name else row.kind
            shape = "" if row.output_shape is None else _show(row.output_shape)
            frozen = " frozen" if row.parameters and not row.trainable else ""
            table.append(("  " * row.depth + label, shape, f"{row.parameters:,}{frozen}"))
        widths = [max(len(line[i]) for line in table) for i in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in table]
        rule = "-" * len(lines[0])
        total = f"Parameters: {self.total_parameters:,}, of which {self.trainable_parameters:,} are trained"
        total += f" ({self.bytes:,} bytes)"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])

    __repr__ = __str__


def summarize(model: Module, input_shape: Any, inputs: Any, batch_size: int, dtype: Any) -> Summary:
    """The body of :meth:`Module.summary`."""
    if input_shape is not None and inputs is not None:
        raise ValueError("[summary] got input_shape and inputs, expected one of them")
    if input_shape is not None:
        each = [input_shape] if all(isinstance(n, int) for n in input_shape) else list(input_shape)
        inputs = tuple(pydl.zeros((batch_size, *shape), dtype=dtype or pydl.float32) for shape in each)
    shapes = _output_shapes(model, inputs) if inputs is not None else {}

    rows, seen = [], set()
    total = trainable = size = 0
    for name, module in model.named_modules():
        own = trained = 0
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            count = _count(parameter.shape)
            own += count
            trained += count if parameter.requires_grad else 0
            size += count * parameter.dtype.itemsize
        depth = name.count(".") + 1 if name else 0
        rows.append(SummaryRow(name, type(module).__name__, depth, shapes.get(id(module)), own, trained))
        total += own
        trainable += trained
    return Summary(rows, total, trainable, size)


def _output_shapes(model: Module, inputs: Any) -> dict[int, Any]:
    shapes: dict[int, Any] = {}
    modes = [(module, module.training) for module in model.modules()]
    handles = []

    def note(module: Module, args: Any, output: Any) -> None:
        shapes[id(module)] = _shape(output)

    try:
        for module, _ in modes:
            handles.append(module.register_forward_hook(note))
        model.eval()
        with pydl.no_grad():
            model(*(inputs if isinstance(inputs, (tuple, list)) else (inputs,)))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return shapes


def _shape(output: Any) -> Any:
    if isinstance(output, pydl.Tensor):
        return tuple(output.shape)
    if isinstance(output, (tuple, list)):
        return [_shape(part) for part in output if part is not None]
    return None


def _show(shape: Any) -> str:
    if isinstance(shape, list):
        return "[" + ", ".join(_show(part) for part in shape) + "]"
    return str(shape)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count
