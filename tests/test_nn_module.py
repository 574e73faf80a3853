"""Module and Parameter: registration, naming, state, modes, hooks, copies and what they print."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn


class Block(nn.Module):
    """Two layers, a buffer and a shared weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("count", pydl.asarray([1.0, 2.0]))
        self.register_buffer("scratch", pydl.zeros((2,)), persistent=False)
        self.scale = nn.Parameter(pydl.asarray([2.0]))

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x)) * self.scale


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Tanh(), nn.Linear(5, 3)), nn.Linear(3, 2))


def values(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def assert_equal_states(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_parameters_are_registered_in_order_and_shared_ones_once() -> None:
    block = Block()
    assert [name for name, _ in block.named_parameters()] == ["scale", "first.weight", "first.bias"]
    assert [name for name, _ in block.named_parameters(remove_duplicate=False)] == [
        "scale", "first.weight", "first.bias", "second.weight",
    ]  # fmt: skip
    assert [name for name, _ in block.named_parameters(prefix="x", recurse=False)] == ["x.scale"]
    assert [name for name, _ in block.named_buffers()] == ["count", "scratch"]
    assert [name for name, _ in block.named_children()] == ["first", "second"]
    assert [name for name, _ in model().named_modules()] == ["", "0", "1", "1.0", "1.1", "2"]
    shared = nn.ReLU()
    assert len(list(nn.Sequential(shared, shared).modules())) == 2
    assert len(list(nn.Sequential(shared, shared).children())) == 1


def test_parameter_shares_memory_and_keeps_its_type() -> None:
    data = pydl.zeros((3,))
    parameter = nn.Parameter(data)
    assert isinstance(parameter, pydl.Tensor)
    assert parameter.requires_grad
    assert parameter.is_leaf
    data.fill_(4.0)
    assert parameter.detach().numpy().tolist() == [4.0] * 3
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert not isinstance(parameter * 2, nn.Parameter)
    assert repr(parameter).startswith("Parameter containing:\n")
    (parameter * parameter).sum().backward()
    assert parameter.grad.numpy().tolist() == [8.0] * 3


def test_assignment_rules() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"\[Linear\] cannot assign a Tensor to 'weight', expected a Parameter"):
        layer.weight = pydl.zeros((2, 2))
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    layer.bias = nn.Parameter(pydl.zeros((2,)))
    assert list(layer.state_dict()) == ["weight", "bias"]
    del layer.bias
    assert not hasattr(layer, "bias")
    layer.bias = pydl.ones((2,))  # now a plain attribute
    assert list(layer.state_dict()) == ["weight"]
    block = Block()
    with pytest.raises(TypeError, match="expected a Module"):
        block.first = 3
    with pytest.raises(TypeError, match="expected a Tensor"):
        block.count = 3
    block.count = pydl.zeros((2,))
    assert block.state_dict()["count"].numpy().tolist() == [0.0, 0.0]
    block.first = nn.Identity()
    assert "first.weight" not in block.state_dict()
    block.count = nn.Parameter(pydl.zeros((1,)))  # a buffer that becomes a parameter is not kept twice
    assert [name for name, _ in block.named_buffers()] == ["scratch"]


def test_forgotten_super_init_is_explained() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"\[Forgetful\] call super\(\).__init__\(\)"):
        Forgetful()


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training"])
def test_bad_names(name: str) -> None:
    for register in (nn.Module().register_parameter, nn.Module().register_buffer, nn.Module().add_module):
        with pytest.raises(KeyError):
            register(name, None)


def test_module_without_forward() -> None:
    with pytest.raises(NotImplementedError, match=r"\[Module\] has no forward"):
        nn.Module()(1)


def test_get_submodule_and_its_error() -> None:
    whole = model()
    assert whole.get_submodule("") is whole
    assert whole.get_submodule("1.1") is whole[1][1]
    assert whole.get_parameter("1.1.bias") is whole[1][1].bias
    assert Block().get_buffer("count").numpy().tolist() == [1.0, 2.0]
    with pytest.raises(AttributeError, match=r"1 has no child '7'; its children: 0, 1"):
        whole.get_submodule("1.7.x")
    with pytest.raises(AttributeError, match=r"no parameter 'wait'; it has: weight, bias"):
        whole.get_parameter("0.wait")


