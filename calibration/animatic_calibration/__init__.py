"""Calibration: a bundle in, INT8 Q/DQ graphs out.

Here belongs what turns a float bundle into a quantised one: capturing real activations through the
runtime's own pipeline, smoothing, choosing scales, inserting QuantizeLinear and DequantizeLinear
pairs, and reporting what each layer lost. It may import :mod:`animatic` and nothing else of ours;
:mod:`animatic_engines` is its peer. Version 0.1 ships float32 only, so the floor is still empty.
"""
