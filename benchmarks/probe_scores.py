"""What the probe reads off the shipped bundle's clips, made by the runtime from unseen prompts.

    python benchmarks/probe_scores.py --probe FILE [--bundle FOLDER] [--count 500]
                                      [--precision int8] [--record]

The prompts are the score set of `animatic train` (held-out combinations); the seed of prompt n is
n. On the processor, whatever the precision: what its rounding costs, not how fast it is. Prints a
table; the last line is JSON. --record writes the scores into the bundle (as "graphs_subject", …).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import msgspec
import numpy as np
import torch

from animatic import Pipeline, Shot
from animatic.store import write_bundle
from animatic_training.probe import accuracy, load_probe, read_clips
from animatic_training.prompts import labels_of, score_prompts


def main() -> None:
    """Render, read, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--precision")
    parser.add_argument("--probe", type=Path, required=True, help="A run's probe.safetensors.")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    prompts = score_prompts(arguments.count)
    start = time.perf_counter()
    with Pipeline.open(arguments.bundle, device="cpu", precision=arguments.precision) as pipeline:
        clips = np.stack(
            [pipeline.clip(Shot(prompt.text, seed=n)) for n, prompt in enumerate(prompts)]
        )
        opened = pipeline.bundle
    seconds = time.perf_counter() - start
    readings = read_clips(load_probe(arguments.probe), torch.from_numpy(clips))
    scores = accuracy(readings, labels_of(prompts))
    for name, share in scores.items():
        print(f"{name:<10} {100 * share:5.1f} %")
    report = {name: round(share, 4) for name, share in scores.items()}
    print(
        json.dumps(
            {
                "prompts": len(prompts),
                "seconds": round(seconds, 1),
                "bundle": opened.digest[:12],
                "precision": arguments.precision or "reference",
            }
            | report
        )
    )
    if arguments.record:
        prefix = f"{arguments.precision}_graphs" if arguments.precision else "graphs"
        found = {f"{prefix}_{name}": share for name, share in report.items()}
        bundle = opened.bundle
        write_bundle(opened.root, msgspec.structs.replace(bundle, scores=bundle.scores | found))


if __name__ == "__main__":
    main()
