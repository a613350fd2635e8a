"""openherd as a model of EleutherAI's lm-eval: `lm_eval.simple_evaluate(model="openherd", ...)`.

Numbers are those of lm-eval's own `hf` model for the same Llama 3 weights: texts begin with the
beginning-of-text token, which is why a rolling likelihood counts that token, too. With
`add_bos_token=False` neither is so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from language.errors import InputError
from multimodal.evaluation.harness.answers import answers
from multimodal.evaluation.harness.drawing import Drawing
from multimodal.evaluation.harness.likelihoods import Likelihood, Question, likelihoods
from multimodal.evaluation.harness.lm_eval_base import Loaded
from multimodal.evaluation.harness.prompt import Prompt, media_of


@register_model("openherd")
class OpenherdLM(Loaded):
    """A model of ours, or any Llama 3 that `openherd` reads, behind lm-eval's interface."""

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[Likelihood]:
        """Log-probability of each continuation, and whether it is what greedy decoding writes.

        Raises:
            InputError: a request has media (lm-eval has no such task yet), or a continuation is
                swallowed by the tokens of its context.
        """
        if any(len(request.args) > 2 for request in requests):
            raise InputError("loglikelihood", "takes text alone from lm-eval")
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[Likelihood]:
        for (_, continuation), _, follows in requests:
            if not follows:
                raise InputError("request", f"no token of its own for {continuation!r}")
        questions = [Question(Prompt(tuple(c)), tuple(follows)) for _, c, follows in requests]
        found = self._likelihoods(questions, disable_tqdm=disable_tqdm)
        for (request, _, _), answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request, answer)
        return found

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of whole texts, in windows that share no predicted token."""
        questions: list[Question] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, follows in map(make_disjoint_window, windows):
                questions.append(Question(Prompt(tuple(context)), tuple(follows)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        found = self._likelihoods(questions, disable_tqdm=disable_tqdm)
        for owner, (likelihood, _) in zip(owners, found, strict=True):
            totals[owner] += likelihood
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers, each cut before the first of its stop texts; media come as a third argument."""
        wanted = [
            (self._prompt(*request.args), self._drawing(request.args[1])) for request in requests
        ]
        with tqdm(total=len(wanted), desc="answers", disable=disable_tqdm or self.rank != 0) as bar:
            found = answers(
                self.assistant,
                wanted,
                batch_size=self.batch_size,
                max_length=self.max_length,
                done=bar.update,
            )
        for request, text in zip(requests, found, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return found

    def _likelihoods(
        self, questions: Sequence[Question], *, disable_tqdm: bool
    ) -> list[Likelihood]:
        with tqdm(
            total=len(questions), desc="likelihoods", disable=disable_tqdm or self.rank != 0
        ) as bar:
            return likelihoods(
                self.assistant,
                questions,
                batch_size=self.batch_size,
                max_length=self.max_length,
                done=bar.update,
            )

    def _prompt(
        self, context: str, settings: Any, media: Mapping[str, Any] | None = None
    ) -> Prompt:
        if not media:
            return Prompt(tuple(self.tok_encode(context)))
        return self.texts.with_media(context, media_of(media))

    def _drawing(self, settings: Mapping[str, Any]) -> Drawing:
        return Drawing.asked(
            settings,
            tokenizer=self.texts.tokenizer,
            stop_ids=self.assistant.generation.stop_ids,
            max_new_tokens=self.max_gen_toks,
        )
