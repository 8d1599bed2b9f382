"""What can go wrong in an export that is the user's to mend; each message says how.

ExportError
├── CheckpointError             a checkpoint is missing, damaged or another model's
│   └── MissingCheckpointError  the text encoder's checkpoint is not installed
└── ParityError                 a graph does not compute what torch computes
"""


class ExportError(Exception):
    """Any refusal of the exporter."""


class CheckpointError(ExportError):
    """The checkpoint cannot be used."""


class MissingCheckpointError(CheckpointError):
    """The text encoder's checkpoint is not installed; the message says how to get it."""


class ParityError(ExportError):
    """An exported graph does not compute what its torch module computes."""
