"""How near prosody comes to what was spoken: with embeddings and without (paper section 8.3).

`python -m multimodal.world.prosody_evaluation` trains prosody models on the speaking world's
sentences, three of each kind from other seeds: with the core's embeddings or without, with a
look-ahead of 8 phones or on whole sentences. The test sentences have templates and words that no
training sentence has. The paper asks listeners which of two they prefer; here what the model says
is compared with what was measured, of each phone: the mean absolute error of log duration, log F0
and log power, and the correlation. In every case the model goes on from what it said itself.

*Emphasis* is the chance that the stressed vowel of a word that is new is said longer, higher and
louder, all together and against the rest of its sentence, than that of one that was given; 50 % is
blind. Some words are given as they are repeated, some by another name, which phones do not tell.

`--only DIR` measures the model of a directory alone; `--plot FILE` draws a sentence of it.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multimodal.evaluation.intervals import interval
from multimodal.world import prosody_corpus
from multimodal.world.prosody_corpus import recordings
from multimodal.world.prosody_sentences import ProsodySentence
from speech.embeddings import CoreEmbeddings
from speech.prosody.checkpoint import load_prosody
from speech.prosody.corpus import MeasuredText
from speech.prosody.model import ProsodyModel
from speech.prosody.plots import draw
from speech.prosody.stream import predict
from speech.prosody.training import NAMES, ProsodyRow, encode

KINDS = {
    "phones alone, look-ahead 8": ("null", "8"),
    "phones alone, whole sentence": ("null", "null"),
    "embeddings, look-ahead 8": (None, "8"),
    "embeddings, whole sentence": (None, "null"),
}
"""What is compared: the core (None: that of the command line) and the look-ahead."""
DATA = Path("data/speaking")
RUNS = Path("runs/speech/prosody-evaluation")
_BATCH = 50
Spoken = tuple[ProsodySentence, MeasuredText]


@dataclass
class Measured:
    """What a model says of test sentences, beside what was measured."""

    errors: NDArray[np.float64]
    """Of each sentence, for each measure, the sum of absolute errors and the number of phones,
    [sentences, 3, 2]."""
    correlations: list[float]
    """Of each measure, over all phones."""
    prominence: dict[str, list[float]]
    """Of words by reason (new, repeated, synonym), how long, high and loud they are said."""

    def told(self, reason: str) -> float:
        """Chance, in percent, that a new word stands out more than one given by ``reason``."""
        new, given = np.array(self.prominence["new"]), np.array(self.prominence[reason])
        above = (new[:, None] > given).mean() + 0.5 * (new[:, None] == given).mean()
        return 100 * float(above)


def test_sentences(number: int, *, seed: int = 0) -> list[Spoken]:
    """Spoken sentences of the test split."""
    made = recordings(split="test", seed=seed)
    return [(sentence, text) for sentence, text, _ in islice(made, number)]


def said_of(
    model: ProsodyModel, core: CoreEmbeddings | None, texts: Sequence[MeasuredText]
) -> list[NDArray[np.float64]]:
    """What a model says of texts, [phones, 3] each; core None where it sees none."""
    found = []
    for start in range(0, len(texts), _BATCH):
        part = texts[start : start + _BATCH]
        rows = [ProsodyRow.of(text, max_phones=len(text.phones)) for text in part]
        batch, lengths = encode(rows, core)
        measures = predict(model, batch, lengths).double().numpy()
        found += [row[:length] for row, length in zip(measures, lengths.tolist(), strict=True)]
    return found


def compare(spoken: Sequence[Spoken], said: Sequence[NDArray[np.float64]]) -> Measured:
    """Set what is said beside what was measured."""
    errors, pairs = [], []
    prominence: dict[str, list[float]] = {"new": [], "repeated": [], "synonym": []}
    spreads = np.nanstd(np.concatenate([text.targets().numpy() for _, text in spoken]), axis=0)
    for (sentence, text), given in zip(spoken, said, strict=True):
        true = text.targets().double().numpy()
        difference = np.abs(given - true)
        known = np.isfinite(difference)  # a pitch is compared where both have one
        errors.append(np.stack([np.nansum(difference, axis=0), known.sum(axis=0)], axis=1))
        pairs.append(np.stack([given, true], axis=-1))
        standing_out = ((given - np.nanmedian(given, axis=0)) / spreads).sum(axis=1)
        for number, word in enumerate(sentence.words):
            vowels = [
                standing_out[index]
                for index, phone in enumerate(text.phones)
                if phone.word == number and phone.stress == 2
            ]
            if word.reason and vowels and np.isfinite(vowels[0]):
                prominence[word.reason].append(float(vowels[0]))
    every = np.concatenate(pairs)
    correlations = []
    for index in range(len(NAMES)):
        both = every[:, index][np.isfinite(every[:, index]).all(axis=-1)]
        correlations.append(float(np.corrcoef(both[:, 0], both[:, 1])[0, 1]))
    return Measured(np.array(errors, np.float64), correlations, prominence)


def train(name: str, core: str, look_ahead: str, *, seed: int, steps: int) -> Path:
    """Train a model by its config, unless it is there."""
    run = RUNS / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    if (run / "export/config.json").exists():
        return run / "export"
    words = [sys.executable, "-m", "multimodal.cli", "fit"]
    words += ["--config", "speech/prosody-tiny.yaml", "--seed_everything", str(seed)]
    words += ["--trainer.default_root_dir", str(run), "--trainer.max_steps", str(steps)]
    words += ["--trainer.val_check_interval", str(steps), "--trainer.devices", "1"]
    words += ["--model.init_args.look_ahead", look_ahead, "--model.init_args.core", core]
    subprocess.run([*words, "--data.init_args.seed", str(seed)], check=True, stdout=sys.stderr)
    return run / "export"


def summary(name: str, every: Sequence[Measured]) -> dict[str, object]:
    """Figures of models of one kind: means over seeds, intervals over sentences."""
    errors = np.concatenate([each.errors for each in every], axis=1)  # [sentences, 3 seeds, 2]
    errors = errors.reshape(len(errors), len(every), len(NAMES), 2).sum(axis=1)
    found: dict[str, object] = {"name": name, "sentences": len(errors), "seeds": len(every)}
    for index, measure in enumerate(NAMES):
        sums = errors[:, index]
        total = sums.sum(axis=0)
        low, high = interval(sums, lambda added: added[..., 0] / added[..., 1])
        found[measure] = {
            "error": float(total[0] / total[1]),
            "interval": [low, high],
            "correlation": statistics.mean(each.correlations[index] for each in every),
        }
    return found | _emphasis(every)


def _emphasis(every: Sequence[Measured]) -> dict[str, object]:
    told = {reason: [each.told(reason) for each in every] for reason in ("repeated", "synonym")}
    return {
        f"emphasis, {reason}": {"told": statistics.mean(shares), "seeds": shares}
        for reason, shares in told.items()
    }


def _targets(texts: Sequence[MeasuredText]) -> list[NDArray[np.float64]]:
    return [text.targets().double().numpy() for text in texts]


def line(found: dict[str, object]) -> str:
    """A row of the table."""
    parts = []
    for measure in [name for name in NAMES if name in found]:
        figures = found[measure]
        assert isinstance(figures, dict)
        low, high = figures["interval"]
        parts.append(
            f"{measure} {figures['error']:.3f} ({low:.3f} to {high:.3f}), "
            f"r {figures['correlation']:.2f}"
        )
    for reason in ("repeated", "synonym"):
        figures = found[f"emphasis, {reason}"]
        assert isinstance(figures, dict)
        told = figures["seeds"]
        parts.append(
            f"emphasis over {reason} {figures['told']:.1f} % ({min(told):.1f} to {max(told):.1f})"
        )
    seeds = f" ({found['seeds']} seeds)" if "seeds" in found else ""
    return f"{found['name']}{seeds}\n  " + "\n  ".join(parts)


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, train, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.prosody_evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--core", type=Path, default=Path("runs/speech/speaking-core-tiny/export"))
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--number", type=int, default=300, help="test sentences")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--only", type=Path, help="a model's directory")
    parser.add_argument("--plot", type=Path, help="PNG of the first test sentence")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(words)
    core = CoreEmbeddings.of(options.core, layer=options.layer)
    spoken = test_sentences(options.number)
    texts = [text for _, text in spoken]
    if options.only is None and not (DATA / "prosody-validation.jsonl").exists():
        prosody_corpus.main(["--out", str(DATA)])

    every_kind = [{"name": "what was measured"} | _emphasis([compare(spoken, _targets(texts))])]
    print(line(every_kind[0]), flush=True)
    kinds = KINDS if options.only is None else {str(options.only): (None, "")}
    for name, (source, look_ahead) in kinds.items():
        every = []
        for seed in range(1, 1 + (options.seeds if options.only is None else 1)):
            directory = options.only or train(
                name, source or str(options.core), look_ahead, seed=seed, steps=options.steps
            )
            model = load_prosody(directory)
            said = said_of(model, None if model.config.core_dim is None else core, texts)
            every.append(compare(spoken, said))
        every_kind.append(summary(name, every))
        print(line(every_kind[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"models": every_kind}, indent=1) + "\n")
    if options.plot is not None:
        draw(texts[0], said[0], options.plot)


if __name__ == "__main__":
    main()
