"""What the best linear estimate already knows of noisy latents, so that a network learns the rest.

Latents vary along some directions of their channels hundreds of times as much as along others. Let
a cell's coordinate along a direction of variance s be noised to x_t = (1 - sigma) x0 + sigma noise,
whose variance is then t = sigma^2 + (1 - sigma)^2 s. Of the velocity noise - x0 the linear estimate
(Wiener's) is x_t (sigma - (1 - sigma) s) / t, and the standard deviation from it sqrt(s / t).

A network is shown coordinates of variance 1, and what it makes is counted in that deviation from
the estimate: noise need not be carried through it to come out again. With one variance for all
channels this is EDM's preconditioning (arXiv:2206.00364) for rectified flow.

Axes: B windows, C latent channels, T latent frames, h rows, w columns.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

LEAST: Final = 1e-3
"""Of a direction's variance, where latents have 1 on average: half precision holds its inverse."""


class Spectrum(nn.Module):
    """Directions of the latents' channels and their variances, in float32 whatever surrounds it."""

    basis: Tensor
    variances: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.eye(channels))
        self.register_buffer("variances", torch.ones(channels))

    @torch.no_grad()
    def measure(self, cells: Tensor) -> None:
        """Take the principal directions of cells float32 [N, C]."""
        variances, basis = torch.linalg.eigh(torch.cov(cells.T))
        self.basis.copy_(basis)
        self.variances.copy_(variances.clamp(min=LEAST))

    def seen(self, latents: Tensor, sigma: Tensor) -> Noisy:
        """Take latents [B, C, T, h, w] at noise levels [B, T]."""
        coordinates = _product(latents.permute(0, 2, 3, 4, 1).float(), self.basis)
        sigma = sigma[:, :, None, None, None]
        total = sigma.square() + (1 - sigma).square() * self.variances
        estimate = coordinates * ((sigma - (1 - sigma) * self.variances) / total)
        return Noisy(coordinates * total.rsqrt(), estimate, (self.variances / total).sqrt())

    def velocity(self, noisy: Noisy, made: Tensor) -> Tensor:
        """Return the velocity [B, C, T, h, w], given what a network made, [B, T, h, w, C]."""
        whole = noisy.estimate + noisy.deviation * made.float()
        return _product(whole, self.basis.T).permute(0, 4, 1, 2, 3)


class Noisy(NamedTuple):
    """Noisy latents along a spectrum's directions, float32."""

    cells: Tensor
    """[B, T, h, w, C], variance 1."""
    estimate: Tensor
    """[B, T, h, w, C] of the velocity."""
    deviation: Tensor
    """[B, T, 1, 1, C] of the velocity from that estimate."""


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        # The largest directions are tens of times the smallest: bfloat16 would lose those.
        with torch.autocast(device, enabled=False):
            return x @ matrix
    return x @ matrix
