from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from animatic_training.muon import Muon, optimisers, orthogonalise, set_rates


def block_weights(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.dim() == 2]


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (16, 160), (8, 8)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_singular_values_come_near_one(shape: tuple[int, int], scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator) + 4 * torch.eye(*shape)
    made = orthogonalise(scale * matrix)
    assert made.shape == shape
    assert made.dtype == matrix.dtype
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_the_zero_matrix_stays_zero() -> None:
    assert not orthogonalise(torch.zeros(4, 8)).any()


@pytest.mark.parametrize("shape", [(6, 10), (8, 4, 3, 3)])
def test_steps_descend_a_quadratic(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(shape, generator=generator)
    parameter = nn.Parameter(torch.zeros(shape))
    optimiser = Muon([parameter], lr=0.2)
    losses = []
    for _ in range(40):
        loss = (parameter - target).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[1] < losses[0]
    assert losses[-1] < 0.2 * losses[0]


def test_a_parameter_without_gradient_is_left_alone() -> None:
    parameter = nn.Parameter(torch.ones(2, 3))
    Muon([parameter], lr=0.1).step()
    assert (parameter == 1).all()


def test_every_parameter_has_one_optimiser() -> None:
    first = nn.Linear(4, 8)
    model = nn.Sequential(first, nn.Linear(8, 2))
    made = optimisers(model, muon_rate=1e-2, adam_rate=1e-3, matrices=block_weights(first))
    chosen = [p for optimiser in made for group in optimiser.param_groups for p in group["params"]]
    assert {id(p) for p in chosen} == {id(p) for p in model.parameters()}
    assert len(chosen) == len(list(model.parameters()))
    assert [group["lr"] for optimiser in made for group in optimiser.param_groups] == [1e-2, 1e-3]


def test_rates_are_shares_of_the_first_also_after_a_resume() -> None:
    model = nn.Linear(4, 8)
    made = optimisers(model, muon_rate=1e-2, adam_rate=1e-3, matrices=block_weights(model))
    set_rates(made, 0.5)
    set_rates(made, 0.5)
    assert [o.param_groups[0]["lr"] for o in made] == pytest.approx([5e-3, 5e-4])
    resumed = optimisers(model, muon_rate=1e-2, adam_rate=1e-3, matrices=block_weights(model))
    for optimiser, before in zip(resumed, made, strict=True):
        optimiser.load_state_dict(copy.deepcopy(before.state_dict()))
    set_rates(resumed, 1.0)
    assert [o.param_groups[0]["lr"] for o in resumed] == pytest.approx([1e-2, 1e-3])
