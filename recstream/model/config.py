"""The network's shape, as `config.json` of a bundle keeps it."""

from typing import Literal, Self

import msgspec


class SasrecConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the weights' names and shapes, and how the network reads them.

    `architecture` names the code in `net.py` that the weights belong to: a changed network takes a new name, so that
    no release reads another's weights. `sasrec-1` has plain blocks and is read only; `sasrec-2` has gated ones.

    Raises ValueError where a value is out of its range.
    """

    architecture: Literal["sasrec-1", "sasrec-2"] = "sasrec-2"
    n_items: int
    max_length: int
    d_model: int = 64
    n_blocks: int = 2
    n_heads: int = 1
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name in ("n_items", "max_length", "d_model", "n_blocks", "n_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"The model's {name} must be at least 1, not {getattr(self, name)}.")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model ({self.d_model}) must be a multiple of n_heads ({self.n_heads}).")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}.")

    def to_json(self) -> bytes:
        """Return the document that `from_json` reads."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, encoded: bytes) -> Self:
        """Raises ValueError with a sentence where the document is malformed or a value out of range."""
        try:
            return msgspec.json.decode(encoded, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"The model's configuration is unusable: {error}.") from error