def test_state_dict_keys_and_sharing() -> None:
    block = Block()
    state = block.state_dict()
    assert list(state) == ["scale", "count", "first.weight", "first.bias", "second.weight"]
    assert not any(tensor.requires_grad for tensor in state.values())
    assert next(iter(block.state_dict(prefix="m."))) == "m.scale"
    assert block.state_dict(keep_vars=True)["scale"] is block.scale
    with pydl.no_grad():
        block.scale.fill_(9.0)
    assert state["scale"].item() == 9.0


def test_load_state_dict_copies_in_place() -> None:
    source, target = model(), model()
    weight = target[0].weight
    result = target.load_state_dict(source.state_dict())
    assert str(result) == "<All keys matched successfully>"
    assert target[0].weight is weight
    assert_equal_states(values(source), values(target))
    with pydl.no_grad():
        source[0].weight.fill_(0.0)
    assert np.any(weight.detach().numpy())
    target.load_state_dict({name: array.astype(np.float64) for name, array in values(source).items()})
    assert weight.dtype == pydl.float32
    assert_equal_states(values(source), values(target))


def test_load_state_dict_lists_every_fault_and_changes_nothing() -> None:
    target = model()
    before = values(target)
    state = {name: pydl.ones(tuple(t.shape)) for name, t in target.state_dict().items()}
    del state["0.bias"], state["2.weight"]
    state["0.weight"] = pydl.ones((4, 5))
    state["1.1.bias"] = pydl.ones(())
    state["head.weight"] = pydl.ones((1,))
    with pytest.raises(ValueError) as caught:
        target.load_state_dict(state)
    message = str(caught.value)
    assert "missing: 0.bias, 2.weight" in message
    assert "unexpected: head.weight" in message
    assert "0.weight: got shape (4, 5), expected (5, 4)" in message
    assert "1.1.bias: got shape (), expected (3,)" in message
    assert_equal_states(before, values(target))
    with pytest.raises(ValueError) as caught:  # other shapes are an error all the same
        target.load_state_dict(state, strict=False)
    assert "missing" not in str(caught.value)
    del state["0.weight"], state["1.1.bias"]
    result = target.load_state_dict(state, strict=False)
    assert result.missing_keys == ["0.weight", "0.bias", "1.1.bias", "2.weight"]
    assert result.unexpected_keys == ["head.weight"]
    assert np.all(values(target)["2.bias"] == 1)


def test_load_state_dict_of_no_dict() -> None:
    with pytest.raises(TypeError, match=r"\[load_state_dict\] got a Linear, expected a dict"):
        nn.Linear(2, 2).load_state_dict(nn.Linear(2, 2))  # type: ignore[arg-type]


def test_load_state_dict_assign_takes_the_tensors() -> None:
    target = nn.Linear(2, 3)
    given = pydl.ones((3, 2), dtype=pydl.float64)
    target.load_state_dict({"weight": given, "bias": pydl.zeros((3,))}, assign=True)
    given.fill_(5.0)
    assert target.weight.dtype == pydl.float64
    assert isinstance(target.weight, nn.Parameter)
    assert np.all(target.weight.detach().numpy() == 5)


def test_train_eval_and_requires_grad() -> None:
    whole = model()
    assert all(module.training for module in whole.modules())
    assert whole.eval() is whole
    assert not any(module.training for module in whole.modules())
    assert whole.train() is whole
    assert whole.requires_grad_(False) is whole
    assert not any(p.requires_grad for p in whole.parameters())
    with pytest.raises(TypeError, match="mode"):
        whole.train(1)  # type: ignore[arg-type]


def trained(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.requires_grad]


def test_freeze_by_pattern_and_depth() -> None:
    assert trained(model().freeze()) == []
    assert trained(model().freeze("0", "1")) == ["2.weight", "2.bias"]
    assert trained(model().freeze("*.bias")) == ["0.weight", "1.1.weight", "2.weight"]
    assert trained(model().freeze("1.?.weight")) == ["0.weight", "0.bias", "1.1.bias", "2.weight", "2.bias"]
    assert trained(model().freeze(depth=2)) == ["2.weight", "2.bias"]
    assert trained(model().freeze().unfreeze(depth=-1)) == ["2.weight", "2.bias"]
    assert trained(model().freeze().unfreeze("1.1.bias")) == ["1.1.bias"]
    assert trained(model().freeze(depth=0)) == trained(model())
    with pytest.raises(ValueError, match=r"\[freeze\] no module or parameter is called 'nope'"):
        model().freeze("nope")
    with pytest.raises(ValueError, match="one of them"):
        model().freeze("0", depth=1)


