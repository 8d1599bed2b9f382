"""From a prompt to the token ids that a text encoder reads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from animatic.errors import BundleIntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from animatic.bundle import TextSpec

__all__ = ["BundleTokenizer", "Tokenizer", "Tokens"]

_log = logging.getLogger(__name__)


class Tokens(NamedTuple):
    """One prompt; both are int64 [batch = 1, tokens], and the mask is 1 for what counts."""

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]


class Tokenizer(Protocol):
    """Whatever turns a prompt into tokens."""

    def encode(self, prompt: str, name: str = "prompt") -> Tokens:
        """Turn one prompt into tokens, at least one; `name` is what to call it in a warning."""
        ...


class BundleTokenizer:
    """The tokenizer.json of a bundle, with the bundle's own length and padding."""

    def __init__(self, path: Path, spec: TextSpec) -> None:
        """Load the file; BundleIntegrityError if it is missing or is not a tokenizer."""
        from tokenizers import Tokenizer as Implementation

        try:
            # Read here and not by its own from_file, whose errors do not tell missing from broken.
            self._tokenizer = Implementation.from_buffer(path.read_bytes())
        except Exception as error:  # the binding raises bare Exception for everything
            raise BundleIntegrityError(
                f"The tokenizer {path} cannot be read ({error}); run `animatic inspect BUNDLE "
                "--verify` or reinstall animatic."
            ) from error
        # What the file says of padding and truncation served its training, not this model.
        padding = self._tokenizer.padding
        self._pad_id = int(padding["pad_id"]) if padding else 0
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=spec.max_tokens)
        self._length = spec.max_tokens if spec.pad_to_max else 0

    def encode(self, prompt: str, name: str = "prompt") -> Tokens:
        """Turn one prompt into tokens; past the model's last, they are dropped and it is logged.

        Where no token stands for a text that is empty, one of padding does, and counts: attention
        to nothing at all has no value.
        """
        encoding = self._tokenizer.encode(prompt)
        if encoding.overflowing:
            _log.warning(
                "the %s is longer than the model reads; it sees the first %d tokens",
                name,
                len(encoding.ids),
            )
        ids, mask = encoding.ids or [self._pad_id], encoding.attention_mask or [1]
        padding = max(0, self._length - len(ids))
        ids, mask = ids + [self._pad_id] * padding, mask + [0] * padding
        return Tokens(np.array([ids], dtype=np.int64), np.array([mask], dtype=np.int64))
