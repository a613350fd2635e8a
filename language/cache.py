"""Keys and values of what was read, kept so that each new token costs one token (section 6)."""

import copy

import torch
from torch import Tensor


class KeyValueCache:
    """A static cache in which slot ``i`` of a row holds the token at position ``i``.

    Rows of unequal length are padded on the right: what a padding token wrote lies past the row's
    length, where nothing looks before the next real token overwrites it. So a batch of unequal
    prompts needs neither left padding nor shifted positions.
    """

    def __init__(
        self,
        num_layers: int,
        *,
        batch_size: int,
        num_kv_heads: int,
        max_length: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Memory for ``max_length`` tokens in every row of every layer is taken at once."""
        shape = (num_layers, batch_size, num_kv_heads, max_length, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.max_length = max_length
        self.lengths = [0] * batch_size
        """Tokens held by each row; on the host, since decoding is driven from there."""

    @property
    def device(self) -> torch.device:
        """Where the keys and values lie."""
        return self.keys.device

    def front(self, number: int) -> "KeyValueCache":
        """The first ``number`` rows, in the same memory; lengths are counted apart."""
        rows = copy.copy(self)
        rows.keys, rows.values = self.keys[:, :number], self.values[:, :number]
        rows.lengths = self.lengths[:number]
        return rows

    def is_uniform(self) -> bool:
        """Whether all rows are equally long, so that positions are one range."""
        return min(self.lengths) == max(self.lengths)

    def reserve(self, num_tokens: int) -> int:
        """Slots in use once ``num_tokens`` more stand in every row.

        Raises:
            ValueError: they do not fit.
        """
        end = max(self.lengths) + num_tokens
        if end > self.max_length:
            raise ValueError(f"{end} tokens do not fit into a cache of {self.max_length}")
        return end

    def positions(self, num_tokens: int) -> Tensor:
        """Positions of the next ``num_tokens`` of every row, [batch, tokens]."""
        starts = torch.tensor(self.lengths, device=self.device)
        return starts[:, None] + torch.arange(num_tokens, device=self.device)

    def update(
        self, layer: int, keys: Tensor, values: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Store new tokens of one layer and return everything that they may attend to.

        Args:
            layer: index of the block.
            keys: [batch, kv_heads, tokens, head_dim].
            values: the same.
            positions: [batch, tokens], or None where all rows are equally long.

        Returns:
            Keys and values [batch, kv_heads, slots in use, head_dim].
        """
        num_tokens = keys.shape[2]
        end = self.reserve(num_tokens)
        stored_keys, stored_values = self.keys[layer], self.values[layer]
        if positions is None:
            stored_keys.narrow(2, end - num_tokens, num_tokens).copy_(keys)
            stored_values.narrow(2, end - num_tokens, num_tokens).copy_(values)
        else:
            rows = torch.arange(len(keys), device=keys.device)[:, None]
            stored_keys[rows, :, positions] = keys.transpose(1, 2)
            stored_values[rows, :, positions] = values.transpose(1, 2)
        return stored_keys.narrow(2, 0, end), stored_values.narrow(2, 0, end)

    def advance(self, num_new: list[int]) -> None:
        """Count ``num_new`` real tokens into each row, after all layers were updated."""
        self.lengths = [old + new for old, new in zip(self.lengths, num_new, strict=True)]