def test_frozen_normalization_stays_in_evaluation() -> None:
    class Norm(nn.Linear):
        _eval_when_frozen = True

    whole = nn.Sequential(Norm(2, 2), nn.Sequential(Norm(2, 2), nn.Dropout()), nn.Linear(2, 2))
    whole.freeze("1")
    assert [m.training for m in (whole[0], whole[1][0], whole[1][1])] == [True, False, True]
    whole.eval().train()
    assert [m.training for m in (whole[0], whole[1][0], whole[1][1])] == [True, False, True]
    whole.unfreeze()
    assert whole[1][0].training
    whole.freeze("0.weight")  # not all of the layer
    assert whole[0].training


def test_apply_visits_children_first() -> None:
    visited = []
    whole = model()
    assert whole.apply(lambda module: visited.append(type(module).__name__)) is whole
    assert visited == ["Linear", "Tanh", "Linear", "Sequential", "Linear", "Sequential"]


def test_zero_grad() -> None:
    layer = nn.Linear(2, 2)
    layer(pydl.ones((1, 2))).sum().backward()
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.numpy().tolist() == [[0.0, 0.0], [0.0, 0.0]]
    layer.zero_grad()
    assert layer.weight.grad is None


def test_conversion_keeps_parameter_objects_and_sharing() -> None:
    block = Block()
    block.register_buffer("numbers", pydl.arange(3))
    weight, numbers = block.first.weight, block.numbers
    block.first.weight.grad = pydl.ones((3, 3))
    before = values(block)
    assert "numbers" in before
    assert block.double() is block
    assert block.first.weight is weight
    assert block.second.weight is weight
    assert weight.dtype == weight.grad.dtype == block.count.dtype == pydl.float64
    assert block.numbers.dtype == numbers.dtype
    assert weight.requires_grad
    block.to("cpu", pydl.float32)
    assert_equal_states(before, values(block))
    assert block.to(dtype=pydl.bfloat16).scale.dtype == pydl.bfloat16
    assert block.to(pydl.zeros((1,))).scale.dtype == pydl.float32
    with pytest.raises(TypeError, match=r"\[to\]"):
        block.to(pydl.int64)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_deep_copies(copied: Any) -> None:
    block = Block()
    block.freeze("first.bias")
    twin = copied(block)
    assert_equal_states(values(block), values(twin))
    assert twin.second.weight is twin.first.weight
    assert type(twin.first.weight) is nn.Parameter
    assert trained(twin) == trained(block)
    with pydl.no_grad():
        twin.scale.fill_(100.0)
    assert block.scale.item() == 2.0
    x = pydl.ones((2, 3))
    np.testing.assert_array_equal(twin(x).detach().numpy(), (block(x) * 50).detach().numpy())


def test_deepcopy_of_a_layer_with_gradient_has_none() -> None:
    layer = nn.Linear(2, 2)
    layer(pydl.ones((1, 2))).sum().backward()
    assert copy.deepcopy(layer).weight.is_leaf


def test_shallow_copy_shares_tensors_but_not_names() -> None:
    layer = nn.Linear(2, 2)
    twin = copy.copy(layer)
    assert twin.weight is layer.weight
    twin.extra = nn.Parameter(pydl.zeros((1,)))
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_registries_are_read_only_views() -> None:
    layer = nn.Linear(2, 2)
    assert list(layer._parameters) == ["weight", "bias"]
    with pytest.raises(TypeError):
        layer._parameters["weight"] = None  # type: ignore[index]


def test_forward_hooks_change_arguments_and_results() -> None:
    layer, calls = nn.Linear(2, 1), []
    x = pydl.ones((1, 2))
    plain = layer(x).item()
    first = layer.register_forward_pre_hook(lambda module, args: calls.append("pre") or (args[0] * 0,))
    second = layer.register_forward_hook(lambda module, args, output: calls.append("post") or output + 10)
    assert layer(x).item() == pytest.approx(layer.bias.item() + 10)
    assert calls == ["pre", "post"]
    first.remove()
    first.remove()
    assert layer(x).item() == pytest.approx(plain + 10)
    second.remove()
    assert layer._hooks is None
    assert layer(x).item() == plain
    order = []
    with (
        layer.register_forward_hook(lambda *a: order.append(1)),
        layer.register_forward_hook(lambda *a: order.append(2), prepend=True),
    ):
        layer(x)
    assert order == [2, 1]
    layer.register_forward_pre_hook(lambda m, args, kwargs: ((kwargs["input"] * 2,), {}), with_kwargs=True)
    assert layer(input=x).item() == pytest.approx((layer.weight * x * 2).sum().item() + layer.bias.item(), rel=1e-5)


