"""Engines: a bundle in, graphs compiled for one target out.

Here belongs the code that builds engines for a GPU, fingerprints everything that went into a build
and runs the result once where the device is present. The engines themselves live in the bundle's
folder or the user's cache, never here. It may import :mod:`animatic` and nothing else of ours;
:mod:`animatic_calibration` is its peer. Version 0.1 runs on ONNX Runtime, so the floor is empty.
"""
