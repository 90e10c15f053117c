"""Gradient surgery: how the per-task gradients of shared parameters are combined where they conflict.

Every method works on the Gramian K = J Jᵀ [T, T] of the per-task gradients J [T, P] and gives weights w [T]; the
combined gradient is w J, of the size of the plain sum, so that methods compare at the same learning rate. Without a
conflict PCGrad and UPGrad give exactly the sum. K is additive over blocks of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Method = Literal["none", "pcgrad", "upgrad", "cagrad", "gradvac"]
Granularity = Literal["global", "layer", "module"]
METHODS: tuple[str, ...] = get_args(Method)
GRANULARITIES: tuple[str, ...] = get_args(Granularity)

Floats = NDArray[np.float64]
Orders = list[list[int]]

#: Radius of CAGrad's ball around the mean gradient, in its norms (the paper's default for supervised learning).
CAGRAD_RADIUS = 0.5
#: How fast GradVac's target similarities follow the observed ones (the paper's β).
GRADVAC_RATE = 0.01


def task_orders(tasks: int, seed: int, step: int) -> Orders:
    """For each task, the other tasks in random order: the order in which conflicts with them are removed.

    Depends on the seed and the step alone, so processes and resumed runs agree.
    """
    generator = np.random.default_rng([seed, step])
    orders = []
    for task in range(tasks):
        others = [other for other in range(tasks) if other != task]
        orders.append([others[index] for index in generator.permutation(len(others))])
    return orders


def pcgrad(gramian: Floats, orders: Orders) -> Floats:
    """PCGrad (Yu et al. 2020, algorithm 1): each task's gradient loses its component along every original gradient
    that it conflicts with at that point; the projected gradients are summed.

    Args:
        gramian: [T, T].
        orders: of `task_orders`.

    Returns:
        [T] weights.
    """
    total = np.zeros(len(gramian))
    for task, others in enumerate(orders):
        weights = np.zeros(len(gramian))
        weights[task] = 1.0
        for other in others:
            product = float(gramian[other] @ weights)
            if product < 0 and gramian[other, other] > 0:  # a zero gradient has no direction
                weights[other] -= product / gramian[other, other]
        total += weights
    return total


def upgrad(gramian: Floats, orders: Orders) -> Floats:
    """UPGrad (Quinton & Rey 2024): each task's gradient is projected onto the cone of directions that conflict with no
    task; the projections are summed (the paper averages them).

    The projection of task i has the weights v ≥ eᵢ with the smallest vᵀ K v, found as non-negative least squares.
    """
    from scipy.optimize import nnls

    root = _root(gramian)
    total = np.zeros(len(gramian))
    for task in range(len(gramian)):
        total += nnls(root, -root[:, task])[0]
        total[task] += 1.0
    return total


def cagrad(gramian: Floats, orders: Orders, radius: float = CAGRAD_RADIUS) -> Floats:
    """CAGrad (Liu et al. 2021): the update in a ball around the mean gradient that helps the worst-off task most,
    times T to be of the sum's size.

    With g₀ the mean gradient, u minimises (u J)·g₀ + c|g₀||u J| over the simplex; the update is g₀ + c|g₀| (u J)/|u J|.
    """
    from scipy.optimize import minimize

    tasks = len(gramian)
    scale = float(np.trace(gramian)) / tasks
    even = np.full(tasks, 1.0 / tasks)
    if scale <= 0:
        return np.ones(tasks)
    normed = gramian / scale
    mean = normed @ even
    ball = radius * math.sqrt(max(0.0, float(even @ mean)))

    def cost(weights: Floats) -> tuple[float, Floats]:
        product = normed @ weights
        norm = math.sqrt(max(float(weights @ product), 1e-24))
        return float(weights @ mean) + ball * norm, mean + ball * product / norm

    found = minimize(
        cost,
        even,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * tasks,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    chosen = np.clip(found.x, 0.0, None)
    norm = math.sqrt(max(0.0, float(chosen @ normed @ chosen)))
    if norm < 1e-8:  # the tasks' gradients cancel: nothing to add to their mean
        return np.ones(tasks)
    return tasks * (even + ball / norm * chosen)


def gradvac(gramian: Floats, orders: Orders, targets: Floats) -> tuple[Floats, Floats]:
    """GradVac (Wang et al. 2021): where two tasks are less similar than they usually are, one is turned towards the
    other until they are; the turned gradients are summed.

    Args:
        gramian: [T, T].
        orders: of `task_orders`.
        targets: [T, T] moving averages of the cosines; zeros at the start.

    Returns:
        [T] weights and the new targets.
    """
    total, targets = np.zeros(len(gramian)), targets.copy()
    norms = np.sqrt(np.clip(np.diag(gramian), 0.0, None))
    for task, others in enumerate(orders):
        weights = np.zeros(len(gramian))
        weights[task] = 1.0
        for other in others:
            norm = math.sqrt(max(0.0, float(weights @ gramian @ weights)))
            if norm == 0 or norms[other] == 0:
                continue
            cosine = float(np.clip(gramian[other] @ weights / (norm * norms[other]), -1.0, 1.0))
            target = float(targets[task, other])
            if cosine < target:
                sine = math.sqrt(1 - target**2)
                weights[other] += norm * (target * math.sqrt(1 - cosine**2) - cosine * sine) / (norms[other] * sine)
            targets[task, other] = (1 - GRADVAC_RATE) * target + GRADVAC_RATE * cosine
        total += weights
    return total, targets


#: Methods that need nothing but the Gramian of the step.
STATELESS: Mapping[str, Callable[[Floats, Orders], Floats]] = {"pcgrad": pcgrad, "upgrad": upgrad, "cagrad": cagrad}


def cosines(gramian: Floats) -> Floats:
    """[T, T] cosines between the tasks' gradients; NaN where a gradient is zero."""
    norms = np.sqrt(np.clip(np.diag(gramian), 0.0, None))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.outer(norms, norms) > 0, np.clip(gramian / np.outer(norms, norms), -1.0, 1.0), np.nan)


def _root(gramian: Floats) -> Floats:
    """A matrix R with Rᵀ R = K."""
    values, vectors = np.linalg.eigh(gramian)
    return np.sqrt(np.clip(values, 0.0, None))[:, None] * vectors.T
