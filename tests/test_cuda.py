"""CUDA devices as a user meets them: where tensors are, copies, what may meet what, errors, memory, whole trainings.

What the kernels compute is tested by test_cuda_kernels.py and by all files that run on every device (conftest.py).
"""

from __future__ import annotations

import copy
import importlib.util
import os
import pathlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

import pydl
import pydl.nn.functional as F
from pydl import nn, optim

needs_device = pytest.mark.skipif(not pydl.cuda.is_available(), reason=f"no CUDA device: {pydl.cuda.why_unavailable()}")
absent = pytest.mark.skipif(pydl.cuda.is_available(), reason="there is a CUDA device")


@absent
def test_without_a_device_everything_says_so() -> None:
    problem = pydl.cuda.why_unavailable()
    assert problem
    assert pydl.cuda.device_count() == 0
    assert not pydl.cuda.is_emulated()
    assert pydl.cuda.memory_allocated() == 0
    assert pydl.cuda.mem_get_info() == (0, 0)
    pydl.cuda.synchronize()
    pydl.cuda.empty_cache()
    assert problem in pydl.backend.info()["cuda"]
    for ask in (
        lambda: pydl.ones((2,)).to("cuda"),
        lambda: pydl.ones((2,)).cuda(),
        lambda: pydl.zeros((2,), device="cuda:0"),
        lambda: pydl.device("cuda"),
        lambda: nn.Linear(2, 2).cuda(),
        pydl.cuda.current_device,
        lambda: pydl.set_default_device("cuda"),
    ):
        with pytest.raises(NotImplementedError, match=r"\[device\] got 'cuda.*use 'cpu'"):
            ask()


def test_why_there_is_no_device() -> None:
    from pydl.cuda import _no_device

    assert "no CUDA driver (libcuda.so.1)" in _no_device(13000, 0)
    assert "one for CUDA 12.4, older than the 13.0 of this build" in _no_device(13000, 12040)
    for runtime, driver in ((13000, 13010), (12040, 13000), (12090, 12010)):
        assert _no_device(runtime, driver) == "there is no CUDA device"
    assert _no_device(0, 0, emulated=True) == "there is no CUDA device"


