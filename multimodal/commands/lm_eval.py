"""`openherd lm-eval ...`: the lm-evaluation-harness, with our models among its own.

The harness has no way for other packages to announce models; so its command is started from here,
after ours is registered. Its words are its own: `openherd lm-eval run --model openherd
--model_args pretrained=DIR --tasks hellaswag`.
"""

import sys
from collections.abc import Sequence

from language.errors import InputError


def main(words: Sequence[str]) -> int:
    """Run the harness's command with these words, and return its exit status."""
    if len(words) < 2 or words[1] in ("-h", "--help"):
        print(f"usage: openherd lm-eval WORDS...\n\n{__doc__}")
        return 0 if len(words) > 1 else 2
    try:
        from lm_eval.__main__ import cli_evaluate

        import multimodal.evaluation.harness.lm_eval_model  # noqa: F401  # registers the model
    except ImportError as error:
        raise InputError(
            "lm-eval", f"{error.name} is not installed: pip install 'openherd[harness]'"
        ) from None
    before, sys.argv = sys.argv, ["lm-eval", *words[1:]]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
    return 0
