"""The encoder of T5 v1.1 and umT5: token ids to token states.

Pre-norm layers of attention and gated MLP, without biases. What a token is to another depends on
how far apart they are: a learned bias on the scores, the same for all distances of a bucket. T5 has
one table of biases for all layers, umT5 one for each. Scores are not scaled.

umT5-xxl has 5.7 billion weights, 23 GB in float32. So the large matrices stay in the type in which
they were published and each is cast where it is used; what they lie in and what is computed in are
two things. Tokens take the type of the position biases, which is float32 in a reference graph
whatever the matrices are, and becomes bfloat16 in a typed one (see `typed`). Norms and the sum that
runs through the layers are float32 in both. In float16 that sum overflows: `OVERFLOWS_IN`.

Axes: B prompts, L tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_export.errors import ExportError

if TYPE_CHECKING:
    from animatic_export.t5.config import T5Config

HIDDEN: Final = -1e9
"""Added to the scores of padding. Finite, so that no type and no sum makes it NaN."""
SMALL: Final = 8192
"""Elements up to which a weight is kept in float32. torch's exporter would replace the cast of so
small a constant by what comes out of it (onnxscript's limit), and the weight's name would be lost;
of a real encoder these are norms and position biases alone."""


class T5Encoder(nn.Module):
    """Maps token ids to token states."""

    OVERFLOWS_IN: ClassVar = frozenset({torch.float16})
    """Types in which it cannot compute: states pass 65,504, and the picture goes white."""

    buckets: Tensor

    def __init__(self, config: T5Config, max_tokens: int, dtype: torch.dtype) -> None:
        """Take room for the weights, which mean nothing yet.

        max_tokens: how long a prompt may be. dtype: what the large matrices are stored in.
        """
        super().__init__()
        self.config = config
        self.max_tokens = max_tokens
        self.dtype = dtype
        self.words = nn.Embedding(
            config.vocabulary,
            config.width,
            dtype=_stored(config.vocabulary * config.width, dtype),
        )
        self.positions = nn.ModuleList(
            nn.Embedding(config.buckets, config.heads, dtype=torch.float32)
            for _ in range(config.positions)
        )
        self.layers = nn.ModuleList(Layer(config, dtype) for _ in range(config.layers))
        self.norm = Norm(config)
        self.register_buffer("buckets", position_buckets(config, max_tokens), persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return states float32 [B, L, D] of int64 ids and mask [B, L] (1 = a real token)."""
        tables = list(self.positions.parameters())
        dtype = tables[0].dtype
        if dtype in self.OVERFLOWS_IN:
            raise ExportError(
                "T5 and umT5 overflow in fp16 and the picture goes white: ask for bf16."
            )
        # A slice of the table: position ids from a Range break ONNX Runtime's fusions.
        length = input_ids.shape[1]
        buckets = self.buckets[:length, :length]
        hidden = torch.where(attention_mask.bool(), 0.0, HIDDEN).to(dtype)[:, None, None]
        x = self.words(input_ids).float()
        for place, layer in enumerate(self.layers):
            table = tables[place % len(tables)]
            # Before anything else of the layer: an executor that goes back from the last node
            # through the latest of each node's inputs, as ONNX Runtime's, then makes the biases
            # of one layer at a time and not those of all at once (64 MB each at 512 tokens).
            bias = F.embedding(buckets, table).permute(2, 0, 1) + hidden
            x = layer(x, bias)
        states: Tensor = self.norm(x)
        return states


class Layer(nn.Module):
    """Attention, then a gated MLP, each on norms and added to what was there."""

    def __init__(self, config: T5Config, dtype: torch.dtype) -> None:
        super().__init__()
        width, inner, heads = config.width, config.inner, config.heads * config.head_width
        self.heads = config.heads
        self.attention_norm = Norm(config)
        self.query = Matrix(width, heads, dtype)
        self.key = Matrix(width, heads, dtype)
        self.value = Matrix(width, heads, dtype)
        self.proj = Matrix(heads, width, dtype)
        self.norm = Norm(config)
        self.gate = Matrix(width, inner, dtype)
        self.up = Matrix(width, inner, dtype)
        self.down = Matrix(inner, width, dtype)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map float32 [B, L, D]; the bias [B, H, L, L] has the type to compute in."""
        h = self.attention_norm(x).to(bias.dtype)
        q, k, v = (
            matrix(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for matrix in (self.query, self.key, self.value)
        )
        # Not written out: its scores are float32 within, as in the one kernel that an engine makes
        # of it. They are not scaled, so rounded to bfloat16 they would be off by a quarter at 50.
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        mixed = mixed.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)
        x = x + self.proj(mixed).float()
        h = self.norm(x).to(bias.dtype)
        out: Tensor = x + self.down(F.gelu(self.gate(h), approximate="tanh") * self.up(h)).float()
        return out


class Matrix(nn.Linear):
    """A linear layer that computes in the type of what it is given, whatever it is stored in."""

    def __init__(self, before: int, after: int, dtype: torch.dtype) -> None:
        super().__init__(before, after, bias=False, dtype=_stored(before * after, dtype))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.linear(x, self.weight.to(x.dtype))


class Norm(nn.Module):
    """Divide by the root of the mean square, in float32 whatever comes in."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.epsilon = config.epsilon
        self.gain = nn.Parameter(torch.ones(config.width, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.rms_norm(x, x.shape[-1:], self.gain, self.epsilon)


def position_buckets(config: T5Config, length: int) -> Tensor:
    """Return int64 [length, length]: the bucket of each token's distance (column) from each (row).

    Half of the buckets are for tokens that come after. Of each half, the first half are distances
    by themselves and the others grow with the logarithm, up to `max_distance` (mesh_tensorflow's
    transformer_layers.py, in transformers' order of operations, as the logarithm is truncated).
    """
    # On the processor even where a module is made without storage ("meta"): no checkpoint has it.
    places = torch.arange(length, device="cpu")
    distance = places[None, :] - places[:, None]
    half = config.buckets // 2
    exact = half // 2
    far = torch.log(distance.abs().clamp(min=1).float() / exact)
    far = exact + (far / math.log(config.max_distance / exact) * (half - exact)).long()
    near = distance.abs() < exact
    return (distance > 0) * half + torch.where(near, distance.abs(), far.clamp(max=half - 1))


def _stored(elements: int, dtype: torch.dtype) -> torch.dtype:
    return dtype if elements > SMALL else torch.float32
