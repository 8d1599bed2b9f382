"""The tokenizer of a T5 or umT5: from what a checkpoint's folder has to a bundle's tokenizer.json.

A folder with a tokenizer.json has all that is needed (umT5, in Wan 2.1's). An older one has only
the sentencepiece model that T5 was trained with, `spiece.model`, which is converted as transformers
does it: its pieces and scores, its map of characters, "</s>" at the end, and after the pieces the
<extra_id_…> that sentencepiece has never heard of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from animatic_export.errors import CheckpointError, ExportError, MissingCheckpointError

if TYPE_CHECKING:
    from pathlib import Path

JSON: Final = "tokenizer.json"
MODEL: Final = "spiece.model"
CONFIG: Final = "tokenizer_config.json"
UNIGRAM: Final = 1
"""sentencepiece's number for a unigram model."""
CONTROL: Final = frozenset({2, 3})
"""sentencepiece's numbers for the unknown piece, and for pieces that stand for no text."""
SPACE: Final = "▁"
"""What sentencepiece writes for a space."""
CLEANING: Final = (
    (r"[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]", ""),
    ("[\u02bc\u2018-\u201b]", "'"),
    ("[\u201c-\u201f]", '"'),
    (r"\s+", " "),
)
"""Patterns, and what Wan's pipeline makes of them before it tokenises: ftfy's fix_text drops
control characters and straightens quotes, then white space becomes one space."""


class _Model(NamedTuple):
    """What is read of a sentencepiece model.

    pieces: each with its logarithmic probability. control: those that stand for no text.
    characters: how characters are normalised, compiled. unknown, end: numbers of pieces.
    """

    pieces: list[tuple[str, float]]
    control: list[str]
    characters: bytes
    unknown: int
    end: int


class _Added(msgspec.Struct):
    """One of the added tokens of a tokenizer_config.json."""

    content: str
    lstrip: bool = False
    normalized: bool = False
    rstrip: bool = False
    single_word: bool = False
    special: bool = True


class _Config(msgspec.Struct):
    """What is read of a tokenizer_config.json; the defaults are transformers' own."""

    extra_ids: int = 100
    added_tokens_decoder: dict[str, _Added] = {}


def read_tokenizer(folder: Path, *, clean: bool) -> bytes:
    """Return the tokenizer.json for a bundle, from the folder of a checkpoint's tokenizer.

    clean: as Wan's pipeline cleans prompts, so that whoever loads the file need not know: quotes
        are straight, white space is single and none at the ends. What a normaliser cannot say is
        left as it is: HTML's entities, and text that was decoded wrongly.
    CheckpointError if the folder holds no tokenizer, or one of another kind.
    """
    path = folder / JSON
    tokenizer = _read_json(path) if path.is_file() else _convert(folder)
    if clean:
        tokenizer.normalizer = normalizers.Sequence(
            [
                *(normalizers.Replace(Regex(pattern), text) for pattern, text in CLEANING),
                normalizers.Strip(),
                *([tokenizer.normalizer] if tokenizer.normalizer is not None else []),
            ]
        )
    return tokenizer.to_str().encode()


def _read_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(path.read_bytes())
    except Exception as error:  # the binding raises bare Exception for everything
        raise CheckpointError(
            f"{path} cannot be read as a tokenizer ({error}): fetch it again."
        ) from error


def _convert(folder: Path) -> Tokenizer:
    """Make a tokenizer of a sentencepiece model, as transformers' T5Tokenizer (5.24) does."""
    model, config = _read_model(folder / MODEL), _read_config(folder / CONFIG)
    extra = [f"<extra_id_{n}>" for n in reversed(range(config.extra_ids))]
    vocabulary = [*model.pieces, *((name, 0.0) for name in extra)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=model.unknown))
    if model.characters:
        tokenizer.normalizer = normalizers.Precompiled(model.characters)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement=SPACE)]
    )
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE)
    end, _ = model.pieces[model.end]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, model.end)]
    )
    known = {added.content: added for added in config.added_tokens_decoder.values()}
    for name in dict.fromkeys([*model.control, *extra, *known]):
        added = known.get(name, _Added(name))
        token = AddedToken(**msgspec.structs.asdict(added))
        (tokenizer.add_special_tokens if added.special else tokenizer.add_tokens)([token])
    return tokenizer


def _read_config(path: Path) -> _Config:
    if not path.is_file():
        return _Config()
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Config)
    except (msgspec.MsgspecError, ValueError) as error:
        raise CheckpointError(f"{path} is malformed ({error}): fetch it again.") from error


def _read_model(path: Path) -> _Model:
    if not path.is_file():
        raise MissingCheckpointError(
            f"{path.parent} holds neither {JSON} nor {MODEL}: give a checkpoint with its tokenizer."
        )
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise ExportError(
            f"{path} is read by sentencepiece, which is not installed: "
            "`pip install 'animatic[export]'`."
        ) from error
    message: Any = sentencepiece_model_pb2  # protobuf makes its classes when it is imported
    proto = message.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own, which its implementations do not share
        raise CheckpointError(
            f"{path} is not a sentencepiece model ({error}): fetch it again."
        ) from error
    trained = proto.trainer_spec
    if trained.model_type != UNIGRAM or not 0 <= trained.eos_id < len(proto.pieces):
        raise CheckpointError(
            f"{path} is not a unigram model with an end of text, as T5's are: give the tokenizer "
            "that belongs to the text encoder."
        )
    return _Model(
        pieces=[(piece.piece, piece.score) for piece in proto.pieces],
        control=[piece.piece for piece in proto.pieces if piece.type in CONTROL],
        characters=proto.normalizer_spec.precompiled_charsmap,
        unknown=trained.unk_id,
        end=trained.eos_id,
    )
