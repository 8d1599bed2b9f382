"""Calibration: a bundle with float16 graphs in, the same bundle with INT8 or FP8 graphs too, out.

It meets the other floors only through the bundle. Real activations are captured through the
runtime's own pipeline, at every sampler step; what they say decides how layers are smoothed, where
tensors are clipped and which layers stay as they are; QuantizeLinear and DequantizeLinear pairs go
into the graph, and a report says what every layer lost. A compiler that is told to obey types has
then nothing left to decide, so the accuracy measured here is that of any engine built from it.

It may import :mod:`animatic` and nothing else of ours (:mod:`animatic_engines` is its peer), and
needs onnx beside the runtime, not torch. Nothing here knows any model by name.

    prompts     what clips are made of                  split_products  a cut product, in parts
    layers      what of a graph can be quantised        smoothing       SmoothQuant
    capture     listens to every call                   ranges          where tensors are clipped
    quantise    puts the Q/DQ pairs in                  sensitivity     which layers stay high
    calibrate   all of it, in order                     report, publish what remains of it
"""
