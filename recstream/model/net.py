"""SASRec, self-attentive sequential recommendation (Kang & McAuley 2018, arXiv:1808.09781), with pre-norm blocks.

Shapes are named by suffixes:
    B  sequences in the batch     L  padded length     Q  queries: all L positions, or the last alone
    D  width of the model         H  heads             K  width of a head, D / H     N  items
"""

# ruff: noqa: N803, N806  # shape suffixes are capital letters

import torch
import torch.nn.functional as F  # noqa: N812  # its customary name
from torch import Tensor, nn

from recstream.model.config import SasrecConfig

_INIT_STD = 0.02


class SelfAttention(nn.Module):
    """Scaled dot-product attention of queries at some positions to keys at all of them.

    Unlike the paper's, without dropout of its own: torch's fused kernel on the CPU has none, the unfused one took a
    third longer a step, and ranked ML-100K no better.
    """

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.query = nn.Linear(config.d_model, config.d_model)
        self.key_value = nn.Linear(config.d_model, 2 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def forward(self, query_BQD: Tensor, x_BLD: Tensor, mask_B1QL: Tensor | None) -> Tensor:
        """Without a mask the queries are the positions themselves, and each sees itself and what came before."""
        q_BHQK = self._split_heads(self.query(query_BQD))
        k_BLD, v_BLD = self.key_value(x_BLD).chunk(2, dim=-1)
        attended_BHQK = F.scaled_dot_product_attention(
            q_BHQK,
            self._split_heads(k_BLD),
            self._split_heads(v_BLD),
            attn_mask=mask_B1QL,
            is_causal=mask_B1QL is None,
        )
        out: Tensor = self.out(attended_BHQK.transpose(1, 2).flatten(2))
        return out

    def _split_heads(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.view(*x_BLD.shape[:2], self.n_heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers around a GELU, position by position, as wide inside as outside (the paper's width)."""

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.d_model, config.d_model)
        self.outer = nn.Linear(config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BQD: Tensor) -> Tensor:
        """Return the same shape."""
        out: Tensor = self.outer(self.dropout(F.gelu(self.inner(x_BQD))))
        return out


class SwiGlu(nn.Module):
    """A feed-forward four times as wide, one half of which lets the other through (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.d_model, 8 * config.d_model)
        self.outer = nn.Linear(4 * config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BQD: Tensor) -> Tensor:
        """Return the same shape."""
        inner, gate = self.inner(x_BQD).chunk(2, dim=-1)
        out: Tensor = self.outer(self.dropout(F.silu(gate) * inner))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to what went in (pre-norm)."""

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = SelfAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.feed_forward = self._make_feed_forward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Return every position's output."""
        normed_BLD = self.attention_norm(x_BLD)
        return self._add(x_BLD, self.attention(normed_BLD, normed_BLD, None))

    def forward_last(self, x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the last real position's output alone, shape (B, 1, D); the others only serve as keys and values."""
        normed_BLD = self.attention_norm(x_BLD)
        real_B11L = (torch.arange(x_BLD.shape[1], device=x_BLD.device) < lengths_B[:, None])[:, None, None, :]
        attended_B1D = self.attention(_last(normed_BLD, lengths_B), normed_BLD, real_B11L)
        return self._add(_last(x_BLD, lengths_B), attended_B1D)

    def _make_feed_forward(self, config: SasrecConfig) -> nn.Module:
        return FeedForward(config)

    def _add(self, x_BQD: Tensor, attended_BQD: Tensor) -> Tensor:
        x_BQD = x_BQD + self.dropout(attended_BQD)
        out: Tensor = x_BQD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BQD)))
        return out


class GatedBlock(Block):
    """The same with a SwiGLU, and a gate on what each part adds.

    LiGR (Borisyuk et al. 2025, arXiv:2502.03417), as eSASRec uses it (arXiv:2508.06450).
    """

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__(config)
        self.attention_gate = nn.Linear(config.d_model, config.d_model)
        self.feed_forward_gate = nn.Linear(config.d_model, config.d_model)

    def _make_feed_forward(self, config: SasrecConfig) -> nn.Module:
        return SwiGlu(config)

    def _add(self, x_BQD: Tensor, attended_BQD: Tensor) -> Tensor:
        x_BQD = x_BQD + self.dropout(torch.sigmoid(self.attention_gate(x_BQD)) * attended_BQD)
        fed_BQD = self.feed_forward(self.feed_forward_norm(x_BQD))
        out: Tensor = x_BQD + self.dropout(torch.sigmoid(self.feed_forward_gate(x_BQD)) * fed_BQD)
        return out


class Sasrec(nn.Module):
    """Item codes, oldest first and padded on the right, to one vector a position.

    The product of that vector with an item's embedding is the item's score as the next one.

    Padding on the right makes the causal mask the padding mask too: whatever a real position may see lies before it,
    and padding lies after. No row is ever masked whole, so none turns into NaN, and no mask has to be built, which
    keeps the fused kernels. Positions are counted from each sequence's end, so that the latest item always has
    position 0: neither the padding nor a neighbour in the batch can change a score.
    """

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embedding = nn.Embedding(config.n_items + 1, config.d_model, padding_idx=0)
        self.position_embedding = nn.Embedding(config.max_length, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        block = GatedBlock if config.architecture == "sasrec-2" else Block
        self.blocks = nn.ModuleList(block(config) for _ in range(config.n_blocks))
        self.final_norm = nn.LayerNorm(config.d_model)
        self.apply(_initialise)

    def forward(self, codes_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Return hidden_BLD for every position, for training; those of padding mean nothing.

        Lengths are at least 1, L at most `max_length`.
        """
        x_BLD = self._embed(codes_BL, lengths_B)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        hidden_BLD: Tensor = self.final_norm(x_BLD)
        return hidden_BLD

    def encode_last(self, codes_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Return hidden_BD of each sequence's last item, for serving: `forward`'s, with less work in the last block."""
        x_BLD = self._embed(codes_BL, lengths_B)
        for block in self.blocks[:-1]:
            x_BLD = block(x_BLD)
        last_block = self.blocks[-1]
        assert isinstance(last_block, Block)
        hidden_BD: Tensor = self.final_norm(last_block.forward_last(x_BLD, lengths_B)).squeeze(1)
        return hidden_BD

    def item_vectors(self) -> Tensor:
        """Return the embeddings of the items, shape (N, D): a code's row is one less, and padding has none."""
        return self.item_embedding.weight[1:]

    def _embed(self, codes_BL: Tensor, lengths_B: Tensor) -> Tensor:
        from_end_BL = lengths_B[:, None] - 1 - torch.arange(codes_BL.shape[1], device=codes_BL.device)
        # Below zero is padding, whose position no real one ever sees.
        positions_BLD = self.position_embedding(from_end_BL.clamp(min=0))
        embedded_BLD: Tensor = self.dropout(self.item_embedding(codes_BL) + positions_BLD)
        return embedded_BLD


def _last(x_BLD: Tensor, lengths_B: Tensor) -> Tensor:
    return x_BLD[torch.arange(len(x_BLD), device=x_BLD.device), lengths_B - 1].unsqueeze(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_INIT_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
