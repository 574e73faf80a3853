"""What constructors share: Keras's regularizers and constraints as arguments, and what is said of a wrong argument.

Every class of pydl.nn and pydl.optim passes through here once, when it is defined; no layer knows of it.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict

    # What layers take beside their own arguments, for checkers of types; attach() looks at what is there.
    class Attached(TypedDict, total=False):
        kernel_regularizer: Callable[[Tensor], Tensor] | None
        bias_regularizer: Callable[[Tensor], Tensor] | None
        activity_regularizer: Callable[[Tensor], Tensor] | None
        kernel_constraint: Callable[[Tensor], Tensor] | None
        bias_constraint: Callable[[Tensor], Tensor] | None

    class AttachedToCell(Attached, total=False):
        recurrent_regularizer: Callable[[Tensor], Tensor] | None
        recurrent_constraint: Callable[[Tensor], Tensor] | None

    class AttachedToRows(Attached, total=False):
        embeddings_regularizer: Callable[[Tensor], Tensor] | None
        embeddings_constraint: Callable[[Tensor], Tensor] | None

    class AttachedToNorm(Attached, total=False):
        gamma_regularizer: Callable[[Tensor], Tensor] | None
        beta_regularizer: Callable[[Tensor], Tensor] | None
        gamma_constraint: Callable[[Tensor], Tensor] | None
        beta_constraint: Callable[[Tensor], Tensor] | None


__all__ = ["ATTACHED", "explain_constructor"]

# Words that others use for the same argument.
_SYNONYMS = {
    "learning_rate": "lr",
    "rate": "p",
    "units": "out_features",
    "filters": "out_channels",
    "kernel": "kernel_size",
    "strides": "stride",
    "pool_size": "kernel_size",
    "input_dim": "num_embeddings",
    "output_dim": "embedding_dim",
    "use_bias": "bias",
    "epsilon": "eps",
    "beta_1": "betas",
    "beta_2": "betas",
    "decay": "weight_decay",
    "alpha": "negative_slope",
    "axis": "dim",
    "activation": "nonlinearity",
    "num_hidden": "hidden_size",
    "parameters": "params",
}

# What makes a layer's tensors does not know whose they are.
_ANONYMOUS = ("[parameter", "[Parameter", "[requires_grad", "[dtype", "[device", "[empty", "[full")
_NO_NUMBERS = (str, list, dict, Tensor)
_KINDS = ("kernel", "bias", "recurrent", "embeddings", "gamma", "beta")
ATTACHED = frozenset(
    [f"{kind}_{what}" for kind in _KINDS for what in ("regularizer", "constraint")] + ["activity_regularizer"]
)


def explain_constructor(cls: type, attachable: bool) -> None:
    """Make ``cls(...)`` explain wrong arguments and, if attachable, take those of :data:`ATTACHED`."""
    init: Callable[..., None] = cls.__init__  # type: ignore[misc]
    known = _named_arguments(init) if attachable else None

    @wraps(init)
    def constructor(self: Any, *args: Any, **kwargs: Any) -> None:
        attached = {}
        if attachable and kwargs and not ATTACHED.isdisjoint(kwargs):
            attached = {name: kwargs.pop(name) for name in ATTACHED.intersection(kwargs)}
        for value in (*args, *kwargs.values()):
            if value is None or isinstance(value, _NO_NUMBERS):
                _refuse_kinds(type(self).__name__, init, args, kwargs, attachable)
                break
        if known is not None and kwargs and not known.issuperset(kwargs):
            raise TypeError(_explanation(type(self), init, args, kwargs, ""))
        try:
            init(self, *args, **kwargs)
        except (TypeError, ValueError) as error:
            op, bracket, rest = str(error).partition("] ")
            if bracket and op in _ANONYMOUS:
                raise type(error)(f"[{type(self).__name__}] {rest}") from None
            if isinstance(error, ValueError):
                raise
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # the call itself failed
                raise TypeError(_explanation(type(self), init, args, kwargs, str(error))) from None
            raise
        if attached:
            from pydl.regularizers import attach

            attach(self, attached)

    cls.__init__ = constructor  # type: ignore[misc]


def _named_arguments(init: Callable[..., None]) -> frozenset[str] | None:
    """The names that a constructor with ``**attached``, which is there for checkers of types alone, really takes."""
    code = getattr(init, "__code__", None)
    count = code.co_argcount + code.co_kwonlyargcount if code is not None else 0
    if code is None or code.co_varnames[count : count + 1] != ("attached",):
        return None
    return frozenset(code.co_varnames[:count])


def _refuse_kinds(name: str, init: Callable[..., None], args: Any, kwargs: dict[str, Any], is_layer: bool) -> None:
    """A text or a list is no number, and Loss(output, target) makes a loss and computes none; ReLU(x) likewise."""
    from inspect import Parameter, signature

    parameters = list(signature(init).parameters.values())[1:]
    by_place = [p for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    by_name = {p.name: p for p in parameters}
    given = [(by_place[min(place, len(by_place) - 1)], value) for place, value in enumerate(args) if by_place]
    given += [(by_name[key], value) for key, value in kwargs.items() if key in by_name]
    for parameter, value in given:
        kinds = set(str(parameter.annotation).split(" | "))
        if isinstance(value, Tensor):
            if not is_layer or not kinds <= {"bool", "int", "float", "str", "None"}:
                continue
            raise TypeError(
                f"[{name}] got a tensor as {parameter.name!r} while being made, expected {parameter.annotation}; "
                f"make it first and call it then: {name}(...)(x)"
            )
        wrong = isinstance(value, _NO_NUMBERS) or (value is None and "None" not in kinds)
        explained = parameter.name == "size_average" or init.__module__.startswith("pydl.models.")  # by themselves
        if wrong and not explained and kinds <= {"bool", "int", "float", "None"}:
            raise TypeError(f"[{name}] got {parameter.name} = {value!r:.100}, expected {parameter.annotation}")


def _explanation(cls: type, init: Callable[..., None], args: Any, kwargs: dict[str, Any], original: str) -> str:
    from difflib import get_close_matches
    from inspect import Parameter, signature  # imported here: a tenth of the time that importing pydl.nn takes

    name = cls.__name__
    outer = list(signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    parameters = [*outer, *[p for p in signature(init).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]]
    named = {
        p.name: p for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    }.values()
    known = [p.name for p in named]
    call = f"{name}({', '.join(p.name if p.default is Parameter.empty else f'{p.name}={p.default!r}' for p in named)})"
    for given in kwargs:
        if given not in known:
            synonym = _SYNONYMS.get(given)
            close = [synonym] if synonym in known else get_close_matches(given, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            return f"[{name}] got the unknown argument {given!r}, expected {call}{hint}"
    by_place = [p.name for p in named if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    if len(args) > len(by_place):
        return f"[{name}] got {len(args)} arguments by place, expected at most {len(by_place)}: {call}"
    missing = [p.name for p in list(named)[len(args) :] if p.default is Parameter.empty and p.name not in kwargs]
    if missing:
        return f"[{name}] needs {' and '.join(missing)}, got {len(args) + len(kwargs)} arguments; expected {call}"
    twice = [p for p in by_place[: len(args)] if p in kwargs]
    if twice:
        return f"[{name}] got {twice[0]!r} twice, by place and by name; expected {call}"
    return f"[{name}] {original}"
