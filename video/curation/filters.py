"""All filters over one clip, as a config has them, the cheapest first (paper section 7.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

from language.config_dict import config_from_dict
from language.errors import InputError
from video.curation.alignment import AlignmentRules, PairEncoder, check_alignment
from video.curation.language_id import LanguageRules, check_language
from video.curation.motion import MotionRules, check_motion
from video.curation.overlaid_text import OverlaidTextRules, TextDetector, check_overlaid_text
from video.curation.text import TextRules, clean_text
from video.curation.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """Which filters run, and their bounds; None leaves one out."""

    text: TextRules | None = TextRules()
    language: LanguageRules | None = LanguageRules()
    motion: MotionRules | None = MotionRules()
    overlaid_text: OverlaidTextRules | None = OverlaidTextRules()
    alignment: AlignmentRules | None = AlignmentRules()


def read_curation(file: Path) -> CurationConfig:
    """The filters that a YAML file names; a key that it lacks is as by default, null is off.

    Raises:
        InputError: the file is unreadable, or has an unknown key or a value out of its bounds.
    """
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(file, f"not a readable YAML file ({error})") from None
    if not isinstance(data, dict):
        raise InputError(file, "not a YAML mapping of filters")
    try:
        return config_from_dict(CurationConfig, data)
    except ValueError as error:
        raise InputError(file, str(error)) from None


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What became of a clip."""

    text: str
    """Cleaned."""
    verdicts: tuple[Verdict, ...]
    """Of the filters that ran: all up to the first that refused."""

    @property
    def passed(self) -> bool:
        """Whether every filter lets the clip pass."""
        return all(verdict.passed for verdict in self.verdicts)


def curate(
    frames: Sequence[Image.Image],
    text: str,
    config: CurationConfig,
    *,
    detector: TextDetector | None = None,
    encoder: PairEncoder | None = None,
) -> Curated:
    """Run the filters until one refuses the clip.

    Args:
        frames: RGB pictures, evenly sampled (`video.frames.sample`).
        text: what goes with the clip.
        config: the filters.
        detector: finds text, for ``overlaid_text``.
        encoder: of pictures and texts, for ``alignment``.

    Raises:
        ValueError: there is no frame, or what a filter needs is not given.
    """
    if config.overlaid_text is not None and detector is None:
        raise ValueError("overlaid_text needs a detector")
    if config.alignment is not None and encoder is None:
        raise ValueError("alignment needs an encoder")
    verdicts: list[Verdict] = []

    def refused(verdict: Verdict) -> bool:
        verdicts.append(verdict)
        return not verdict.passed

    def run() -> str:
        cleaned = text
        if config.text is not None:
            cleaned, verdict = clean_text(text, config.text)
            if refused(verdict):
                return cleaned
        if config.language is not None and refused(check_language(cleaned, config.language)):
            return cleaned
        if config.motion is not None and refused(check_motion(frames, config.motion)):
            return cleaned
        if config.alignment is not None and encoder is not None:
            if refused(check_alignment(frames, cleaned, config.alignment, encoder=encoder)):
                return cleaned
        if config.overlaid_text is not None and detector is not None:
            refused(check_overlaid_text(frames, config.overlaid_text, detector=detector))
        return cleaned

    return Curated(text=run(), verdicts=tuple(verdicts))
