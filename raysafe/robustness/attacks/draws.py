"""Random numbers that belong to a sample: counter-based, so that no order or split of the samples changes them.

A draw is a hash (the finaliser of SplitMix64, Steele, Lea and Flood 2014) of the seed, the sample's number, the stream
(restart, step) and its own place. One actor and four draw the same numbers, and so do a CPU and a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = 24
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def uniform(seed: int, sample_B: Tensor, stream: int, width: int) -> Tensor:
    """(B, width) float32 in [0, 1).

    sample_B: int64 numbers of the samples in the whole data; stream: what the numbers are for.
    """
    key_B = _mix(sample_B.to(torch.int64) + _signed(seed * _GOLDEN))
    key_B = _mix(key_B + _signed((stream + 1) * _GOLDEN))
    place_W = torch.arange(1, width + 1, device=sample_B.device) * _signed(_GOLDEN)
    bits_BW = _shift(_mix(key_B[:, None] + place_W), 64 - _BITS)
    return bits_BW.to(torch.float32) / (1 << _BITS)


def normal(seed: int, sample_B: Tensor, stream: int, width: int) -> Tensor:
    """(B, width) float32 of the standard normal distribution, by its inverse."""
    middle_BW = uniform(seed, sample_B, stream, width) + 0.5 / (1 << _BITS)
    return torch.erfinv(2 * middle_BW - 1) * 2**0.5


def laplace(seed: int, sample_B: Tensor, stream: int, width: int) -> Tensor:
    """(B, width) float32 of the Laplace distribution of scale 1, by its inverse."""
    centred_BW = uniform(seed, sample_B, stream, width) + 0.5 / (1 << _BITS) - 0.5
    return -centred_BW.sign() * torch.log1p(-2 * centred_BW.abs())


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _signed(_FIRST)
    value = (value ^ _shift(value, 27)) * _signed(_SECOND)
    return value ^ _shift(value, 31)


def _shift(value: Tensor, bits: int) -> Tensor:
    """A logical shift to the right: int64 has only the arithmetic one."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value
