"""Cosines against a brute-force count, and a model of open_clip behind the same door."""

import math

import open_clip
import pytest
import torch
from PIL import Image

from video.curation.alignment import AlignmentRules, OpenClipEncoder, check_alignment

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}


class Colours:
    """Pictures by their mean colour, texts by the colours that they name."""

    def embed_pictures(self, pictures):
        return torch.stack(
            [torch.tensor(list(p.resize((1, 1)).getpixel((0, 0)))) / 255.0 for p in pictures]
        )

    def embed_text(self, text):
        named = [torch.tensor(COLOURS[word]) for word in text.split() if word in COLOURS]
        return sum(named, torch.zeros(3)) / 255.0


def frames(*names):
    return [Image.new("RGB", (16, 16), COLOURS[name]) for name in names]


def cosine(a, b):
    a, b = a.tolist(), b.tolist()
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@pytest.mark.parametrize("over", ["mean", "max"])
@pytest.mark.parametrize("shown", [("red", "red"), ("red", "blue", "green"), ("green",)])
def test_the_score_is_the_brute_force_one(over, shown):
    encoder, pictures = Colours(), frames(*shown)
    found = [
        cosine(encoder.embed_pictures([p])[0], encoder.embed_text("a red thing")) for p in pictures
    ]
    expected = sum(found) / len(found) if over == "mean" else max(found)
    rules = AlignmentRules(over=over, min_score=-1)
    verdict = check_alignment(pictures, "a red thing", rules, encoder=encoder)
    assert verdict.score == pytest.approx(expected, abs=1e-5) and verdict.passed


@pytest.mark.parametrize(
    ("shown", "over", "passes"),
    [
        (("red", "red"), "mean", True),
        (("blue", "green"), "mean", False),
        (("blue", "green"), "max", False),
        (("blue", "red", "blue", "blue"), "mean", False),
        (("blue", "red", "blue", "blue"), "max", True),
    ],
)
def test_what_fits_passes(shown, over, passes):
    rules = AlignmentRules(over=over, min_score=0.8)
    verdict = check_alignment(frames(*shown), "a red thing", rules, encoder=Colours())
    assert verdict.passed == passes
    assert passes or "less than 0.800" in verdict.reason


def test_a_text_of_which_nothing_is_known_passes_nowhere():
    verdict = check_alignment(frames("red"), "hm", AlignmentRules(), encoder=Colours())
    assert not verdict.passed


def test_open_clip_models_serve():
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        text_cfg={"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    )
    preprocess = open_clip.image_transform(32, is_train=False)

    def tokenizer(texts):
        return torch.tensor([[1 + ord(sign) % 60 for sign in t[:16].ljust(16)] for t in texts])

    encoder = OpenClipEncoder(model, preprocess=preprocess, tokenizer=tokenizer)
    shown = frames("red", "blue", "green")
    rules = AlignmentRules(min_score=-1)
    together = check_alignment(shown, "a red thing", rules, encoder=encoder).score
    alone = [check_alignment([f], "a red thing", rules, encoder=encoder).score for f in shown]
    assert together == pytest.approx(sum(alone) / 3, abs=1e-5)
    with torch.no_grad():
        pixels = preprocess(shown[0])[None]
        picture, text = (
            model.encode_image(pixels)[0],
            model.encode_text(tokenizer(["a red thing"]))[0],
        )
    assert alone[0] == pytest.approx(cosine(picture, text), abs=1e-5)


def test_wrong_rules_are_refused():
    for wrong in ({"min_score": 2}, {"over": "least"}):
        with pytest.raises(ValueError, match="alignment"):
            AlignmentRules(**wrong)
    with pytest.raises(ValueError, match="no frames"):
        check_alignment([], "a", AlignmentRules(), encoder=Colours())