def test_backward_hooks_see_and_change_gradients() -> None:
    seen: dict[str, Any] = {}
    layer = nn.Linear(3, 2)
    x = pydl.asarray([[1.0, 2.0, 3.0]], dtype=pydl.float32).requires_grad_()

    def hook(module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        seen["input"], seen["output"] = grad_input[0].numpy().copy(), grad_output[0].numpy().copy()
        return (grad_input[0] * 10,)

    layer.register_full_backward_hook(hook)
    layer.register_full_backward_pre_hook(lambda module, grad_output: (grad_output[0] * 3,))
    (layer(x) * pydl.asarray([1.0, -2.0])).sum().backward()
    w = layer.weight.detach().numpy()
    np.testing.assert_allclose(seen["output"], [[3.0, -6.0]])
    np.testing.assert_allclose(seen["input"], 3 * (w[0] - 2 * w[1])[None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), 10 * seen["input"], rtol=1e-6)
    np.testing.assert_allclose(layer.bias.grad.numpy(), [3.0, -6.0])


def test_backward_hook_of_a_first_layer_gets_none_for_its_input() -> None:
    seen = []
    layer = nn.LSTM(3, 2)
    layer.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append((grad_input, grad_output)))
    y, _ = layer(pydl.ones((4, 1, 3)))
    y.sum().backward()
    ((grad_input, grad_output),) = seen
    assert grad_input == (None,)
    assert grad_output[0].numpy().tolist() == np.ones((4, 1, 2)).tolist()
    assert grad_output[1] is None
    with pydl.no_grad():
        layer(pydl.ones((4, 1, 3)))
    assert len(seen) == 1


def test_repr_is_indented_like_a_tree() -> None:
    assert repr(model()) == (
        "Sequential(\n"
        "  (0): Linear(in_features=4, out_features=5, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): Tanh()\n"
        "    (1): Linear(in_features=5, out_features=3, bias=True)\n"
        "  )\n"
        "  (2): Linear(in_features=3, out_features=2, bias=True)\n"
        ")"
    )
    assert repr(nn.Module()) == "Module()"


def test_summary_counts_and_shapes() -> None:
    whole = model().freeze("0")
    whole[2].train(False)
    summary = whole.summary((4,), batch_size=7)
    assert [(r.name, r.kind, r.depth, r.output_shape, r.parameters) for r in summary.rows] == [
        ("", "Sequential", 0, (7, 2), 0),
        ("0", "Linear", 1, (7, 5), 25),
        ("1", "Sequential", 1, (7, 3), 0),
        ("1.0", "Tanh", 2, (7, 5), 0),
        ("1.1", "Linear", 2, (7, 3), 18),
        ("2", "Linear", 1, (7, 2), 8),
    ]
    assert (summary.total_parameters, summary.trainable_parameters, summary.bytes) == (51, 26, 204)
    assert "25 frozen" in str(summary)
    assert [m.training for m in whole.children()] == [True, True, False]  # modes are as before, hooks are gone
    assert all(m._hooks is None for m in whole.modules())
    assert whole.summary().rows[1].output_shape is None
    assert Block().summary().total_parameters == 13  # a shared weight counts once
    lm = nn.Sequential(nn.Embedding(10, 4), nn.LSTM(4, 3))
    assert lm.summary((5,), dtype=pydl.int64).rows[2].output_shape == [(1, 5, 3), [(1, 5, 3), (1, 5, 3)]]
    assert lm.summary(inputs=pydl.zeros((2, 6), dtype=pydl.int64)).rows[1].output_shape == (2, 6, 4)
    with pytest.raises(ValueError, match="one of them"):
        whole.summary((4,), inputs=pydl.zeros((1, 4)))


def test_summary_restores_the_model_after_an_error() -> None:
    whole = model()
    with pytest.raises(ValueError):
        whole.summary((9,))
    assert all(m.training and m._hooks is None for m in whole.modules())


@pytest.mark.parametrize("seed", [0, 7])
def test_starting_values_repeat_with_the_seed(seed: int) -> None:
    states = []
    for s in (seed, seed, seed + 1):
        pydl.manual_seed(s)
        states.append(values(nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 5), nn.Embedding(6, 2))))
    assert_equal_states(states[0], states[1])
    assert not np.array_equal(states[0]["0.weight"], states[2]["0.weight"])
