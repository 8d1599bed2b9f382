from __future__ import annotations

import html
import io
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import ftfy
import pytest
import sentencepiece
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from animatic.bundle import FileRef, TextSpec
from animatic.tokenizer import BundleTokenizer
from animatic_export.errors import CheckpointError, ExportError, MissingCheckpointError
from animatic_export.t5.tokenizer import read_tokenizer
from tests.export.published import quiet
from tests.runtime.fake_model import ZEROS

if TYPE_CHECKING:
    from pathlib import Path

TEXT = (
    "A cat and a dog baking a cake together in a kitchen, sunlight streaming through the window.",
    "Ein Kätzchen läuft über die Straße; naïve café, señor, smörgåsbord, ångström 100 % 4K 24fps!",
    "一只猫和一只狗在厨房里一起烤蛋糕，阳光透过窗户照进来。高清，电影感。",
    "夕日の砂漠を赤いトラックが走る。カメラはゆっくり近づく。",
    "Красный грузовик едет через пустыню на закате, медленный наезд камеры.",
    "\"Close-up\", 'wide shot' (35mm, f/1.8) — slow-motion… 1920x1080 @ 60Hz & HDR10+ #art",
    "🚗 🌅 ✨ a 🐈‍⬛ jumps over the lazy dog 🏳️‍🌈",
)
PROMPTS = (
    *TEXT,
    "a red truck drives left through a desert at sunset, slow dolly in",
    "",
    " ",
    "   ",
    "a",
    " a leading space",
    "   three leading spaces",
    "a trailing space ",
    "trailing spaces   ",
    "double  spaces   and    more",
    "tabs\tand\ttabs",
    "lines\nof\n\ntext\r\nwith returns\r",
    "no\u00a0break\u2009thin\u3000ideographic\u2028line\u2029paragraph",
    "separators\x1cof\x1dfiles\x1e\x1f.",
    "zero\u200bwidth\ufeffspace \u200d joiner",
    "4K",
    "8K, 4k, 60 fps, 16:9, 1/48 s, ISO 800",
    "“curly quotes” and ‘single ones’, it’s ‚low‘ „German“ «guillemets»",
    "straight \"quotes\" and 'apostrophes' ``ticks``",
    "it's don't won't",
    "hyphen-ated, en–dash, em—dash, minus−sign",
    "ellipsis… three...dots",
    "ﬁne ﬂow ligatures",
    "ｆｕｌｌ　ｗｉｄｔｈ １２３",
    "½ ¾ ² ³ ™ © ® ℃",
    "e\u0301 decomposed, é composed, Å A\u030a",
    "İstanbul ıI ẞ ß ǅ",
    "한국어 프롬프트, 고양이",
    "قطة تمشي على الشاطئ",
    "חתול על החוף",
    "ไทยไม่มีช่องว่าง",
    "हिन्दी में एक बिल्ली",
    "mixed 中文 and English 日本語 текст",
    "😀😃😄 emoji only at the end 😀",
    "👩‍👩‍👧‍👦 a family",
    "🇫🇷 flags 🇯🇵",
    "<extra_id_0> a sentinel <extra_id_99> and <extra_id_100>",
    "text<extra_id_5>without spaces",
    "  <extra_id_7>  with spaces  ",
    "</s> ends </s>",
    "<pad> pads <unk> unknown <s>",
    "a ▁ is what a space is written as",
    "< a > b & c < d",
    "path/to/file.mp4?x=1&y=2",
    "UPPER lower MiXeD",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!???...,,,;;;:::",
    "0123456789 3.14159 1,000,000",
    "\ttab first",
    "\nline first",
    "control\x00\x01\x07characters\x7f",
    "𝓯𝓪𝓷𝓬𝔂 𝕞𝕒𝕥𝕙",
    "rare 𠀀𠀁 characters \U0010ffff",
    "word " * 200,
)


