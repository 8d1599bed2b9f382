"""Animatic: a described shot becomes moving pictures, on your own machine.

>>> import animatic
>>> with animatic.Pipeline.open() as pipeline:
...     for frame in pipeline.generate(animatic.Shot("a red lorry crosses a bridge at dawn")):
...         show(frame.pixels)

The parts are loaded when they are first used, so that `import animatic` costs next to nothing.
"""

from typing import TYPE_CHECKING

from animatic import errors
from animatic.errors import AnimaticError

if TYPE_CHECKING:
    from animatic.frame import Frame
    from animatic.pipeline import Pipeline
    from animatic.shot import Shot
    from animatic.store import open_bundle

__all__ = [
    "AnimaticError",
    "Frame",
    "Pipeline",
    "Shot",
    "__version__",
    "errors",
    "open_bundle",
]

__version__ = "0.1.0"

_HOMES = {
    "Frame": "animatic.frame",
    "Pipeline": "animatic.pipeline",
    "Shot": "animatic.shot",
    "open_bundle": "animatic.store",
}


if not TYPE_CHECKING:  # a type checker would take every misspelt name for an object

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'animatic' has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # the next look-up does not come here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
