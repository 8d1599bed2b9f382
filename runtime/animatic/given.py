"""What a shot is given beside its words: pictures for some of its frames, and clips at its ends."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from animatic.errors import ShotError
from animatic.sources import open_source
from animatic.window import MAX_STILLS, Layout, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path

    import numpy.typing as npt

    from animatic.bundle import Bundle, Geometry
    from animatic.sources import Source

    Pixels = npt.NDArray[np.uint8]

__all__ = ["Given", "GivenPictures", "open_given"]


@dataclass(frozen=True, slots=True)
class GivenPictures:
    """The pictures themselves, of the size of the shot and in its time.

    images: by frame, each uint8 [height, width, 3].
    ending: of the clip that goes before, its last frames, uint8 [frames, height, width, 3]: those
        of one latent frame more than the context, on which the encoder warms up.
    beginning: of the clip that comes after, its first frames.
    """

    images: Mapping[int, Pixels] = field(default_factory=dict)
    ending: Pixels | None = None
    beginning: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What a plan is given.

    images: pictures with the frames that they are for, counted from 0, in order.
    continue_from: the clip that goes before. before: the one that comes after. loop: the clip comes
        after itself.
    """

    images: tuple[tuple[int, Source], ...] = ()
    continue_from: Source | None = None
    before: Source | None = None
    loop: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything, so that an encoder is needed."""
        return self.loop or any(True for _ in self.sources())

    def sources(self) -> Iterator[Source]:
        """Every picture and clip, the one that says most of the shot's shape first."""
        yield from (clip for clip in (self.continue_from, self.before) if clip is not None)
        yield from (source for _, source in self.images)

    def files(self) -> Iterator[Path]:
        """Every file that is read for them."""
        for source in self.sources():
            yield from source.files

    def layout(self, geometry: Geometry, latent_frames: int) -> Layout:
        """The windows of a clip of so many latent frames that is given this."""
        return Layout(
            geometry,
            latent_frames,
            continues=self.continue_from is not None,
            leads=self.before is not None,
            loops=self.loop,
            images=tuple(frame for frame, _ in self.images),
        )

    def counted(self, frames: int, geometry: Geometry) -> Given:
        """Count the frames of the images from 0, in a clip of so many.

        ShotError if one is not in it, two are for the same frame, or too many for one block.
        """
        images: dict[int, Source] = {}
        for asked, source in self.images:
            frame = asked + frames if asked < 0 else asked
            if not 0 <= frame < frames:
                raise ShotError(
                    f"A picture is given for frame {asked} of a shot of {frames}; choose 0 to "
                    f"{frames - 1}, or count from the end with -1 to -{frames}."
                )
            if frame in images:
                raise ShotError(f"Two pictures are given for frame {frame}; leave one of them out.")
            images[frame] = source
        counted = replace(self, images=tuple(sorted(images.items(), key=operator.itemgetter(0))))
        _check_stills(counted, frames, geometry)
        return counted

    def read(self, size: tuple[int, int], fps: Fraction, layout: Layout) -> GivenPictures:
        """Read the pictures that the windows need: at a size (width, height) and a rate.

        InputError if one cannot be read.
        """
        geometry = layout.geometry
        factor, ends = geometry.temporal_factor, geometry.context_latent_frames + 1
        ending = beginning = None
        if self.continue_from is not None:
            ending = self.continue_from.last(ends * factor, fps, size)
        if self.before is not None:
            beginning = self.before.first(layout.after * factor, fps, size)
        images = {frame: source.first(1, fps, size)[0] for frame, source in self.images}
        return GivenPictures(images, ending, beginning)


def open_given(
    images: object, continue_from: object, before: object, loop: object, bundle: Bundle
) -> Given:
    """Find what a shot is given; frames of images may still count from the end.

    ShotError if the model cannot be given that, or one thing excludes another; InputError if a
    picture or clip is missing or is none.
    """
    if not isinstance(images, Mapping):
        raise ShotError("The images are no mapping; give pictures by frame, such as {0: 'a.png'}.")
    if not isinstance(loop, bool | np.bool_):
        raise ShotError("Whether the shot loops is neither True nor False; give one of them.")
    ends = continue_from is not None or before is not None
    if loop and ends:
        raise ShotError(
            "A loop has no clip before or after it; leave out the loop, or the clips that it "
            "continues or leads to."
        )
    _check_model(bundle, pictures=bool(images) or ends, ends=ends, loop=bool(loop))
    if continue_from is not None and before is not None:
        _check_between(bundle, "be led from one clip to another; give one of the two")
    return Given(
        images=tuple((_frame(frame), open_source(asked)) for frame, asked in images.items()),
        continue_from=None if continue_from is None else open_source(continue_from),
        before=None if before is None else open_source(before),
        loop=bool(loop),
    )


def _check_stills(given: Given, frames: int, geometry: Geometry) -> None:
    begins = given.continue_from is None
    latent_frames = place_of(frames - 1, geometry, begins=begins)[0] + 1
    layout = given.layout(geometry, latent_frames)
    for frame, _ in given.images:
        block = place_of(frame, geometry, begins=begins)[0] // layout.block
        stills = layout.window(block).stills
        if len(stills) > MAX_STILLS:
            raise ShotError(
                f"{len(stills)} pictures are given for frames {stills[0]} to {stills[-1]}, which "
                f"are made together; leave at most {MAX_STILLS} of them."
            )


def _check_model(bundle: Bundle, *, pictures: bool, ends: bool, loop: bool) -> None:
    if pictures and not bundle.conditioning.keyframes:
        raise ShotError(
            f"The model {bundle.name} takes words only; leave the pictures and clips out, or "
            "choose a model that takes them."
        )
    joins = bundle.conditioning.keyframes and bundle.geometry.context_latent_frames
    if ends and not joins:
        raise ShotError(
            f"The model {bundle.name} cannot go on from a clip or lead to one; leave the clips out."
        )
    if loop:
        _check_between(bundle, "loop; leave the loop out")


def _check_between(bundle: Bundle, what: str) -> None:
    """Refuse a model that cannot see what goes before and what comes after at once."""
    if not bundle.conditioning.keyframes or bundle.geometry.context_latent_frames <= 1:
        raise ShotError(f"A shot of the model {bundle.name} cannot {what}.")


def _frame(asked: object) -> int:
    if type(asked) is not bool and isinstance(asked, numbers.Integral):  # True would be a slip
        return int(asked)
    raise ShotError(
        "A picture is given for a frame that is no whole number; count from 0, or from the end "
        "with -1."
    )
