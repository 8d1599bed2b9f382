"""What can go wrong in an export that is the user's to mend; each message says how.

ExportError
├── CheckpointError    a checkpoint is missing, damaged or another model's
└── graph.ParityError  a graph does not compute what torch computes
"""


class ExportError(Exception):
    """Any refusal of the exporter."""


class CheckpointError(ExportError):
    """The checkpoint cannot be used."""
