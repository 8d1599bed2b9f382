"""Calibration: a bundle with float16 graphs in, the same bundle with INT8 or FP8 graphs too, out.

It meets the other floors only through the bundle. Real activations are captured through the
runtime's own pipeline, at every sampler step; what they say decides how layers are smoothed, where
tensors are clipped and which layers stay as they are; QuantizeLinear and DequantizeLinear pairs go
into the graph, and a report says what every layer lost. A compiler that is told to obey types then
quantises the same tensors in the same way. The accuracy measured here is an estimate of an engine's
all the same: ONNX Runtime on x86 computes float16 layers in float32 and leaves out casts between
them, so that not all of the rounding is there, and every compiler sums and fuses in its own way.

It may import :mod:`animatic` and nothing else of ours (:mod:`animatic_engines` is its peer), and
needs onnx beside the runtime, not torch. Nothing here knows any model by name.

    prompts     what clips are made of                  split_products  a cut product, in parts
    sources     which graphs are quantised              weights         in graphs, or in files
    effort      how much is done for a costly model     ways            a decoder and its networks
    layers      what of a graph can be quantised        smoothing       SmoothQuant
    capture     listens to every call                   ranges          where tensors are clipped
    quantise    puts the Q/DQ pairs in                  sensitivity     which layers stay high
    calibrate   all of it, in order                     report, publish what remains of it
"""
