"""Engines: a bundle in, graphs compiled for one or more targets out.

`animatic build` and `animatic export` call `build.build_engines`: it chooses graphs and a backend
(`choices`), locks the bundle (`animatic.lock`), and for each engine that is not fresh (`order`) has
a process of its own (`child`, `worker`) call the compiler (`compiler`), reads from its log what
came of the graph (`layers`) and whether that is what the graph asks for (`intent`), runs it once
where the card is (`smoke`), and puts it into the bundle (`shelf`) with a description (`sidecar`).

The engines themselves lie in the bundle's folder, never here. This floor may import
:mod:`animatic` and nothing else of ours; :mod:`animatic_calibration` is its peer.
"""
