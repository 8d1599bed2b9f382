"""What can go wrong in an export that is the user's to mend; each message says how.

ExportError
├── CheckpointError             a checkpoint is missing, damaged or another model's
│   ├── MissingCheckpointError  a checkpoint is neither on this machine nor to be fetched
│   └── LoraError               a LoRA is malformed, or made for another checkpoint
└── ParityError                 a graph does not compute what torch computes
"""


class ExportError(Exception):
    """Any refusal of the exporter."""


class CheckpointError(ExportError):
    """The checkpoint cannot be used."""


class MissingCheckpointError(CheckpointError):
    """A checkpoint is not here and was not fetched; the message says how to get it."""


class LoraError(CheckpointError):
    """A LoRA cannot be merged, whole and as it was meant, into the checkpoint."""


class ParityError(ExportError):
    """An exported graph does not compute what its torch module computes."""
