"""Rounding a weight to 4 bits: to the nearest number, or by GPTQ (Frantar et al. 2023, arXiv:2210.17323).

GPTQ rounds column after column and lets the columns still to come make up for each rounding error, so that the output
on the calibration inputs changes least. It needs `H = X^T X` of the inputs X [n, in] alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_crosstask.errors import CrosstaskError
from hf_crosstask.release.packed import HIGHEST, LOWEST, Quantized

#: Added to the diagonal of H, as a share of its mean (the paper's 1 %); raised tenfold while H cannot be inverted.
_DAMPING = (0.01, 0.1, 1.0)
#: Columns whose errors are handed on to all later ones together.
_BLOCK = 128


def group_scales(weight: Tensor, group_size: int, dtype: torch.dtype) -> Tensor:
    """[out, in / group] scales at which the largest number of each group fits, rounded to `dtype`; 1 for zeros."""
    largest = weight.view(len(weight), -1, group_size).abs().amax(dim=-1)
    scales = (largest / ((HIGHEST - LOWEST) / 2)).to(dtype)
    return torch.where(scales > 0, scales, torch.ones_like(scales))


def round_to_nearest(weight: Tensor, group_size: int, dtype: torch.dtype) -> Quantized:
    """The weight [out, in] with every number rounded by itself.

    Args:
        weight: fp32.
        group_size: neighbours in a row that share a scale; divides `in`.
        dtype: what the scales are stored in.
    """
    scales = group_scales(weight, group_size, dtype)
    steps = weight.view(len(weight), -1, group_size) / scales.float()[..., None]
    return Quantized(steps.round().clamp(LOWEST, HIGHEST).to(torch.int8).view(weight.shape), scales)


def gptq(weight: Tensor, hessian: Tensor, group_size: int, dtype: torch.dtype) -> Quantized:
    """The weight [out, in] rounded by GPTQ.

    Columns are rounded in the order of their inputs' size, the largest first, while most columns can still make up for
    the errors (`act-order`); the scales are those of the groups as they stand in the weight, so that files need no
    order of columns (`static groups`).

    Args:
        weight: fp32.
        hessian: [in, in] fp32 `X^T X` of the calibration inputs.
        group_size: neighbours in a row that share a scale; divides `in`.
        dtype: what the scales are stored in.

    Raises:
        CrosstaskError: the calibration inputs are not finite numbers, or say too little.
    """
    scales = group_scales(weight, group_size, dtype)
    order = hessian.diagonal().argsort(descending=True, stable=True)
    inverse = _inverse_factor(hessian[order][:, order])
    left, steps = weight[:, order].clone(), scales.float().repeat_interleave(group_size, dim=1)[:, order]
    left[:, hessian.diagonal()[order] == 0] = 0  # inputs that never occur
    rounded = torch.empty_like(weight)
    for first in range(0, weight.shape[1], _BLOCK):
        columns = slice(first, min(first + _BLOCK, weight.shape[1]))
        block, factor = left[:, columns].clone(), inverse[columns, columns]
        errors = torch.zeros_like(block)
        for column in range(block.shape[1]):
            current, step = block[:, column], steps[:, first + column]
            rounded[:, first + column] = (current / step).round().clamp(LOWEST, HIGHEST)
            error = (current - rounded[:, first + column] * step) / factor[column, column]
            block[:, column:] -= error[:, None] * factor[column, column:][None]
            errors[:, column] = error
        left[:, columns.stop :] -= errors @ inverse[columns, columns.stop :]
    integers = torch.empty_like(weight, dtype=torch.int8)
    integers[:, order] = rounded.to(torch.int8)
    return Quantized(integers, scales)


def _inverse_factor(hessian: Tensor) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped H."""
    diagonal = hessian.diagonal()
    mean = diagonal.mean()
    if not torch.isfinite(mean):
        raise CrosstaskError("the calibration inputs of a layer are not finite numbers: the model diverged")
    for share in _DAMPING:
        damped = hessian.clone()
        damped.diagonal().add_((share * mean).clamp(min=torch.finfo(hessian.dtype).tiny))
        damped.diagonal()[diagonal == 0] = mean if mean > 0 else 1.0
        lower, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            continue
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed:
            return upper
    raise CrosstaskError("GPTQ cannot invert a layer's calibration statistics: give more calibration text")
