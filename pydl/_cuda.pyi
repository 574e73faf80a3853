"""The module of CUDA kernels, which a build may lack."""

from typing import Any

backend: Any
emulated: bool
