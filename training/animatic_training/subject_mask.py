"""The subject's share of every latent cell, and what an error there counts.

A subject fills a few cells in a hundred; with every cell worth the same, sky and ground are learnt
first and the subject last (version 0's log). So errors are weighted by how much of a cell it fills.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from animatic_training.config import SPATIAL_FACTOR, TEMPORAL_FACTOR

if TYPE_CHECKING:
    from torch import Tensor


def subject_share(mask: Tensor) -> Tensor:
    """Return how much of each latent cell is subject, float16 [N, T, h, w] from 0 to 1.

    `mask` uint8 [N, F, H, W] is 0 for the set, 1 for the subject and 2 for the second one. Frame 0
    is a latent frame; every four further ones are another.
    """
    cells = (mask > 0).unflatten(3, (-1, SPATIAL_FACTOR)).unflatten(2, (-1, SPATIAL_FACTOR))
    shares = cells.float().mean((3, 5))
    later = shares[:, 1:].unflatten(1, (-1, TEMPORAL_FACTOR)).mean(2)
    return torch.cat([shares[:, :1], later], dim=1).half()


def cell_weights(shares: Tensor, made: Tensor, subject_weight: float) -> Tensor:
    """Return what the error of each cell [B, T, h, w] counts: nothing where a frame is given.

    `shares` [B, T, h, w] as of `subject_share`, `made` bool [B, T]. A cell that the subject fills
    counts 1 + `subject_weight` beside one without; the mean over the cells that are made is 1.
    """
    told = made[..., None, None].expand_as(shares).float()
    weights = (1 + subject_weight * shares.float()) * told
    return weights * (told.sum() / weights.sum())
