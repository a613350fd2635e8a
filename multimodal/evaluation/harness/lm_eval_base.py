"""What lm-eval asks of a model beside its three verbs: its name, tokens, dialogs and processes."""

from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from torch import Tensor

from language.errors import InputError
from multimodal.assistant import load
from multimodal.evaluation.harness.processes import Processes
from multimodal.evaluation.harness.prompt import Texts
from multimodal.evaluation.launchers import own_device

AUTO_BATCH_SIZE = 64
"""What "auto" begins with, before it is halved to what fits into memory."""


class Loaded(TemplateLM):
    """A model that is loaded, and how texts become its tokens."""

    MULTIMODAL = True

    def __init__(
        self,
        pretrained: str = "tiny",
        *,
        core: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str = 16,
        max_batch_size: int | str | None = None,
        max_length: int | str | None = None,
        max_gen_toks: int | str = 256,
        add_bos_token: bool = True,
    ) -> None:
        """Load the model; numbers may be written out, as on a command line.

        Args:
            pretrained: what `multimodal.assistant.load` takes.
            core: the core that belongs to an adapter.
            device: a GPU by default, if there is one.
            dtype: of the weights.
            batch_size: rows side by side; "auto" takes what fits into memory.
            max_batch_size: most that "auto" tries.
            max_length: most tokens of a row; by default what the model has positions for.
            max_gen_toks: most tokens of an answer where the task does not say.
            add_bos_token: whether texts are given the token that begins them.

        Raises:
            InputError: what is wrong with which file or argument.
        """
        super().__init__()
        self.processes = Processes()
        self._rank, self._world_size = self.processes.rank, self.processes.size
        self.assistant = load(pretrained, core=core, device=own_device(device), dtype=dtype)
        positions = self.assistant.model.config.language.max_positions
        self.pretrained = pretrained
        self.max_length = int(max_length or positions)
        if not 0 < self.max_length <= positions:
            raise InputError("max_length", f"{self.max_length} of a model of {positions} positions")
        automatic = str(batch_size).startswith("auto")
        self.batch_size = int(max_batch_size or AUTO_BATCH_SIZE) if automatic else int(batch_size)
        self.max_gen_toks = int(max_gen_toks)
        self.texts = Texts(self.assistant.processor.tokenizer, add_bos=add_bos_token)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.assistant.model.language.embedding.weight.device

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.texts.tokenizer.special_tokens["<|end_of_text|>"]

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without context."""
        return self.texts.tokenizer.bos_id

    @property
    def tokenizer_name(self) -> str:
        """Tells the prompts of one model from those of another in lm-eval's cache."""
        return self.pretrained.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Tokens of a text; see `Texts.encode`."""
        return self.texts.encode(string, add_bos=add_special_tokens)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A dialog as one text."""
        date = self.assistant.processor.date
        return self.texts.dialog(chat_history, add_header=add_generation_prompt, date=date)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """What a dialog looks like, for the record: the format is fixed, and no program."""
        if not chat_template:
            return None
        return self.apply_chat_template([{"role": "user", "content": "{content}"}])

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Every process's numbers, on all."""
        return self.processes.all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Every process's object, on process ``dst``."""
        return self.processes.gather(obj, to=dst)

    def barrier(self) -> None:
        """Wait for the other processes."""
        self.processes.wait()
