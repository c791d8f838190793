"""What training minimises: the cross-entropy of each position's next item."""

# ruff: noqa: N803, N806  # shape suffixes, as in recstream/model/net.py, are capital letters

import math

import torch
import torch.nn.functional as F  # noqa: N812  # its customary name
from torch import Tensor, nn
from torch.nn import LinearCrossEntropyOptions

from recstream.model.net import Sasrec
from trainer.batches import Batch

_LARGEST_LOGITS = {"cpu": 1 << 25, "cuda": 1 << 28}
"""Elements of positions x items held at once, in float32: 128 MiB and 1 GiB."""


class NextItemLoss(nn.Module):
    """The mean over a batch's real positions; in bfloat16 on CUDA where that is safe.

    With `negatives` 0 over the whole catalogue (full softmax). Otherwise against so many items, drawn alike for the
    whole batch: for catalogues that are too large to score at every position. What is drawn counts
    `items / negatives` times, so that the expected denominator is the full softmax's, and a target that was drawn as a
    negative does not count twice.
    """

    def __init__(self, network: Sasrec, negatives: int) -> None:
        super().__init__()
        self.network = network
        self.negatives = negatives

    def forward(self, batch: Batch) -> Tensor:
        """Return one number, whose gradient reaches every parameter."""
        device = batch.codes_BL.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            hidden_BLD = self.network(batch.codes_BL, batch.lengths_B)
            real_BL = batch.targets_BL > 0
            hidden_PD, targets_P = hidden_BLD[real_BL], batch.targets_BL[real_BL]
            if self.negatives:
                return self._sampled(hidden_PD, targets_P)
            items_ND = self.network.item_vectors()
            chunk = max(1, _LARGEST_LOGITS[device] // len(items_ND))
            # Chunked, the logits of all positions never exist at once; where they would be few, one piece is quicker.
            options = LinearCrossEntropyOptions(batch_chunk_size=chunk) if len(hidden_PD) > chunk else None
            return F.linear_cross_entropy(hidden_PD, items_ND, targets_P - 1, options=options)

    def _sampled(self, hidden_PD: Tensor, targets_P: Tensor) -> Tensor:
        n_items = self.network.config.n_items
        drawn_K = torch.randint(1, n_items + 1, (self.negatives,), device=targets_P.device)
        embedding = self.network.item_embedding
        target_logits_P1 = (hidden_PD * embedding(targets_P)).sum(1, keepdim=True).float()
        logits_PK = (hidden_PD @ embedding(drawn_K).T).float() + math.log(n_items / self.negatives)
        logits_PK = logits_PK.masked_fill(drawn_K == targets_P[:, None], -torch.inf)
        denominator_P = torch.cat([target_logits_P1, logits_PK], dim=1).logsumexp(1)
        loss: Tensor = (denominator_P - target_logits_P1.squeeze(1)).mean()
        return loss