@pytest.fixture(scope="module")
def trained() -> bytes:
    """A sentencepiece model of our text, with T5's special pieces and its map of characters."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROMPTS * 4),
        model_writer=stream,
        vocab_size=600,
        hard_vocab_limit=False,
        model_type="unigram",
        character_coverage=0.99,  # the rest is unknown
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return stream.getvalue()


@pytest.fixture
def old(tmp_path: Path, trained: bytes) -> Path:
    """A folder as LTX-Video's: no tokenizer.json."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "spiece.model").write_bytes(trained)
    size = sentencepiece.SentencePieceProcessor(model_proto=trained).get_piece_size()
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {
        str(number): {"content": name, **flags, "special": True}
        for number, name in enumerate(("<pad>", "</s>", "<unk>"))
    }
    added |= {
        str(size + 99 - n): {"content": f"<extra_id_{n}>", **flags, "special": True}
        | {"lstrip": True, "rstrip": True}
        for n in range(100)
    }
    config = {
        "add_prefix_space": True,
        "added_tokens_decoder": added,
        "additional_special_tokens": [f"<extra_id_{n}>" for n in range(100)],
        "clean_up_tokenization_spaces": True,
        "eos_token": "</s>",
        "extra_ids": 100,
        "legacy": True,
        "model_max_length": 128,
        "pad_token": "<pad>",
        "sp_model_kwargs": {},
        "tokenizer_class": "T5Tokenizer",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def new(old: Path) -> Path:
    """A folder as Wan 2.1's: a tokenizer.json, as transformers wrote them before version 5."""
    (old / "tokenizer_config.json").unlink()
    reference(old).save_pretrained(old)
    path = old / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.normalizer = normalizers.Sequence([tokenizer.normalizer])
    tokenizer.enable_padding(length=7)
    tokenizer.enable_truncation(9)
    tokenizer.save(str(path))
    (old / "spiece.model").unlink()
    return old


def reference(folder: Path) -> Any:
    with quiet():
        from transformers import T5Tokenizer

        return T5Tokenizer.from_pretrained(folder)


def bundled(data: bytes, folder: Path, max_tokens: int) -> BundleTokenizer:
    """The file as the runtime opens it."""
    path = folder / "bundled.json"
    path.write_bytes(data)
    file = FileRef(file=path.name, sha256=ZEROS)
    return BundleTokenizer(path, TextSpec(tokenizer=file, max_tokens=max_tokens, pad_to_max=False))


def prompt_clean(text: str) -> str:
    """What WanPipeline does to a prompt (diffusers 0.42.1, with ftfy), less HTML's entities."""
    text = ftfy.fix_text(text).strip()
    return re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()


@pytest.mark.parametrize("max_tokens", [512, 8])
def test_a_sentencepiece_model_becomes_transformers_tokenizer(
    old: Path, tmp_path: Path, max_tokens: int
) -> None:
    theirs = reference(old)
    made = bundled(read_tokenizer(old, clean=False), tmp_path, max_tokens)
    for prompt in PROMPTS:
        wanted = theirs(prompt, truncation=True, max_length=max_tokens).input_ids
        assert made.encode(prompt).input_ids.tolist() == [wanted], prompt
        assert wanted[-1] == 1  # </s>, however long the prompt


def test_a_folder_without_a_config(old: Path, tmp_path: Path) -> None:
    (old / "tokenizer_config.json").unlink()
    theirs = reference(old)
    made = bundled(read_tokenizer(old, clean=False), tmp_path, 512)
    for prompt in PROMPTS:
        wanted = theirs(prompt, truncation=True, max_length=512).input_ids
        assert made.encode(prompt).input_ids.tolist() == [wanted], prompt


@pytest.mark.parametrize("max_tokens", [512, 8])
def test_a_clean_tokenizer_reads_prompts_as_wans_pipeline_does(
    new: Path, tmp_path: Path, max_tokens: int
) -> None:
    theirs = reference(new)
    made = bundled(read_tokenizer(new, clean=True), tmp_path, max_tokens)
    for prompt in PROMPTS:
        if "▁" in prompt:  # transformers 5 sets the file's own way of splitting aside
            continue
        cleaned = prompt_clean(prompt)
        wanted = theirs(cleaned, truncation=True, max_length=max_tokens).input_ids
        assert made.encode(prompt).input_ids.tolist() == [wanted], prompt


def test_a_tokenizer_json_stays_as_it_is(new: Path) -> None:
    before = json.loads((new / "tokenizer.json").read_bytes())
    assert json.loads(read_tokenizer(new, clean=False)) == before


def test_padding_is_what_the_encoder_was_trained_with(old: Path, tmp_path: Path) -> None:
    path = tmp_path / "padded.json"
    path.write_bytes(read_tokenizer(old, clean=False))
    spec = TextSpec(
        tokenizer=FileRef(file=path.name, sha256=ZEROS), max_tokens=128, pad_to_max=True
    )
    tokens = BundleTokenizer(path, spec).encode("a cat")
    theirs = reference(old)("a cat", padding="max_length", max_length=128, truncation=True)
    assert tokens.input_ids.tolist() == [theirs.input_ids]
    assert tokens.attention_mask.tolist() == [theirs.attention_mask]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingCheckpointError, match=r"neither tokenizer\.json nor spiece\.model"):
        read_tokenizer(tmp_path, clean=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{}", "cannot be read as a tokenizer"),
        ("spiece.model", b"\xff" * 40, "is not a sentencepiece model"),
        ("spiece.model", b"", "is not a unigram model with an end of text"),
        ("tokenizer_config.json", b"[", "is malformed"),
    ],
)
def test_damaged_files_are_refused(old: Path, name: str, content: bytes, message: str) -> None:
    (old / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_tokenizer(old, clean=False)


def test_without_sentencepiece_the_error_says_how_to_get_it(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece.sentencepiece_model_pb2", None)
    monkeypatch.delattr(sentencepiece, "sentencepiece_model_pb2", raising=False)
    with pytest.raises(ExportError, match=r"pip install 'animatic\[export\]'"):
        read_tokenizer(old, clean=False)
