"""Module: named trees of layers, and what can be done with all of a tree's tensors at once.

A module's tensors and children are plain attributes; three dicts beside them hold only the names, in the order of
their registration. So reading ``self.weight`` costs what any attribute costs, and there is one truth.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import pydl
from pydl._tensor import Tensor
from pydl.nn.arguments import explain_constructor
from pydl.nn.conversion import convert_tensors, device_and_dtype
from pydl.nn.freezing import set_frozen
from pydl.nn.hooks import Hookable, Hooks, call_with_hooks
from pydl.nn.mistakes import MissingAttributeError, close_to, locate
from pydl.nn.parameter import Buffer, Parameter
from pydl.nn.state import IncompatibleKeys, collect_state, load_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydl.nn.summary import Summary

__all__ = ["Buffer", "IncompatibleKeys", "Module", "Parameter"]

Self = TypeVar("Self", bound="Module")


class Module(Hookable):
    """Base of all layers and models. Subclasses build their parts in ``__init__`` and compute in ``forward``.

    Assigning a :class:`Parameter` or a module to an attribute registers it. ``training`` tells whether dropout and
    batch normalization behave as in training (the default) or as in evaluation.

    >>> import pydl
    >>> from pydl import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(pydl.full((1,), 2.0))
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> Scale()(pydl.ones((3,))).detach().numpy().tolist()
    [2.0, 2.0, 2.0]
    """

    training: bool
    _parameter_names: dict[str, None]
    _buffer_names: dict[str, bool]  # name -> whether state_dict keeps it
    _module_names: dict[str, None]
    _hooks: Hooks | None = None
    _eval_when_frozen = False  # normalization layers set it: freeze() then holds their statistics too
    _frozen = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("pydl.") and ("__init__" in cls.__dict__ or cls.__init__ is Module.__init__):
            explain_constructor(cls, attachable=True)

    def __init__(self) -> None:
        state = self.__dict__
        state["training"] = True
        state["_parameter_names"] = {}
        state["_buffer_names"] = {}
        state["_module_names"] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass has its own."""
        similar = close_to("forward", dir(type(self)))
        hint = f" (is {similar!r} meant to be it?)" if similar else ""
        raise NotImplementedError(f"[{type(self).__name__}] has no forward method; define one{hint}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return call_with_hooks(self, self._hooks, args, kwargs)
        except (ValueError, TypeError, IndexError) as error:
            locate(self, error, args)
            raise

    if not TYPE_CHECKING:  # a checker of types is to go on finding what is missing

        def __getattr__(self, name: str) -> Any:
            raise MissingAttributeError(self, name)

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Module)):
            self._register(name, value)
            return
        if isinstance(value, Buffer):
            self.__dict__.pop(name, None)
            self.register_buffer(name, value, value.persistent)
            return
        state = self.__dict__
        if name in state.get("_parameter_names", ()):
            expected = "a Parameter"
        elif name in state.get("_module_names", ()):
            expected = "a Module"
        elif name in state.get("_buffer_names", ()) and not isinstance(value, Tensor):
            expected = "a Tensor"
        else:
            object.__setattr__(self, name, value)
            return
        if value is not None:
            raise TypeError(
                f"[{type(self).__name__}] cannot assign a {type(value).__name__} to {name!r}, expected {expected} "
                f"or None; del self.{name} first to make it a plain attribute"
            )
        state[name] = None

    def __delattr__(self, name: str) -> None:
        for names in (self._parameter_names, self._buffer_names, self._module_names):
            names.pop(name, None)
        object.__delattr__(self, name)

    def _register(self, name: str, value: Parameter | Module | None, as_module: bool = False) -> None:
        state = self.__dict__
        if "_parameter_names" not in state:
            raise AttributeError(f"[{type(self).__name__}] call super().__init__() before assigning {name!r}")
        is_module = as_module or isinstance(value, Module)
        names, others = self._parameter_names, self._module_names
        if is_module:
            names, others = others, names
        others.pop(name, None)
        self._buffer_names.pop(name, None)
        names[name] = None
        state[name] = value

    def _check_new_name(self, name: str, what: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"[{type(self).__name__}] a {what}'s name must be a text, got {name!r}")
        if name == "" or "." in name:
            raise KeyError(f"[{type(self).__name__}] a {what}'s name must not be empty or hold a dot, got {name!r}")
        known = (self._parameter_names, self._buffer_names, self._module_names)
        if hasattr(self, name) and not any(name in names for names in known):
            raise KeyError(f"[{type(self).__name__}] has an attribute {name!r} already; choose another name")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; ``None`` keeps the name for a parameter that this module does without."""
        self._check_new_name(name, "parameter")
        if param is not None and not isinstance(param, Parameter):
            got = type(param).__name__
            raise TypeError(f"[{type(self).__name__}] {name!r} is a {got}, expected a Parameter or None")
        self._register(name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the state but is not trained, such as running statistics.

        Args:
            name: the attribute's name.
            tensor: its value, or None for none yet.
            persistent: whether ``state_dict`` keeps it; default True.
        """
        self._check_new_name(name, "buffer")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"[{type(self).__name__}] {name!r} is a {type(tensor).__name__}, expected a Tensor or None")
        self._parameter_names.pop(name, None)
        self._module_names.pop(name, None)
        self._buffer_names[name] = persistent
        self.__dict__[name] = tensor

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child under a name, which need not be an identifier."""
        self._check_new_name(name, "module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"[{type(self).__name__}] {name!r} is a {type(module).__name__}, expected a Module or None")
        self._register(name, module, as_module=True)

    register_module = add_module

    @property
    def _parameters(self) -> Mapping[str, Parameter | None]:
        return MappingProxyType({name: self.__dict__[name] for name in self._parameter_names})

    @property
    def _buffers(self) -> Mapping[str, Tensor | None]:
        return MappingProxyType({name: self.__dict__[name] for name in self._buffer_names})

    @property
    def _modules(self) -> Mapping[str, Module | None]:
        return MappingProxyType({name: self.__dict__[name] for name in self._module_names})

    # Walking the tree

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct children with their names, each once."""
        seen = set()
        for name in self._module_names:
            module = self.__dict__[name]
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children, each once."""
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it with dotted names, parents first, a shared one once.

        >>> from pydl import nn
        >>> [name for name, _ in nn.Sequential(nn.Linear(1, 2), nn.Sequential(nn.ReLU())).named_modules()]
        ['', '0', '1', '1.0']
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name in self._module_names:
            module = self.__dict__[name]
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it, parents first, each once."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def _named_tensors(
        self, which: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            state = module.__dict__
            for name in state[which]:
                value = state[name]
                if value is None or (remove_duplicate and id(value) in seen):
                    continue
                seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted names; a shared one under its first name."""
        return self._named_tensors("_parameter_names", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once; with ``recurse=False`` only this module's own."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names."""
        return self._named_tensors("_buffer_names", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module with a dotted name, as ``"encoder.0"``; ``""`` is this one.

        Raises:
            AttributeError: there is none; tells which part of the name is missing and what there is.
        """
        module: Module = self
        for i, name in enumerate(target.split(".") if target else ()):
            if name not in module._module_names or module.__dict__[name] is None:
                at = ".".join(target.split(".")[:i]) or type(self).__name__
                there = ", ".join(module._module_names) or "none"
                raise AttributeError(f"[get_submodule] {at} has no child {name!r}; its children: {there}")
            module = module.__dict__[name]
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module in another's place, by its dotted name.

        Args:
            target: the name, as ``"encoder.0"``; with ``strict`` it must be there already.
            module: what comes there.
        """
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict:
            self.get_submodule(target)
        parent.add_module(name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with a dotted name. Raises AttributeError as :meth:`get_submodule`."""
        return self._get_tensor(target, "_parameter_names", "parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with a dotted name. Raises AttributeError as :meth:`get_submodule`."""
        return self._get_tensor(target, "_buffer_names", "buffer")

    def _get_tensor(self, target: str, which: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if name not in module.__dict__[which]:
            there = ", ".join(module.__dict__[which]) or "none"
            raise AttributeError(f"[get_{what}] {path or type(self).__name__} has no {what} {name!r}; it has: {there}")
        return module.__dict__[name]

    # Modes and conversions

    def train(self: Self, mode: bool = True) -> Self:
        """Set training mode (or evaluation with ``mode=False``) here and below; returns this module.

        Normalization layers that :meth:`freeze` has frozen stay in evaluation mode.
        """
        if not isinstance(mode, bool):
            raise TypeError(f"[train] mode must be True or False, got {mode!r}")
        for module in self.modules():
            module.__dict__["training"] = mode and not (module._frozen and module._eval_when_frozen)
        return self

    def eval(self: Self) -> Self:
        """Set evaluation mode here and below; returns this module."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Switch gradients of all parameters on or off; returns this module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def freeze(self: Self, *patterns: str, depth: int | None = None) -> Self:
        """Stop training some or all layers: no gradients, and batch normalization keeps its statistics.

        Args:
            patterns: names of modules or parameters, with ``*`` and ``?`` as in file names; a module's name stands
                for everything below it. None given: everything.
            depth: instead of patterns, how many layers (modules with parameters of their own, in order of
                registration): ``n`` the first n, ``-n`` the last n.

        Returns:
            This module.

        Raises:
            ValueError: a pattern matches nothing, or both patterns and depth are given.

        >>> from pydl import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).freeze("0")
        >>> [name for name, p in model.named_parameters() if p.requires_grad]
        ['2.weight', '2.bias']
        """
        set_frozen(self, True, patterns, depth)
        return self

    def unfreeze(self: Self, *patterns: str, depth: int | None = None) -> Self:
        """Train layers again; arguments, result and errors as :meth:`freeze`. ``depth=-2`` frees the last two."""
        set_frozen(self, False, patterns, depth)
        return self

    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every module below and then on this one, as for initialization; returns this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero with ``set_to_none=False``."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = pydl.zeros_like(parameter.grad)

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Move all tensors to a device and convert the floating ones to a dtype, in place; returns this module.

        ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, by place or by name. Parameters stay the same objects,
        so an optimizer made before goes on to work.
        """
        convert_tensors(self, *device_and_dtype(args, kwargs))
        return self

    def float(self: Self) -> Self:
        """Convert floating tensors to float32; returns this module."""
        return self.to(pydl.float32)

    def double(self: Self) -> Self:
        """Convert floating tensors to float64; returns this module."""
        return self.to(pydl.float64)

    def half(self: Self) -> Self:
        """Convert floating tensors to float16; returns this module."""
        return self.to(pydl.float16)

    def bfloat16(self: Self) -> Self:
        """Convert floating tensors to bfloat16; returns this module."""
        return self.to(pydl.bfloat16)

    def cuda(self: Self, device: Any = None) -> Self:
        """Move all tensors to a CUDA device, the first one unless told otherwise; returns this module."""
        return self.to("cuda" if device is None else device)

    def type(self: Self, dst_type: Any) -> Self:
        """Convert floating tensors to a dtype; returns this module."""
        return self.to(dst_type)

    def cpu(self: Self) -> Self:
        """Move all tensors to the CPU; returns this module."""
        return self.to("cpu")

    # State

    def state_dict(
        self, *, destination: dict[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Dotted name -> tensor for all parameters and persistent buffers.

        The tensors share memory with the module; ``clone()`` them to keep a snapshot, or save them at once.

        Args:
            destination: a dict to put them into; default a new one.
            prefix: put before every name.
            keep_vars: return the parameters themselves instead of detached tensors; default False.
        """
        return collect_state(self, prefix, keep_vars, destination)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy values into the parameters and buffers of the same names. On any error nothing is changed, except that
        hooks which run afterwards have seen the values before names are found wrong.

        Args:
            state_dict: dotted name -> tensor (or anything that ``pydl.asarray`` takes), as :meth:`state_dict` gives.
            strict: whether missing and unknown names are an error; default True.
            assign: take the given tensors themselves instead of copying their values; default False.

        Returns:
            ``missing_keys`` and ``unexpected_keys``.

        Raises:
            ValueError: lists every missing and unknown name (if strict) and every shape that differs.
        """
        return load_state(self, state_dict, strict, assign)

    def get_extra_state(self) -> Any:
        """What :meth:`state_dict` is to keep of this module beside its tensors, under ``_extra_state``.

        A subclass that has it has :meth:`set_extra_state` too. Numbers, texts, lists and dicts of them can be saved.
        """
        raise NotImplementedError(f"[{type(self).__name__}] has no get_extra_state method; define one")

    def set_extra_state(self, state: Any) -> None:
        """Take over what :meth:`get_extra_state` gave; :meth:`load_state_dict` calls it when the tensors are there."""
        raise NotImplementedError(f"[{type(self).__name__}] has no set_extra_state method; define one")

    def __copy__(self: Self) -> Self:
        """A module of its own names that shares the tensors and children."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        for names in ("_parameter_names", "_buffer_names", "_module_names"):
            copied.__dict__[names] = dict(self.__dict__[names])
        return copied

    # Looking

    def extra_repr(self) -> str:
        """What stands between the parentheses of ``repr``; subclasses give their arguments."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + repr(self.__dict__[name]).replace("\n", "\n  ") for name in self._module_names]
        name = type(self).__name__
        if not children and len(lines) <= 1:
            return f"{name}({extra})"
        return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"

    def summary(
        self,
        input_shape: tuple[int, ...] | list[tuple[int, ...]] | None = None,
        *,
        inputs: Any = None,
        batch_size: int = 1,
        dtype: Any = None,
    ) -> Summary:
        """A table of all layers with output shapes and numbers of parameters; print it, or read its fields.

        Args:
            input_shape: the shape of one sample, without the batch axis, or a list of shapes for several inputs.
            inputs: instead, a tensor or a tuple of tensors to run through the model.
            batch_size: the batch axis put before ``input_shape``; default 1.
            dtype: of the zeros made from ``input_shape``; default float32, give ``pydl.int64`` for token numbers.

        Without either the table has no output shapes. The model is run once, in evaluation mode and without gradients.

        >>> from pydl import nn
        >>> print(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).summary((4,)))
        Layer        Output shape  Parameters
        -------------------------------------
        Sequential   (1, 2)                 0
          0: Linear  (1, 8)                40
          1: ReLU    (1, 8)                 0
          2: Linear  (1, 2)                18
        -------------------------------------
        Parameters: 58, of which 58 are trained (232 bytes)
        """
        from pydl.nn.summary import summarize

        return summarize(self, input_shape, inputs, batch_size, dtype)
