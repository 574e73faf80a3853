"""The cases: one row for each workload, with its sizes, its goal and the work it does. How they run is told elsewhere.

A case of a kind that exists is one row here. A new kind is a class in kinds.py, and a builder in the file of each side
that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bench.kinds import KINDS, Arrays, Kind, Sizes


@dataclass(frozen=True)
class Case:
    """One workload.

    Attributes:
        name: what tables and options call it.
        kind: what is computed, a key of KINDS and of each side's BUILDERS.
        sizes: arguments of the kind's inputs and of the builders.
        goal: pydl's median over the best peer's, at most.
        limit: pydl's median in seconds (or bytes), at most.
        share: part of the machine's peak, at least; of multiply-adds or of copying, as the kind counts its work.
    """

    name: str
    kind: str
    sizes: Sizes = field(default_factory=dict)
    goal: float | None = None
    limit: float | None = None
    share: float | None = None

    @property
    def of(self) -> Kind:
        return KINDS[self.kind]

    @property
    def unit(self) -> str:
        return self.of.unit

    def reduced(self) -> Case:
        """The same computation, small enough for a test."""
        return replace(self, sizes={**self.sizes, **self.of.reduced})

    def inputs(self) -> Arrays:
        """The same random arrays in every process: float32, and int64 where they are ids."""
        return self.of.inputs(np.random.default_rng(len(self.name)), **self.sizes)

    def reference(self) -> Arrays:
        """The results in float64."""
        wide = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in self.inputs().items()}
        return self.of.reference(wide, **self.sizes)

    def check(self, results: Mapping[str, np.ndarray], reference: Arrays) -> None:
        """Raise ValueError where a side's results are not those of the reference.

        Whole numbers must be equal. Others may differ by the kind's tolerance, relative to the norm of all of an array.
        """
        if set(results) != set(reference):
            raise ValueError(f"[{self.name}] got results {sorted(results)}, expected {sorted(reference)}")
        for name, exact in reference.items():
            got, exact = np.asarray(results[name]), np.asarray(exact)
            if got.shape != exact.shape:
                raise ValueError(f"[{self.name}] {name}: got shape {got.shape}, expected {exact.shape}")
            if exact.dtype.kind in "iub":
                error, allowed = float(np.sum(got != exact)), 0.0
            else:
                scale = max(float(np.linalg.norm(exact)), float(np.finfo(np.float64).tiny))
                error = float(np.linalg.norm(got.astype(np.float64) - exact)) / scale
                allowed = self.of.tolerance(name)
            if not error <= allowed:
                raise ValueError(f"[{self.name}] {name}: the error is {error:.3g}, expected at most {allowed:.3g}")


def _lm(cell: str, hidden: int, layers: int, batch: int = 50, steps: int = 50) -> Sizes:
    return {"cell": cell, "hidden": hidden, "layers": layers, "batch": batch, "steps": steps, "vocabulary": 65}


def _conv(batch: int, channels: int, out_channels: int, size: int, kernel: int, stride: int, backward: bool) -> Sizes:
    shape = {"batch": batch, "channels": channels, "out_channels": out_channels, "size": size, "kernel": kernel}
    return {**shape, "stride": stride, "backward": backward}


_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: pooling
_MNIST = {"batch": 128, "widths": (784, 512, 512, 10), "optimizer": "adam"}
_TINY = {"batch": 32, "widths": (20, 32, 2), "optimizer": "sgd"}
_TWO_LAYERS = {"cell": "lstm", "layers": 2, "length": 200, "vocabulary": 65}

CASES = (
    Case("gemm_1024", "gemm", {"n": 1024}, goal=1.0, share=0.88),
    Case("gemm_64", "gemm", {"n": 64}, goal=0.8),
    Case("mlp_mnist_b128_adam", "mlp", _MNIST, goal=0.8),
    Case("mlp_tiny_b32_sgd", "mlp", _TINY, goal=0.5),
    Case("cnn_mnist_b64_adam", "cnn", {"batch": 64, "size": 28, "widths": (32, 64), "hidden": 128}, goal=0.5),
    Case("resnet18_cifar_b32_sgd", "resnet", {"batch": 32, "size": 32, "widths": (64, 128, 256, 512)}, goal=0.65),
    Case("vgg16_224_b4_infer", "vgg", {"batch": 4, "size": 224, "widths": _VGG16, "hidden": 4096}, goal=0.6),
    Case("charrnn_elman_h256_b50_t50", "char_lm", _lm("rnn", 256, 1), goal=0.5),
    Case("charlstm_2x128_b50_t50", "char_lm", _lm("lstm", 128, 2), goal=0.6),
    Case("charlstm_2x512_b50_t50", "char_lm", _lm("lstm", 512, 2), goal=0.8),
    Case("chargru_2x256_b50_t50", "char_lm", _lm("gru", 256, 2), goal=0.45),
    Case("minchar_elman_h100_b1_t25", "char_lm", _lm("rnn", 100, 1, batch=1, steps=25), goal=0.6),
    Case("sample200_lstm_2x128", "sample", {**_TWO_LAYERS, "hidden": 128}, goal=0.2),
    Case("sample200_lstm_2x512", "sample", {**_TWO_LAYERS, "hidden": 512}, goal=0.25),
    Case("conv_fwdbwd_n16_64_64_56_k3", "conv", _conv(16, 64, 64, 56, 3, 1, True), goal=0.7),
    Case("conv_fwdbwd_n16_256_256_14_k3", "conv", _conv(16, 256, 256, 14, 3, 1, True), goal=0.7),
    Case("conv_fwdbwd_n16_64_256_56_k1", "conv", _conv(16, 64, 256, 56, 1, 1, True), goal=0.35),
    Case("conv_fwd_n16_3_64_224_k7s2", "conv", _conv(16, 3, 64, 224, 7, 2, False), goal=0.45),
    Case("softmax_ce_fwdbwd_4096x1000", "softmax_ce", {"rows": 4096, "classes": 1000}, goal=0.6),
    Case("batchnorm_fwdbwd_n32_64_56", "batch_norm", {"batch": 32, "channels": 64, "side": 56}, goal=0.4),
    Case("adam_10M", "adam", {"tensors": 10, "side": 1000}, goal=0.75),
    Case("adam_10M_compiled_step", "adam_compiled_step", {"tensors": 10, "side": 1000}),
    Case("op_overhead_add_fwdbwd_1", "add_backward", goal=0.15, limit=1.9e-6),
    Case("op_overhead_add_recorded_1", "add_recorded", limit=0.5e-6),
    Case("gelu_1M", "gelu", {"n": 1 << 20}, goal=0.8),
    Case("exp_16M", "exp", {"n": 1 << 24}, goal=0.7),
    Case("import_above_numpy", "import_time", limit=30e-3),
    Case("installed_size", "installed_size", limit=8e6),
)


# What is measured with --device cuda, beside PyTorch on the same GPU.
CUDA_CASES = (
    Case("cuda_copy_64M", "copy", {"n": 1 << 26}, goal=1.03),
    Case("cuda_gemm_4096", "gemm", {"n": 4096}, goal=1.03),
    Case("cuda_gemm_8192", "gemm", {"n": 8192}, goal=1.03),
    Case("cuda_gemm_4096_tf32", "gemm_tf32", {"n": 4096}, goal=1.03),
    Case("cuda_gemm_8192_tf32", "gemm_tf32", {"n": 8192}, goal=1.03),
    Case("cuda_gemm_4096_bf16", "gemm_bfloat16", {"n": 4096}, goal=1.03),
    Case("cuda_gemm_8192_bf16", "gemm_bfloat16", {"n": 8192}, goal=1.03),
    Case("cuda_charrnn_elman_h256_b50_t50", "char_lm", _lm("rnn", 256, 1), goal=0.5),
    Case("cuda_charlstm_2x128_b50_t50", "char_lm", _lm("lstm", 128, 2), goal=0.5),
    Case("cuda_charlstm_2x128_b50_t50_captured", "char_lm_captured", _lm("lstm", 128, 2), goal=0.35),
    Case("cuda_charlstm_2x256_b128_t100", "char_lm", _lm("lstm", 256, 2, 128, 100), goal=0.5),
    Case("cuda_charlstm_2x512_b50_t50", "char_lm", _lm("lstm", 512, 2), goal=0.9),
    Case("cuda_charlstm_2x512_b128_t200", "char_lm", _lm("lstm", 512, 2, 128, 200), goal=0.9),
    Case("cuda_charlstm_2x512_b256_t100", "char_lm", _lm("lstm", 512, 2, 256, 100), goal=0.9),
    Case("cuda_chargru_2x256_b50_t50", "char_lm", _lm("gru", 256, 2), goal=0.9),
    Case("cuda_chargru_2x256_b256_t200", "char_lm", _lm("gru", 256, 2, 256, 200), goal=0.9),
    Case("cuda_sample200_lstm_2x512", "sample", {**_TWO_LAYERS, "hidden": 512}),
    Case("cuda_mlp_mnist_b128_adam", "mlp", _MNIST),
    Case("cuda_cnn_mnist_b64_adam", "cnn", {"batch": 64, "size": 28, "widths": (32, 64), "hidden": 128}),
    Case("cuda_resnet18_cifar_b128_sgd", "resnet", {"batch": 128, "size": 32, "widths": (64, 128, 256, 512)}, goal=0.9),
    Case(
        "cuda_resnet18_cifar_b128_sgd_bf16",
        "resnet_bfloat16",
        {"batch": 128, "size": 32, "widths": (64, 128, 256, 512)},
        goal=0.9,
    ),
    Case("cuda_conv_fwdbwd_n64_64_64_56_k3", "conv", _conv(64, 64, 64, 56, 3, 1, True)),
    Case("cuda_conv_fwdbwd_n64_256_256_14_k3", "conv", _conv(64, 256, 256, 14, 3, 1, True)),
    Case("cuda_softmax_ce_fwdbwd_16384x4096", "softmax_ce", {"rows": 16384, "classes": 4096}, share=0.85),
    Case("cuda_batchnorm_fwdbwd_n128_64_56", "batch_norm", {"batch": 128, "channels": 64, "side": 56}, share=0.85),
    Case("cuda_adam_100M", "adam_compiled_step", {"tensors": 25, "side": 2000}, share=0.85),
    Case("cuda_gelu_64M", "gelu", {"n": 1 << 26}),
    Case("cuda_op_overhead_add_fwdbwd_1", "add_backward"),
)


def select(only: str | None, device: str = "cpu") -> tuple[Case, ...]:
    """The device's cases whose name contains one of the comma-separated words; all without any.

    Raises:
        ValueError: no case matches a word.
    """
    cases = CASES if device == "cpu" else CUDA_CASES
    if not only:
        return cases
    words = only.split(",")
    for word in words:
        if not any(word in case.name for case in cases):
            raise ValueError(f"[bench] got --only {word}, expected part of: {', '.join(c.name for c in cases)}")
    return tuple(case for case in cases if any(word in case.name for word in words))
