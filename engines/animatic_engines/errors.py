"""What can go wrong in a build that is the user's to mend; each message says how.

EngineError (animatic.errors)
└── BuildError          a graph that was not compiled
    ├── NoRoomError     too little memory or disk, found before the work begins or in the middle
    ├── GraphError      the compiler cannot read the graph, or it is not what bundle.json says
    ├── CompilerError   the compiler gave up on a graph that it had read
    └── CrashError      the process that compiles ended without a word
"""

from __future__ import annotations

from animatic.errors import EngineError

__all__ = ["BuildError", "CompilerError", "CrashError", "GraphError", "NoRoomError"]


class BuildError(EngineError):
    """A graph was not compiled; the bundle is as it was."""


class NoRoomError(BuildError):
    """There is too little memory or too little room on the disk."""


class GraphError(BuildError):
    """The compiler cannot read the graph, or the graph is not what bundle.json says."""


class CompilerError(BuildError):
    """The compiler read the graph and could not make an engine of it."""


class CrashError(BuildError):
    """The process that compiles crashed or was killed."""