@pytest.mark.skipif(importlib.util.find_spec("pydl._cuda") is None, reason="this build has no CUDA kernels")
def test_kernels_without_a_device() -> None:
    """As on a machine that lacks the driver: pydl is imported and works, and says why there is no device."""
    code = (
        "import sys, pydl\n"
        "assert 'pydl._cuda' not in sys.modules\n"
        "problem = pydl.cuda.why_unavailable()\n"
        "assert pydl.backend.info()['cuda'] == f'none: {problem}', problem\n"
        "for ask in (lambda: pydl.ones(2).to('cuda'), pydl.nn.Linear(2, 2).cuda, lambda: pydl.device('cuda:1')):\n"
        "    try:\n"
        "        ask()\n"
        "    except NotImplementedError as error:\n"
        "        assert problem in str(error) and \"use 'cpu'\" in str(error), error\n"
        "    else:\n"
        "        raise AssertionError('no error')\n"
        "assert not pydl.cuda.is_available() and not pydl.cuda.is_emulated()\n"
        "assert (pydl.ones(2) + 1).tolist() == [2, 2]\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_of_devices() -> None:
    assert pydl.device("cpu") == pydl.ones(()).device
    assert str(pydl.device("cpu:0")) == "cpu"
    for name in ("tpu", "cud", "", "cpu1"):
        with pytest.raises(ValueError, match="is no device"):
            pydl.device(name)
    if pydl.cuda.is_available():
        for name in ("cuda:", "cuda:x", "cuda:99", "cuda:-1", "cuda:1000"):
            with pytest.raises(ValueError, match="counted from cuda:0"):
                pydl.device(name)


def test_the_default_device() -> None:
    assert pydl.get_default_device() == "cpu"
    pydl.set_default_device(None)
    assert pydl.ones((1,)).is_cpu
    if not pydl.cuda.is_available():
        return
    pydl.set_default_device("cuda")
    try:
        made = [
            pydl.ones(2), pydl.zeros((2,)), pydl.empty(2), pydl.full((2,), 1.0), pydl.arange(3), pydl.linspace(0, 1, 3),
            pydl.eye(2), pydl.asarray([1.0]), pydl.asarray(np.ones(2)), pydl.tensor(3.0), pydl.randn(2), pydl.rand(2),
            pydl.randint(0, 5, (2,)), pydl.randperm(4), nn.Linear(2, 2).weight, nn.BatchNorm1d(2).running_mean,
            pydl.ones(3)[np.array([0, 2])],
        ]  # fmt: skip
        assert [x.device.type for x in made] == ["cuda"] * len(made)
        here = pydl.ones(2, device="cpu")
        assert here.is_cpu
        assert (here + 1.0).is_cpu
        assert pydl.zeros_like(here).is_cpu
        assert pydl.asarray(here).is_cpu
    finally:
        pydl.set_default_device("cpu")


MIXED: dict[str, Callable[[pydl.Tensor, pydl.Tensor], object]] = {
    "add": lambda a, b: a + b,
    "less": lambda a, b: a < b,
    "where": lambda a, b: pydl.where(a > 0, a, b),
    "matmul": lambda a, b: a @ b,
    "linear": lambda a, b: F.linear(a, b),
    "concat": lambda a, b: pydl.concat([a, b]),
    "mse_loss": lambda a, b: F.mse_loss(a, b),
    "cross_entropy": lambda a, b: F.cross_entropy(a, pydl.zeros(3, dtype=pydl.int64, device=b.device)),
    "embedding": lambda a, b: F.embedding(pydl.zeros(2, dtype=pydl.int64, device=b.device), a),
    "layer_norm": lambda a, b: F.layer_norm(a, (3,), b[0]),
    "conv2d": lambda a, b: F.conv2d(a.reshape(1, 1, 3, 3), b.reshape(1, 1, 3, 3)),
    "setitem": lambda a, b: a.__setitem__(0, b[0]),
    "backward": lambda a, b: (a.requires_grad_() * 1.0).backward(b),
    "grad": lambda a, b: setattr(a, "grad", b),
}


@needs_device
class TestDevice:
    def test_there_and_back(self, rng: np.random.Generator) -> None:
        for dtype in ("float32", "float64", "int64", "uint8", "bool"):
            for shape in ((), (0,), (3,), (2, 3, 4), (70_001,)):
                a = rng.integers(0, 2, shape).astype(dtype) if dtype == "bool" else rng.normal(size=shape).astype(dtype)
                x = pydl.asarray(a).to("cuda")
                assert (x.is_cuda, x.is_cpu, str(x.device)) == (True, False, "cuda:0")
                back = x.cpu()
                assert back.is_cpu
                assert back.dtype == x.dtype
                np.testing.assert_array_equal(back.numpy(), a)
        assert x.to("cuda") is x
        assert x.cuda() is x
        assert back.cpu() is back
        assert x.clone().device == x.device
        images = pydl.asarray(rng.normal(size=(2, 5, 4, 3))).permute_dims((0, 3, 1, 2))  # channels-last
        there = images.to("cuda")
        assert there.strides == images.strides
        np.testing.assert_array_equal(there.cpu().numpy(), images.numpy())
        odd = pydl.asarray(rng.normal(size=(4, 6)))[::2, ::-1]
        np.testing.assert_array_equal(odd.to("cuda").cpu().numpy(), odd.numpy())

    def test_gradients_come_back(self) -> None:
        x = pydl.ones((2, 3), requires_grad=True)
        w = pydl.full((3,), 2.0).to("cuda").requires_grad_()
        (pydl.exp(x.to("cuda") * w).sum() * 0.5).backward()
        assert x.grad is not None
        assert w.grad is not None
        assert (x.grad.device.type, w.grad.device.type) == ("cpu", "cuda")
        np.testing.assert_allclose(x.grad.numpy(), np.full((2, 3), np.e**2), rtol=1e-6)
        np.testing.assert_allclose(w.grad.cpu().numpy(), np.full(3, np.e**2), rtol=1e-6)

    def test_numbers_and_scalars_of_the_cpu_meet_any_tensor(self) -> None:
        x = pydl.asarray([1.0, 2.0]).to("cuda")
        scale = pydl.asarray(3.0, requires_grad=True)
        for y, want in (
            (x * 2, [2, 4]),
            (1 - x, [0, -1]),
            (x * scale, [3, 6]),
            (scale + x, [4, 5]),
            (pydl.where(x > 1, x, 0.0), [0, 2]),
            (pydl.maximum(x, pydl.asarray(1.5)), [1.5, 2]),
            (x**2, [1, 4]),
            (pydl.clip(x, 1.2, 1.8), [1.2, 1.8]),
        ):
            assert y.is_cuda
            np.testing.assert_allclose(y.detach().cpu().numpy(), want, rtol=1e-6)
        (x * scale).sum().backward()
        assert scale.grad is not None
        assert scale.grad.is_cpu
        assert scale.grad.item() == 3.0
        x[0] = pydl.asarray(7.0)
        x += pydl.asarray(1.0)
        assert x.tolist() == [8.0, 3.0]
        assert x[pydl.asarray([1, 0])].tolist() == [3.0, 8.0]  # indices of the CPU serve
        x.copy_(pydl.asarray([5.0, 6.0]))  # asked for
        assert x.tolist() == [5.0, 6.0]

    @pytest.mark.parametrize("name", MIXED)
    def test_other_mixtures_are_refused(self, name: str) -> None:
        for a, b in (("cpu", "cuda"), ("cuda", "cpu")):
            with pytest.raises(ValueError, match=r"(?s)\[.*cpu|\[.*cuda:0") as error:
                MIXED[name](pydl.ones((3, 3), device=a), pydl.ones((3, 3), device=b))
            assert "cuda:0" in str(error.value)
            assert "cpu" in str(error.value)

    def test_numpy_and_others_are_told_what_to_do(self) -> None:
        x = pydl.ones((2,)).to("cuda")
        with pytest.raises(TypeError, match=r"\[numpy\] the tensor is on cuda:0.*cpu\(\)"):
            x.numpy()
        with pytest.raises(TypeError, match="cpu"):
            np.asarray(x)
        with pytest.raises(BufferError, match="cpu"):
            memoryview(x)
        assert x.__dlpack_device__() == (2, 0)
        assert x.tolist() == [1.0, 1.0]
        assert float(x[0]) == 1.0
        assert "device='cuda:0'" in repr(x)

    def test_integers_are_multiplied_exactly(self) -> None:
        rng = np.random.default_rng(4)
        a, b = rng.integers(-(2**62), 2**62, size=(2, 3, 5)), rng.integers(-(2**62), 2**62, size=(2, 5, 4))
        want = a @ b
        x, y = pydl.asarray(a).to("cuda"), pydl.asarray(b).to("cuda")
        np.testing.assert_array_equal((x @ y).cpu().numpy(), want)
        transposed = y.permute_dims((0, 2, 1)).contiguous().permute_dims((0, 2, 1))
        np.testing.assert_array_equal((x @ transposed).cpu().numpy(), want)
        np.testing.assert_array_equal((x[0] @ y[0, :, 0]).cpu().numpy(), a[0] @ b[0, :, 0])
        small = x.astype(pydl.int8) @ y.astype(pydl.int8)
        np.testing.assert_array_equal(small.cpu().numpy(), a.astype(np.int8) @ b.astype(np.int8))
        assert (x[:, :, :0] @ y[:, :0]).tolist() == np.zeros((2, 3, 4)).tolist()

    def test_modules_move_and_optimizers_go_on(self, tmp_path: pathlib.Path) -> None:
        pydl.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
        x, y = pydl.randn(8, 3), pydl.randn(8, 1)
        losses = {}
        for name in ("cpu", "cuda"):
            net = copy.deepcopy(model)
            optimizer = optim.Adam(net.parameters(), lr=0.05)
            net.to(name)
            assert {t.device.type for t in net.state_dict().values()} == {name}
            losses[name] = []
            for _ in range(4):
                optimizer.zero_grad()
                loss = F.mse_loss(net(x.to(name)), y.to(name))
                loss.backward()
                optimizer.step()
                losses[name].append(loss.item())
            assert net[1].num_batches_tracked.item() == 4
        np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-4)
        pydl.serialization.save_file(net.state_dict(), tmp_path / "model.safetensors")
        model.load_state_dict(pydl.serialization.load_file(tmp_path / "model.safetensors"))
        np.testing.assert_array_equal(model[0].weight.detach().numpy(), net[0].weight.detach().cpu().numpy())
        net.load_state_dict(model.state_dict())  # a copy that is asked for
        assert net[0].weight.is_cuda
        assert pickle.loads(pickle.dumps(net[0].weight.detach())).tolist() == net[0].weight.tolist()
        assert copy.deepcopy(net)[0].weight.is_cuda
        assert net.cpu()[0].weight.is_cpu

    def test_a_trainer_trains_where_the_model_is(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(64, 5)).astype(np.float32)
        y = (x[:, 0] > 0).astype(np.int64)
        histories = {}
        for name in ("cpu", "cuda"):
            pydl.manual_seed(3)
            model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).to(name)
            trainer = pydl.Trainer(model, loss="cross_entropy", optimizer="adam", metrics=["accuracy"], seed=1)
            history = trainer.fit(
                x, y, batch_size=16, epochs=3, validation_split=0.25, validation_mode="random", verbose=0
            )
            histories[name] = history.history["loss"]
            assert trainer.predict(x[:3]).shape == (3, 2)
            assert set(trainer.evaluate(x, y, return_dict=True)) >= {"loss", "accuracy"}
        np.testing.assert_allclose(histories["cuda"], histories["cpu"], rtol=1e-4)

    def test_autocast_works_in_bfloat16_itself(self, rng: np.random.Generator) -> None:
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).to("cuda")
        x = pydl.asarray(rng.standard_normal((5, 2, 6, 6)).astype(np.float32)).to("cuda")
        conv, dense = model[0], model[3]

        def narrow(*tensors: pydl.Tensor) -> list[pydl.Tensor]:
            return [t.detach().astype(pydl.bfloat16) for t in tensors]

        def widened(t: pydl.Tensor) -> pydl.Tensor:
            assert t.dtype == pydl.bfloat16
            return t.astype(pydl.float32)

        hidden = F.relu(widened(F.conv2d(*narrow(x, conv.weight, conv.bias)))).flatten(1)
        expected = widened(F.linear(*narrow(hidden, dense.weight, dense.bias)))
        trainer = pydl.Trainer(model, "mse", "sgd", lr=0.1, autocast="bfloat16")
        np.testing.assert_array_equal(trainer.predict(x), expected.cpu().numpy())
        y = pydl.ones((5, 2), device="cuda")
        before = trainer.evaluate(x, y)["loss"]
        trainer.fit(x, y, epochs=5, verbose=0)
        assert trainer.evaluate(x, y)["loss"] < before
        assert {p.dtype for p in model.parameters()} == {pydl.float32}

    def test_the_same_seed_gives_the_cpu_s_numbers(self) -> None:
        drawn = []
        for name in ("cpu", "cuda"):
            pydl.manual_seed(5)
            x = pydl.rand(1001, device=name)
            drawn.append((x.cpu().numpy(), F.dropout(pydl.ones(999, device=name), 0.3).cpu().numpy()))
        np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
        np.testing.assert_array_equal(drawn[0][1], drawn[1][1])

    def test_memory_is_counted_limited_and_given_back(self) -> None:
        pydl.cuda.synchronize()
        before = pydl.cuda.memory_allocated()
        pydl.cuda.reset_peak_memory_stats()
        x = pydl.zeros(1 << 20, device="cuda")
        assert pydl.cuda.memory_allocated() == before + (4 << 20)
        assert pydl.cuda.max_memory_allocated() >= before + (4 << 20)
        del x
        assert pydl.cuda.memory_allocated() == before
        free, total = pydl.cuda.mem_get_info()
        assert 0 < free <= total
        pydl.cuda.set_per_process_memory_fraction((before + (1 << 20)) / total)
        try:
            with pytest.raises(MemoryError, match=r"out of memory on cuda:0: wanted 4\.2 MB.*limits"):
                pydl.zeros(1 << 20, device="cuda")
        finally:
            pydl.cuda.set_per_process_memory_fraction(1.0)
        assert pydl.zeros(1 << 20, device="cuda").shape == (1 << 20,)
        pydl.cuda.empty_cache()
        with pytest.raises(ValueError, match="0 to 1"):
            pydl.cuda.set_per_process_memory_fraction(1.5)

    def test_threads_hand_tensors_to_each_other(self) -> None:
        found: list[float] = []

        def work(x: pydl.Tensor) -> None:
            for _ in range(20):
                x = x * 2.0 - x
            found.append(x.sum().item())

        x = pydl.ones(1000, device="cuda") + 1.0
        threads = [threading.Thread(target=work, args=(x,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [2000.0] * 4

    def test_what_it_is(self) -> None:
        assert pydl.cuda.device_count() >= 1
        assert pydl.cuda.get_device_name()
        assert pydl.cuda.get_device_capability() >= (5, 0)
        assert pydl.cuda.current_device() == 0
        assert any("cuda:0" in line for line in pydl.backend.info()["cuda"])
        assert pydl.device("cuda") == pydl.device("cuda:0") == "cuda"
