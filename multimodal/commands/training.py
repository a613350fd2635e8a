"""`openherd fit | validate | test --config FILE`: Lightning's command line over our modules."""

from collections.abc import Sequence

HELP = """\
usage: openherd {verb} --config FILE [--KEY VALUE ...]

{what}

  --config FILE        a YAML file: a path, or a name under configs/ (which the package carries)
  --resume             go on from the run's newest good state, or begin where there is none
  --profile            write beside the run what some steps spend their time on, and their traces
  --KEY VALUE          override any value of it: --trainer.max_steps 100
  --print_config       print the whole config as it would run, then stop
  --config FILE --help list every key with its meaning

  openherd fit --config configs/image/pretrain-tiny.yaml"""

WHAT = {
    "fit": "Train from a YAML config; what trains and what is frozen is printed first.",
    "validate": "Measure the model of a training config on its validation data.",
    "test": "Measure the model of a training config on its test data.",
}


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status; help comes without importing torch."""
    verb, *rest = words
    if not rest or rest[0] in ("-h", "--help"):
        print(HELP.format(verb=verb, what=WHAT[verb]))
        return 0 if rest else 2
    from multimodal.training.command import main as train

    return train(list(words))
