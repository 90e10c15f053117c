"""Gradient surgery: published values, the paper's algorithm, its invariants, and defects of other implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_crosstask.training.surgery import cagrad, cosines, gradvac, pcgrad, task_orders, upgrad

REFERENCE = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])  # TorchJD tests/unit/aggregation/test_values.py
METHODS = (pcgrad, upgrad, cagrad, lambda k, o: gradvac(k, o, np.zeros_like(k))[0])


def gradients(tasks, columns, seed):
    return np.random.default_rng(seed).standard_normal((tasks, columns))


jacobians = st.builds(gradients, st.integers(2, 6), st.integers(2, 12), st.integers(0, 10**6))
pairs = st.builds(gradients, st.just(2), st.integers(2, 12), st.integers(0, 10**6))


def combined(method, jacobian, step=0):
    return method(jacobian @ jacobian.T, task_orders(len(jacobian), 0, step)) @ jacobian


def as_in_the_paper(losses, parameters, orders):
    """Yu et al. 2020, algorithm 1, with autograd on every loss and explicit projections."""
    originals = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True)]) for loss in losses
    ]
    total = torch.zeros_like(originals[0])
    for task, others in enumerate(orders):
        projected = originals[task].clone()
        for other in others:
            product = projected @ originals[other]
            if product < 0:
                projected -= product / (originals[other] @ originals[other]) * originals[other]
        total += projected
    return originals, total


def test_reference_values():
    np.testing.assert_allclose(combined(pcgrad, REFERENCE), [0.5848, 3.8012, 3.8012], atol=5e-5)
    gramian = REFERENCE @ REFERENCE.T
    np.testing.assert_allclose(pcgrad(gramian, task_orders(2, 0, 0)), [2.2222, 1.5789], atol=5e-5)
    # The published means; ours are T times as large. TorchJD's UPGrad regularises its programme (0.2929).
    np.testing.assert_allclose(combined(upgrad, REFERENCE) / 2, [0.2929, 1.9004, 1.9004], atol=1e-3)
    np.testing.assert_allclose(combined(cagrad, REFERENCE) / 2, [0.1835, 1.2041, 1.2041], atol=5e-5)


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_the_paper_by_autograd(tasks):
    torch.manual_seed(tasks)
    body = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    heads = [torch.nn.Linear(3, 2).double() for _ in range(tasks)]
    inputs, targets = torch.randn(tasks, 9, 7).double(), torch.randn(tasks, 9, 2).double() * 5
    for step in range(20):
        losses = [((heads[t](body(inputs[t])) - targets[t]) ** 2).mean() for t in range(tasks)]
        orders = task_orders(tasks, 1, step)
        originals, expected = as_in_the_paper(losses, list(body.parameters()), orders)
        jacobian = torch.stack(originals).numpy()
        ours = pcgrad(jacobian @ jacobian.T, orders) @ jacobian
        assert np.abs(ours - expected.numpy()).max() < 1e-10
        with torch.no_grad():
            for parameter in body.parameters():
                parameter += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize("method", [pcgrad, upgrad])
@given(jacobians)
@settings(max_examples=50, deadline=None)
def test_without_conflict_it_is_the_sum(method, jacobian):
    positive = np.abs(jacobian)
    weights = method(positive @ positive.T, task_orders(len(positive), 0, 0))
    if method is pcgrad:
        assert (weights == 1).all()
    np.testing.assert_allclose(weights @ positive, positive.sum(0), atol=1e-9)


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_two_conflicting_tasks_in_closed_form(jacobian):
    one, other = jacobian
    product = one @ other
    if product >= 0:
        one, product = -one, -product
    conflicting = np.stack([one, other])
    first = one - product / (other @ other) * other
    second = other - product / (one @ one) * one
    assert abs(first @ other) < 1e-9
    assert abs(second @ one) < 1e-9
    expected = (1 - product / (one @ one)) * one + (1 - product / (other @ other)) * other
    np.testing.assert_allclose(combined(pcgrad, conflicting), expected, atol=1e-9)
    np.testing.assert_allclose(combined(pcgrad, conflicting), first + second, atol=1e-9)
    np.testing.assert_allclose(combined(upgrad, conflicting), expected, atol=1e-8)


@given(st.integers(1, 20), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_opposite_gradients_cancel(columns, seed):
    one = np.random.default_rng(seed).standard_normal(columns)
    for method in (pcgrad, upgrad):
        np.testing.assert_allclose(combined(method, np.stack([one, -3 * one])), 0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@given(jacobians, st.floats(1e-3, 2.0**16))
@settings(max_examples=25, deadline=None)
def test_one_loss_scale_scales_the_result(method, jacobian, scale):
    size = np.abs(jacobian).sum() * len(jacobian)
    np.testing.assert_allclose(
        combined(method, scale * jacobian) / scale, combined(method, jacobian), atol=2e-4 * size
    )


@given(jacobians, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_tasks_may_be_named_in_any_order(jacobian, random):
    order = list(range(len(jacobian)))
    random.shuffle(order)
    orders = task_orders(len(jacobian), 0, 0)
    renamed = [[order.index(other) for other in orders[task]] for task in order]
    permuted = jacobian[order]
    one = pcgrad(jacobian @ jacobian.T, orders) @ jacobian
    np.testing.assert_allclose(pcgrad(permuted @ permuted.T, renamed) @ permuted, one, atol=1e-9)


@given(jacobians)
@settings(max_examples=25, deadline=None)
def test_upgrad_conflicts_with_no_task(jacobian):
    assert (jacobian @ combined(upgrad, jacobian) > -1e-7).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_gradient_is_harmless(method):
    result = combined(method, np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, 0.5]]))
    assert np.isfinite(result).all()
    assert np.abs(result).max() > 0.1
    assert (combined(method, np.zeros((3, 2))) == 0).all()


def test_the_order_is_random_and_without_the_task_itself():
    """Defects: the shuffled order is thrown away; a task is projected against itself."""
    seen = {tuple(map(tuple, task_orders(4, 0, step))) for step in range(50)}
    assert len(seen) > 40
    assert all(sorted(others) == [t for t in range(4) if t != task] for o in seen for task, others in enumerate(o))
    assert task_orders(5, 3, 7) == task_orders(5, 3, 7) != task_orders(5, 4, 7)
    jacobian = gradients(4, 3, 5)
    assert len({tuple(combined(pcgrad, jacobian, step).round(9)) for step in range(30)}) > 5


def test_a_task_is_not_projected_against_itself():
    """Three tasks in two dimensions, where g₁ after its projections opposes g₁ itself."""
    found = 0
    for seed in range(300):
        jacobian = gradients(3, 2, seed)
        orders = task_orders(3, 0, seed)
        with_itself = [[*others, task] for task, others in enumerate(orders)]
        gramian = jacobian @ jacobian.T
        found += not np.allclose(pcgrad(gramian, orders), pcgrad(gramian, with_itself))
    assert found > 5  # the defect would show


def test_projections_are_against_original_gradients_and_summed():
    """Defects: gradients are projected in place against already projected ones (5.47, 2.58, 2.58); the mean is taken."""
    in_place = REFERENCE.copy()
    for task, other in ((0, 1), (1, 0)):
        product = in_place[task] @ in_place[other]
        if product < 0:
            in_place[task] -= product / (in_place[other] @ in_place[other]) * in_place[other]
    assert not np.allclose(in_place.sum(0), combined(pcgrad, REFERENCE), atol=0.1)
    agreeing = np.array([[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(combined(pcgrad, agreeing), [2.0, 1.0])


def test_the_current_projection_decides_not_the_original():
    """Defect: g_i·g_j of the original g_i is used for every j."""
    jacobian = np.array([[1.0, 0.0], [-1.0, 1.0], [-1.0, 0.9]])
    orders = [[1, 2], [0, 2], [0, 1]]
    first = jacobian[0] - (jacobian[0] @ jacobian[1]) / 2 * jacobian[1]
    gramian = jacobian @ jacobian.T
    weights = np.zeros(3)
    weights[0] = 1
    assert first @ jacobian[2] < 0
    assert not np.isclose(first @ jacobian[2], gramian[0, 2])
    first = first - (first @ jacobian[2]) / gramian[2, 2] * jacobian[2]
    rest = pcgrad(gramian, orders) @ jacobian - first
    others = sum(np.array(j) - min(0, j @ jacobian[0]) / gramian[0, 0] * jacobian[0] for j in jacobian[1:])
    np.testing.assert_allclose(rest, others, atol=1e-9)


def test_gradvac_remembers_and_turns_towards_its_targets():
    jacobian = np.array([[1.0, 0.2], [-0.5, 1.0]])
    gramian, orders = jacobian @ jacobian.T, task_orders(2, 0, 0)
    weights, targets = gradvac(gramian, orders, np.zeros((2, 2)))
    np.testing.assert_allclose(weights, pcgrad(gramian, orders), atol=1e-9)  # at target 0 it is PCGrad
    cosine = cosines(gramian)[0, 1]
    np.testing.assert_allclose(targets, 0.01 * cosine * (1 - np.eye(2)))
    wanted = np.full((2, 2), 0.5)
    turned = np.array([1.0, 0.0])
    turned[1] = gradvac(gramian, [[1], []], wanted)[0][1] - 1
    first = turned @ jacobian
    assert first @ jacobian[1] / np.linalg.norm(first) / np.linalg.norm(jacobian[1]) == pytest.approx(0.5)


def test_cosines():
    found = cosines(np.array([[4.0, -2.0, 0.0], [-2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    assert found[0, 1] == -0.5
    assert np.isnan(found[0, 2])
    assert np.isnan(found[2, 2])
