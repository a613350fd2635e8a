"""A dialogue that keeps what it has read: a further turn costs its own tokens and media alone.

The keys and values of a picture or clip are computed once and serve the whole dialogue (paper
section 7.2).
The kept part is whatever the new prompt has in common with what was read, so the answer is the one
that reading everything anew would give, also where a client edits or shortens the history.
"""

from dataclasses import replace

import torch
from torch import Tensor

from multimodal.batch import Batch, Clips, Images, Recordings
from multimodal.model import MultimodalLlama
from multimodal.session import MultimodalSession


class Conversation:
    """One dialogue's decoding state, with the tokens and pictures that it stands for."""

    def __init__(self, model: MultimodalLlama) -> None:
        """Nothing is read, and no memory taken, before the first prompt."""
        self.model = model
        self.session: MultimodalSession | None = None
        self._tokens: list[int] = []
        self._images: Images | None = None
        self._clips: Clips | None = None
        self._recordings: Recordings | None = None

    def read(self, batch: Batch, *, max_new_tokens: int) -> tuple[MultimodalSession, Tensor]:
        """Read a prompt of one row, as little of it as is new.

        Args:
            batch: the whole dialogue so far, on the model's device.
            max_new_tokens: tokens that the session needs room for after it.

        Returns:
            The session to append to, and logits [1, vocabulary] after the prompt's last token.
        """
        assert len(batch.tokens) == 1
        tokens = batch.tokens[0].tolist()
        wanted = len(tokens) + max_new_tokens
        known = self._known(tokens, batch)
        # A reading that fails half-way leaves nothing that a later one could build on.
        session, self.session = self.session, None
        if session is None or known == 0 or wanted > session.cache.max_length:
            known = 0
            self._images = self._clips = self._recordings = None
            length = min(2 * wanted, max(wanted, self.model.config.language.max_positions))
            session = MultimodalSession(self.model, batch_size=1, max_length=length)
        session.cache.lengths = [known]
        num_known_images = 0 if self._images is None else len(self._images.arrangements)
        num_known_clips = 0 if self._clips is None else len(self._clips.lengths)
        num_known_recordings = 0 if self._recordings is None else len(self._recordings.lengths)
        new = replace(
            batch,
            tokens=batch.tokens[:, known:],
            lengths=batch.lengths - known,
            images=_from(batch.images, num_known_images),
            visible=None if batch.visible is None else batch.visible[:, known:],
            clips=_clips_from(batch.clips, num_known_clips),
            visible_clips=(None if batch.visible_clips is None else batch.visible_clips[:, known:]),
            recordings=_recordings_from(batch.recordings, num_known_recordings),
            spoken=None if batch.spoken is None else batch.spoken[:, known:],
        )
        logits = session.prefill(new)
        self.session, self._tokens = session, tokens
        self._images, self._clips = batch.images, batch.clips
        self._recordings = batch.recordings
        return session, logits

    def extend(self, token: int) -> None:
        """Note a token that was appended to the session."""
        self._tokens.append(token)

    def _known(self, tokens: list[int], batch: Batch) -> int:
        """Count the leading tokens that need not be read again; 0 if a medium differs."""
        if self.session is None or not _starts_with(batch.images, self._images):
            return 0
        if not _clips_start_with(batch.clips, self._clips):
            return 0
        if not _recordings_start_with(batch.recordings, self._recordings):
            return 0
        kept = self._tokens[: self.session.cache.lengths[0]]
        same = 0
        for old, new in zip(kept, tokens[:-1], strict=False):  # the last token is always read
            if old != new:
                break
            same += 1
        is_medium = self.model.config.language.vocab_size
        if any(token >= is_medium for token in kept[same:]):
            return 0  # a medium of the session is no longer in the dialogue
        return same


def _starts_with(images: Images | None, known: Images | None) -> bool:
    if known is None:
        return True
    if images is None or len(images.arrangements) < len(known.arrangements):
        return False
    return torch.equal(
        images.arrangements[: len(known.arrangements)], known.arrangements
    ) and torch.equal(images.tiles[: len(known.tiles)], known.tiles)


def _clips_start_with(clips: Clips | None, known: Clips | None) -> bool:
    if known is None:
        return True
    if clips is None or len(clips.lengths) < len(known.lengths):
        return False
    number = len(known.lengths)
    return (
        torch.equal(clips.lengths[:number], known.lengths)
        and torch.equal(clips.arrangements[:number], known.arrangements)
        and torch.equal(clips.tiles[: len(known.tiles)], known.tiles)
    )


def _clips_from(clips: Clips | None, first: int) -> Clips | None:
    """Return the clips from the given one on, or None if there are no more."""
    if clips is None or first == len(clips.lengths):
        return None
    num_tiles = int(clips.tiles_per_clip[:first].sum())
    return Clips(
        tiles=clips.tiles[num_tiles:],
        arrangements=clips.arrangements[first:],
        lengths=clips.lengths[first:],
        rows=clips.rows[first:],
    )


def _recordings_start_with(recordings: Recordings | None, known: Recordings | None) -> bool:
    if known is None:
        return True
    if recordings is None or len(recordings.lengths) < len(known.lengths):
        return False
    if not torch.equal(recordings.lengths[: len(known.lengths)], known.lengths):
        return False
    longest = int(known.lengths.max())
    ours = recordings.waveforms[: len(known.lengths), :longest]
    return torch.equal(ours, known.waveforms[:, :longest])


def _recordings_from(recordings: Recordings | None, first: int) -> Recordings | None:
    """Return the recordings from the given one on, or None if there are no more."""
    if recordings is None or first == len(recordings.lengths):
        return None
    lengths = recordings.lengths[first:]
    return Recordings(
        waveforms=recordings.waveforms[first:, : int(lengths.max())],
        lengths=lengths,
        rows=recordings.rows[first:],
    )


def _from(images: Images | None, first: int) -> Images | None:
    """Return the pictures from the given one on, or None if there are no more."""
    if images is None or first == len(images.arrangements):
        return None
    num_tiles = int(images.arrangements[:first].prod(dim=1).sum())
    return Images(
        tiles=images.tiles[num_tiles:],
        arrangements=images.arrangements[first:],
        rows=images.rows[first:],
    )
