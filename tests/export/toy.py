"""The smallest Blockout that has every part."""

from __future__ import annotations

from animatic_export.blockout.config import DenoiserConfig, VaeConfig

VAE = VaeConfig(spatial_factor=16, temporal_factor=4, latent_channels=8, widths=(48, 48, 48, 48))
DENOISER = DenoiserConfig(
    latent_channels=8,
    frames=3,
    rows=2,
    columns=3,
    width=32,
    depth=2,
    heads=2,
    text_width=384,
    text_queries=2,
)
