"""Backends: each runs one graph of a bundle behind the same small protocol."""

from animatic.engine.fake import FakeEngine
from animatic.engine.onnxruntime import OnnxRuntimeEngine
from animatic.engine.protocol import Engine

__all__ = ["Engine", "FakeEngine", "OnnxRuntimeEngine"]
