"""Checkpoint to bundle: one recipe a model family, one ONNX graph a role."""
