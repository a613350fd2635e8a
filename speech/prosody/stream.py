"""Prosody of a text that grows, phone by phone, equal to that of the whole text (section 8.2)."""

import torch
from torch import Tensor

from speech.prosody.model import NUM_SAID, ProsodyInput, ProsodyLayer, ProsodyModel
from speech.prosody.phones import PhoneInput


class ProsodyStream:
    """What was read, what was said, and what attention keeps of it."""

    def __init__(self, model: ProsodyModel, *, speaker: int = 0, style: int = 0) -> None:
        """Begin with nothing read.

        Raises:
            ValueError: the model needs the whole text, or knows no such speaker or style.
        """
        config = model.config
        if config.look_ahead is None:
            raise ValueError("a prosody model without a look-ahead reads whole texts alone")
        for what, number, known in (
            ("speaker", speaker, config.num_speakers),
            ("style", style, config.num_styles),
        ):
            if not 0 <= number < known:
                raise ValueError(f"{what} must be from 0 to {known - 1}, not {number}")
        self._model, self._ahead, self._memory = model, config.look_ahead, config.memory
        self._speaker, self._style = torch.tensor([speaker]), torch.tensor([style])
        self._num_read = 0  # steps, those of the end among them
        self._num_phones = 0
        self._said: list[Tensor] = []  # of the last phones, [NUM_SAID + 1] each
        empty = model.end.new_zeros(2, 1, config.num_heads, 0, config.dim // config.num_heads)
        self._steps = [empty] * config.num_layers
        self._linguistic = [empty] * config.num_layers
        self._core = [empty] * config.num_layers
        self._owners = torch.zeros(0, dtype=torch.int64)

    @torch.no_grad()
    def append(self, phones: PhoneInput, core: tuple[Tensor, list[int]] | None = None) -> Tensor:
        """Read whole words.

        Args:
            phones: their phones, none of which was read before.
            core: embeddings [core tokens, core dim] of all of the core's tokens that end within
                these words, and the owner of each among ``phones`` as
                :func:`speech.prosody.model.owners` says it.

        Returns:
            Measures [phones, 3] of those phones that are decided now, as
            :meth:`ProsodyModel.measures` gives them.
        """
        if core is not None:
            self._see(*core)
        read = self._model.read(phones, self._speaker, self._style)[0]
        said = []
        for phone in read:
            said += self._step(phone, is_end=False)
        return self._measured(said)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Measures of the phones that waited for more."""
        said = []
        for _ in range(self._ahead):
            said += self._step(self._model.end, is_end=True)
        return self._measured(said)

    def _measured(self, said: list[Tensor]) -> Tensor:
        out = torch.stack(said) if said else torch.zeros(0, NUM_SAID)
        return self._model.measures(out)

    def _see(self, states: Tensor, owned: list[int]) -> None:
        """Make keys and values of embeddings."""
        model = self._model
        self._owners = torch.cat([self._owners, torch.tensor(owned).long() + self._num_phones])
        x = model.core_in(model.core_norm(states.to(model.end)))[None]
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, ProsodyLayer) and layer.core is not None
            self._core[index] = torch.cat([self._core[index], layer.core.keys_values(x)], dim=3)
        kept = self._owners >= self._num_read - self._memory
        if not kept.all():
            self._owners = self._owners[kept]
            self._core = [each[:, :, :, kept] for each in self._core]

    def _step(self, phone: Tensor, *, is_end: bool) -> list[Tensor]:
        """Read one phone, and say what is decided by it."""
        model, place = self._model, self._num_read
        known = torch.zeros(NUM_SAID + 1)
        if place > self._ahead:
            known = torch.cat([self._said[-1], torch.ones(1)])
        x = (phone + model.said(known))[None, None]
        self._num_read += 1
        self._num_phones += not is_end
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, ProsodyLayer)
            normed = layer.norms[0](x)
            steps = self._grown(self._steps[index], layer.steps.keys_values(normed))
            self._steps[index] = steps
            x = x + layer.steps(normed, steps, *self._reach(steps, place))
            if not is_end:
                source = layer.linguistic.keys_values(phone[None, None])
                self._linguistic[index] = self._grown(self._linguistic[index], source)
            linguistic = self._linguistic[index]
            reach = self._reach(linguistic, self._num_phones - 1, place)
            x = x + layer.linguistic(layer.norms[1](x), linguistic, *reach)
            if layer.core is not None:
                away = (self._owners - place)[None, None]
                visible = (away <= 0) & (away >= -self._memory)
                x = x + layer.core(layer.norms[2](x), self._core[index], away, visible)
            x = x + layer.feed_forward(layer.norms[3](x))
        if place < self._ahead or place - self._ahead >= self._num_phones:
            return []  # nothing was read so long ago
        out = model.head(model.norm(x))[0, 0]
        self._said = [model.fed_back(out)]
        return [out]

    def _grown(self, kept: Tensor, new: Tensor) -> Tensor:
        return torch.cat([kept, new], dim=3)[:, :, :, -(self._memory + 1) :]

    def _reach(self, sources: Tensor, last: int, place: int | None = None) -> tuple[Tensor, Tensor]:
        """How far away sources are, the last at the place ``last``, and which are seen."""
        number = sources.shape[3]
        away = torch.arange(last - number + 1, last + 1) - (last if place is None else place)
        away = away[None, None]
        return away, away >= -self._memory


@torch.no_grad()
def predict(model: ProsodyModel, batch: ProsodyInput, lengths: Tensor) -> Tensor:
    """Measures [batch, phones, 3] of whole texts.

    Step by step with what the model says itself as its input; the stream does the same for one text
    with less work.
    """
    ahead, number = model.config.look_ahead, batch.phones.codes.shape[1]
    said = torch.zeros(len(lengths), number, NUM_SAID)
    if ahead is None:
        return model.measures(model(batch, lengths, said))
    out = said
    for place in range(number):
        out = model(batch, lengths, said)
        said[:, place] = model.fed_back(out[:, place])
    return model.measures(out)
