"""How the built-in model Blockout is made: world, VAE, denoiser, distillation, scores."""
