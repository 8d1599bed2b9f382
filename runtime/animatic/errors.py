"""Everything that Animatic raises on purpose.

    AnimaticError
      ├ ShotError                a shot that cannot be made: prompt, size, frames, fps, seed
      ├ InputError               a picture or clip that a shot is given and that cannot be read
      ├ BundleError              a model bundle that cannot be used
      │   ├ BundleNotFoundError      no readable bundle.json at that place
      │   ├ BundleSchemaError        bundle.json is malformed, contradicts itself, or has an
      │   │                          unknown schema
      │   └ BundleIntegrityError     a file of the bundle is missing or is not the file it was
      ├ TargetError              no such GPU in targets.toml, or this machine is not it
      ├ EngineError              a graph will not load or run, or was given wrong inputs
      │   └ DeviceLostError          the GPU failed under way; the process cannot use it again
      └ OutputError              a clip that cannot be written, or a file without a record

Every message is one sentence that says what is wrong and what to do. Anything else that escapes
from Animatic is a bug and keeps its traceback; KeyboardInterrupt always passes through untouched.
"""

__all__ = [
    "AnimaticError",
    "BundleError",
    "BundleIntegrityError",
    "BundleNotFoundError",
    "BundleSchemaError",
    "DeviceLostError",
    "EngineError",
    "InputError",
    "OutputError",
    "ShotError",
    "TargetError",
]


class AnimaticError(Exception):
    """The base of every error that Animatic raises on purpose."""


class ShotError(AnimaticError):
    """The shot cannot be made by this model; the message says what would be accepted."""


class InputError(AnimaticError):
    """A picture or clip that a shot is given is missing, damaged or empty."""


class BundleError(AnimaticError):
    """The model bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """There is no readable bundle at the given place."""


class BundleSchemaError(BundleError):
    """bundle.json is malformed, contradicts itself, or follows a schema we do not know."""


class BundleIntegrityError(BundleError):
    """A file of the bundle is missing, truncated or changed."""


class TargetError(AnimaticError):
    """A target that is unknown, or is not this machine, or cannot serve what is asked of it."""


class EngineError(AnimaticError):
    """A graph will not load or run, or was given inputs that it does not take."""


class DeviceLostError(EngineError):
    """The GPU failed under way, and every later call to it fails in this process."""


class OutputError(AnimaticError):
    """A clip cannot be written, or a file holds no record to reproduce."""
