"""How well text is read aloud, as in the paper's table: with embeddings and without (section 8.3).

`python -m multimodal.world.normalization_evaluation` trains taggers on the speaking world's
sentences, three of each kind from other seeds: without embeddings and a look-ahead of 3 tokens,
without embeddings on whole sentences, with embeddings and a look-ahead of 3. The test sentences
have templates, names and numbers that no training sentence has. A sentence counts when all of what
is said is right. `--only DIR` measures the tagger of a directory alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from multimodal.evaluation.intervals import interval
from multimodal.world import written_sentences
from multimodal.world.speaking import write_written
from speech.embeddings import CoreEmbeddings
from speech.normalization.checkpoint import load_tagger
from speech.normalization.data import spoken, words_of
from speech.normalization.normalizer import Normalizer, joined

KINDS = {
    "no embeddings, look-ahead 3": ("null", "3"),
    "no embeddings, whole sentence": ("null", "null"),
    "embeddings, look-ahead 3": (None, "3"),
}
"""What is compared: the core (None: that of the config) and the look-ahead."""
PUBLISHED = (73.6, 88.0, 90.7)
"""The paper's sentence accuracies of the same kinds, on data of its own."""
DATA = Path("data/speaking")
RUNS = Path("runs/speech/normalization-evaluation")


@dataclass
class Measured:
    """What a tagger does on sentences."""

    right: Counter[str]
    """Sentences by what decides in them: near, words, far."""
    total: Counter[str]
    wrong_by_rule: Counter[str]
    """Spans that are read wrong, by the rule that would read them right."""
    by_rule: Counter[str]

    @property
    def accuracy(self) -> float:
        """Percent of sentences."""
        return 100 * self.right.total() / self.total.total()


def measure(normalizer: Normalizer, *, number: int, seed: int) -> Measured:
    """Read ``number`` test sentences."""
    found = Measured(Counter(), Counter(), Counter(), Counter())
    for sentence in islice(written_sentences.sentences(split="test", seed=seed), number):
        text = written_sentences.labelled([sentence])
        spans = normalizer.spans(text.text)
        is_right = words_of(joined(spans)) == words_of(spoken(text, normalizer.rules))
        found.total[sentence.kind] += 1
        found.right[sentence.kind] += is_right
        said = {(span.start, span.written): span.said.split() for span in spans}
        for span in text.spans:
            written = text.text[span.start : span.end]
            wanted = normalizer.rules.read(span.rule, written).split()
            found.by_rule[span.rule] += 1
            found.wrong_by_rule[span.rule] += said.get((span.start, written), []) != wanted
    return found


def train(name: str, core: str | None, look_ahead: str, *, seed: int, steps: int) -> Path:
    """Train a tagger by its config, unless it is there."""
    run = RUNS / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    if (run / "export/config.json").exists():
        return run / "export"
    words = [sys.executable, "-m", "multimodal.cli", "fit"]
    words += ["--config", "speech/normalization-tiny.yaml", "--seed_everything", str(seed)]
    words += ["--trainer.default_root_dir", str(run), "--trainer.max_steps", str(steps)]
    words += ["--trainer.devices", "1", "--data.init_args.seed", str(seed)]
    words += ["--model.init_args.look_ahead", look_ahead]
    if core is not None:
        words += ["--model.init_args.core", core]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return run / "export"


def main() -> None:
    """Read the command line, train, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.normalization_evaluation", description=__doc__
    )
    parser.add_argument("--core", type=Path, default=Path("runs/speech/speaking-core-tiny/export"))
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--number", type=int, default=2000, help="test sentences")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", type=Path, help="a tagger's directory")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    core = CoreEmbeddings.of(options.core, layer=options.layer)
    if options.only is None and not (DATA / "written-train.tsv").exists():
        write_written(DATA / "written-train.tsv", split="train", number=55_000, seed=0)
        write_written(DATA / "written-validation.tsv", split="validation", number=500, seed=0)
    kinds = KINDS if options.only is None else {str(options.only): (None, "3")}
    found = []
    for name, (source, look_ahead) in kinds.items():
        every = []
        for seed in range(1, 1 + (options.seeds if options.only is None else 1)):
            directory = options.only or train(
                name, source, look_ahead, seed=seed, steps=options.steps
            )
            tagger, rules = load_tagger(directory)
            normalizer = Normalizer(tagger, rules, None if tagger.config.core_dim is None else core)
            every.append(measure(normalizer, number=options.number, seed=seed))
        found.append(summary(name, every))
        print(line(found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"models": found}, indent=1) + "\n")
    if options.only is None:
        print("the paper, on data of its own: " + ", ".join(f"{each} %" for each in PUBLISHED))


def summary(name: str, every: list[Measured]) -> dict[str, object]:
    """Figures of taggers of one kind, in percent."""
    accuracies = [each.accuracy for each in every]
    total, right = Counter[str](), Counter[str]()
    wrong, rules = Counter[str](), Counter[str]()
    for each in every:
        total, right = total + each.total, right + each.right
        wrong, rules = wrong + each.wrong_by_rule, rules + each.by_rule
    sums = np.repeat([[1.0, 1.0], [0.0, 1.0]], [right.total(), (total - right).total()], axis=0)
    low, high = interval(sums, lambda sums: sums[..., 0] / sums[..., 1], most=1.0)
    return {
        "name": name,
        "sentences": total.total(),
        "accuracy": statistics.mean(accuracies),
        "interval": [100 * low, 100 * high],
        "accuracies": accuracies,
        "by context": {kind: 100 * right[kind] / total[kind] for kind in total},
        "errors by rule": {
            rule: 100 * wrong[rule] / rules[rule] for rule, _ in wrong.most_common()
        },
    }


def line(found: Mapping[str, object]) -> str:
    """A row of the table, and what was read wrong."""
    accuracies = found["accuracies"]
    assert isinstance(accuracies, list)
    contexts, errors = found["by context"], found["errors by rule"]
    assert isinstance(contexts, dict) and isinstance(errors, dict)
    assert isinstance(found["interval"], list)
    low, high = found["interval"]
    parts = ", ".join(f"{kind} {share:.1f} %" for kind, share in contexts.items())
    worst = ", ".join(f"{rule} {share:.1f} %" for rule, share in list(errors.items())[:8])
    return (
        f"{found['name']}: {found['accuracy']:.1f} % (95 %: {low:.1f} to {high:.1f}; "
        f"seeds {', '.join(f'{each:.1f}' for each in accuracies)})\n"
        f"  right by what decides: {parts}\n  read wrong: {worst}"
    )


if __name__ == "__main__":
    main()
