"""Published checkpoints in miniature: the real classes, the real files, random weights.

Everything is written by diffusers and transformers themselves, so that what is read is what their
users have on disk.
"""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT_WIDTH: Final = 32
SENTENCES: Final = (
    "a red truck drives left through a desert at sunset, slow dolly in",
    "WS, white horse, galloping right, through the snow, at dawn",
    "EXT. CITY STREET - NIGHT. A yellow car waits. Pan left. Medium shot.",
    "close-up of a blue ball rolling toward the camera on a beach by day",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the deprecations of the libraries that are only the reference here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def library(name: str) -> Any:
    """Import a reference library, whose types are not looked at."""
    with quiet():
        return import_module(name)


def randomise(module: torch.nn.Module, seed: int, scale: float) -> None:
    """Give every parameter a value that counts: many begin at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def sentencepiece_model() -> bytes:
    """A small unigram model of our sentences, with T5's special pieces."""
    stream = io.BytesIO()
    library("sentencepiece").SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=stream,
        vocab_size=70,
        model_type="unigram",
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return stream.getvalue()


def t5_encoder(kind: str, width: int = TEXT_WIDTH) -> Any:
    """A tiny "umt5" or "t5" encoder of transformers."""
    transformers = library("transformers")
    stem = {"umt5": "UMT5", "t5": "T5"}[kind]
    torch.manual_seed(1)
    with quiet():
        config = getattr(transformers, f"{stem}Config")(
            vocab_size=128,
            d_model=width,
            d_kv=16,
            d_ff=48,
            num_layers=2,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
        made = getattr(transformers, f"{stem}EncoderModel")(config)
    randomise(made, 1, 0.05)
    return made.eval()


def t5_tokenizer(folder: Path, *, fast: bool) -> Any:
    """Write a tokenizer folder as published ones are: `fast` has a tokenizer.json."""
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(sentencepiece_model())
    with quiet():
        tokenizer = library("transformers").T5TokenizerFast.from_pretrained(folder)
        if fast:
            tokenizer.save_pretrained(folder)
    return tokenizer


def wan_transformer() -> Any:
    """A tiny WanTransformer3DModel of diffusers."""
    with quiet():
        torch.manual_seed(2)
        made = library("diffusers").WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=16,
            out_channels=16,
            text_dim=TEXT_WIDTH,
            freq_dim=256,
            ffn_dim=64,
            num_layers=2,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            eps=1e-6,
            rope_max_seq_len=1024,
        )
    randomise(made, 2, 0.05)
    return made.eval()


def wan_vae() -> Any:
    """A tiny AutoencoderKLWan of diffusers."""
    with quiet():
        torch.manual_seed(3)
        made = library("diffusers").AutoencoderKLWan(
            base_dim=8,
            z_dim=16,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        )
    randomise(made, 3, 0.03)
    return made.eval()


def wan_pipeline(folder: Path) -> Any:
    """Write a whole tiny Wan 2.1 into `folder` and return diffusers' pipeline of it."""
    with quiet():
        diffusers = library("diffusers")
        pipeline = diffusers.WanPipeline(
            tokenizer=t5_tokenizer(folder / "tokenizer", fast=True),
            text_encoder=t5_encoder("umt5"),
            transformer=wan_transformer(),
            vae=wan_vae(),
            scheduler=diffusers.UniPCMultistepScheduler(
                prediction_type="flow_prediction",
                use_flow_sigmas=True,
                num_train_timesteps=1000,
                flow_shift=3.0,
            ),
        )
        pipeline.save_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
    return pipeline
