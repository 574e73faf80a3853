"""What is done to batches before the model sees them: normalization, and augmentation, seeded per sample.

    train = DataLoader(data, 64, shuffle=True, transform=Compose([RandomFlip(), RandomShift(0.1), Normalize().fit(x)]))

Images are (N, C, H, W) of uint8 or a floating dtype, sequences (N, T, ...). Tensors give Tensors, arrays give arrays.
"""

from pydl.data.transforms.base import Compose, Lambda, RandomApply, Transform
from pydl.data.transforms.geometry import (
    CenterCrop,
    RandomAffine,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomShear,
    RandomShift,
    RandomZoom,
    affine,
)
from pydl.data.transforms.mixing import CutMix, Mixup
from pydl.data.transforms.normalize import Normalize, Standardize
from pydl.data.transforms.sequences import RandomSequenceCrop, TokenDropout
from pydl.data.transforms.values import ColorJitter, Cutout, RandomBrightness, RandomContrast, RandomNoise, Rescale

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "Lambda",
    "Mixup",
    "Normalize",
    "RandomAffine",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomNoise",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSequenceCrop",
    "RandomShear",
    "RandomShift",
    "RandomZoom",
    "Rescale",
    "Standardize",
    "TokenDropout",
    "Transform",
    "affine",
]
