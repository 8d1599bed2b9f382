"""Draw the contact sheet of the docs: the first 24 prompts of the score set, seeds 0 to 23.

    python benchmarks/contact_sheet.py [--bundle FOLDER] [--out docs/contact-sheet]

Nothing is picked. Writes an animated `.webp` (every clip playing, its prompt beneath) and a still
`.png` (first, middle and last frame of each).
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from animatic import Pipeline, Shot
from animatic_training.prompts import score_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNT = 24
COLUMNS = 4
SCALE = 2
CAPTION = 44  # pixels beneath a clip
PAPER = (24, 24, 26)
INK = (225, 225, 220)
FRAME_MS = 125


def cell(pictures: Sequence[np.ndarray], prompt: str, scale: int) -> Image.Image:
    """Return pictures side by side, the prompt beneath."""
    strip = Image.fromarray(np.concatenate(list(pictures), axis=1))
    strip = strip.resize((strip.width * scale, strip.height * scale), Image.Resampling.BICUBIC)
    made = Image.new("RGB", (strip.width + 8, strip.height + CAPTION), PAPER)
    made.paste(strip, (4, 4))
    font = ImageFont.load_default(size=11)
    text = "\n".join(textwrap.wrap(prompt, width=strip.width // 6)[:3])
    ImageDraw.Draw(made).multiline_text((5, strip.height + 5), text, INK, font=font, spacing=1)
    return made


def grid(cells: list[Image.Image], columns: int) -> Image.Image:
    """Return the cells in rows."""
    width, height = cells[0].size
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), PAPER)
    for n, picture in enumerate(cells):
        sheet.paste(picture, (n % columns * width, n // columns * height))
    return sheet


def main() -> None:
    """Render and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/contact-sheet"))
    arguments = parser.parse_args()
    prompts = [prompt.text for prompt in score_prompts(COUNT)]
    with Pipeline.open(arguments.bundle) as pipeline:
        clips = [pipeline.clip(Shot(text, seed=seed)) for seed, text in enumerate(prompts)]
    frames = [
        grid([cell([c[f]], t, SCALE) for c, t in zip(clips, prompts, strict=True)], COLUMNS)
        for f in range(len(clips[0]))
    ]
    middle = len(clips[0]) // 2
    still = [cell([c[0], c[middle], c[-1]], t, 1) for c, t in zip(clips, prompts, strict=True)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    grid(still, 3).save(arguments.out.with_suffix(".png"), optimize=True)
    frames[0].save(
        arguments.out.with_suffix(".webp"),
        save_all=True,
        append_images=frames[1:],
        duration=FRAME_MS,
        loop=0,
        quality=72,
    )
    print(arguments.out.with_suffix(".webp"))


if __name__ == "__main__":
    main()
