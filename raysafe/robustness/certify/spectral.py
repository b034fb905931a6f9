"""Spectral norms that are never below the true ones: Gram iteration (Delattre et al. 2023).

The squares G <- G^2 of G = W^T W have the spectral norms sigma^(2^(t+1)), and the Frobenius norm of a matrix is never
below its spectral norm: ||G_t||_F^(2^-(t+1)) >= sigma after any number of steps, and nears it twice as fast each step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raysafe.robustness.certify.affine import Averages, Convolution, Dense, ScaleShift
from raysafe.robustness.certify.operators import Affine

_STEPS = 12
_SMALL_SIDE = 512
_SLACK = 1.0 + 1e-9
"""More than what double precision's rounding comes to in the steps, after the root."""


def spectral_norm(matrix: Tensor) -> Tensor:
    """Upper bounds (…,) on the spectral norms of matrices (…, outputs, inputs), real or complex, in double precision.

    At most the rank's 2^-13th power above the truth: 0.2% for a rank of 1 million.
    """
    matrix = matrix.to(torch.complex128 if matrix.is_complex() else torch.float64)
    tall = matrix.shape[-2] > matrix.shape[-1]
    gram = matrix.mH @ matrix if tall else matrix @ matrix.mH
    logarithm = torch.zeros(matrix.shape[:-2], dtype=torch.float64, device=matrix.device)
    for _ in range(_STEPS):
        # kept in range: G^2 = c^2 (G / c)^2
        size = _frobenius(gram)
        gram = gram / size[..., None, None]
        gram = gram @ gram
        logarithm = 2 * (logarithm + size.log())
    return torch.exp((logarithm + _frobenius(gram).log()) / 2 ** (_STEPS + 1)) * _SLACK


def operator_norm(operator: Affine, shape: torch.Size) -> Tensor:
    """Upper bound on the norm of an affine operator's matrix, for inputs of a shape without the batch axis."""
    if isinstance(operator, Dense):
        return spectral_norm(operator.weight)
    if isinstance(operator, Convolution):
        return _convolution_norm(operator, shape)
    if isinstance(operator, ScaleShift):
        return torch.as_tensor(operator.gain(), dtype=torch.float64) * _SLACK
    if isinstance(operator, Averages):
        # ||W||_2^2 <= ||W||_1 ||W||_inf; the weights are at least 0, so W^T 1 are the columns' sums
        ones = torch.ones((1, *operator.apply(torch.zeros(1, *shape)).shape[1:]))
        return (operator.transpose(ones, shape).amax().double() * operator.gain()).sqrt() * (1 + 1e-6)
    return torch.tensor(1.0, dtype=torch.float64)


def _convolution_norm(convolution: Convolution, shape: torch.Size) -> Tensor:
    """Of the matrix itself where that is small, else of a larger one.

    Zeros about an image make its convolution a part of one on a torus that is larger by the kernel, and a stride takes
    a part of that one's outputs; the torus' matrix falls apart into one of outputs x inputs a frequency.
    """
    weight = convolution.weight.double()
    kernel = weight.shape[2:]
    if shape.numel() <= _SMALL_SIDE:
        units = torch.eye(shape.numel(), dtype=torch.float64, device=weight.device).view(-1, *shape)
        images = torch.nn.functional.conv2d(
            units, weight, None, convolution.stride, convolution.padding, convolution.dilation, convolution.groups
        )
        return spectral_norm(images.flatten(1))
    spans = [step * (size - 1) + 1 for step, size in zip(convolution.dilation, kernel, strict=True)]
    sizes = [size + 2 * pad + span for size, pad, span in zip(shape[1:], convolution.padding, spans, strict=True)]
    groups, (outputs, inputs) = convolution.groups, weight.shape[:2]
    spread = weight.new_zeros(outputs, inputs, *spans)
    spread[:, :, :: convolution.dilation[0], :: convolution.dilation[1]] = weight
    waves = torch.fft.fft2(spread, s=sizes).view(groups, outputs // groups, inputs, -1)
    return spectral_norm(waves.permute(0, 3, 1, 2)).amax()


def _frobenius(matrix: Tensor) -> Tensor:
    # a matrix of zeros has the norm 0, whose logarithm would spoil the rest
    return torch.linalg.matrix_norm(matrix).real.clamp(min=1e-150)
