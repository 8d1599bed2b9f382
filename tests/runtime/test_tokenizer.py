from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer as Implementation
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from animatic.bundle import FileRef, TextSpec
from animatic.errors import BundleIntegrityError
from animatic.tokenizer import BundleTokenizer
from tests.runtime.fake_model import ZEROS

if TYPE_CHECKING:
    from pathlib import Path


def spec(*, max_tokens: int = 6, pad_to_max: bool = True) -> TextSpec:
    return TextSpec(
        tokenizer=FileRef(file="tokenizer.json", sha256=ZEROS),
        max_tokens=max_tokens,
        pad_to_max=pad_to_max,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Words as numbers between [CLS] = 1 and [SEP] = 2, with the padding of another model."""
    words = ["[UNK]", "[CLS]", "[SEP]", "a", "red", "cube", "turns", "[PAD]"]
    tokenizer = Implementation(WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_padding(length=128, pad_id=7, pad_token="[PAD]")  # noqa: S106, not a secret
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_padded_to_the_length_of_the_bundle(path: Path) -> None:
    tokens = BundleTokenizer(path, spec()).encode("a red cube")
    assert tokens.input_ids.tolist() == [[1, 3, 4, 5, 2, 7]]
    assert tokens.attention_mask.tolist() == [[1, 1, 1, 1, 1, 0]]
    assert tokens.input_ids.dtype.name == tokens.attention_mask.dtype.name == "int64"


def test_without_padding(path: Path) -> None:
    tokens = BundleTokenizer(path, spec(pad_to_max=False)).encode("a cube")
    assert tokens.input_ids.tolist() == [[1, 3, 5, 2]]
    assert tokens.attention_mask.tolist() == [[1, 1, 1, 1]]


def test_a_long_prompt_is_cut_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = BundleTokenizer(path, spec())
    with caplog.at_level(logging.WARNING, "animatic"):
        assert tokenizer.encode("a red cube turns").input_ids.tolist() == [[1, 3, 4, 5, 6, 2]]
        assert not caplog.records
        assert tokenizer.encode("a red cube turns a").input_ids.tolist() == [[1, 3, 4, 5, 6, 2]]
        assert "the prompt is longer than the model reads; it sees the first 6 t" in caplog.text
        tokenizer.encode("a red cube turns a", "negative prompt")
        assert "the negative prompt is longer than the model reads" in caplog.text


@pytest.mark.parametrize(("pad_to_max", "length"), [(False, 1), (True, 6)])
def test_nothing_is_one_token_that_counts(path: Path, *, pad_to_max: bool, length: int) -> None:
    """For want of special tokens there would be none, and attention to none is not a number."""
    plain = Implementation.from_file(str(path))
    plain.post_processor = None
    plain.save(str(path))
    tokens = BundleTokenizer(path, spec(pad_to_max=pad_to_max)).encode("")
    assert tokens.input_ids.tolist() == [[7] * length]
    assert tokens.attention_mask.tolist() == [[1] + [0] * (length - 1)]


def test_a_broken_tokenizer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleIntegrityError, match=r"cannot be read .*; run `animatic inspect"):
        BundleTokenizer(path, spec())
    path.unlink()
    with pytest.raises(BundleIntegrityError, match=r"cannot be read .*; run `animatic inspect"):
        BundleTokenizer(path, spec())
