"""`python -m multimodal.evaluation.harness` is lm-eval's command, with our model among its own.

lm-eval 0.4.13 looks for models in its own package alone; releases after it find the entry point in
`pyproject.toml`, and `lm-eval --model openherd` does.
"""

from lm_eval.__main__ import cli_evaluate

from multimodal.evaluation.harness import lm_eval_model  # noqa: F401  registers the model

if __name__ == "__main__":
    cli_evaluate()
