"""Greedy decoding on CPU, same weights, against transformers' generate.

At a tiny size what counts is the work done around the matrices; at half a billion weights reading
them is all, so both sides should come out alike. The type is the one that this machine decodes the
larger core faster in. First token with pictures: everything from tiles and tokens to the first
logits; transformers runs as released (padded to four tiles), ours as trained here (real tiles).
"""

import tempfile
from pathlib import Path

import torch
import transformers

from benchmarks.paired import Ratio, compare
from benchmarks.released_models import MLLAMA_VOCABULARY, save_llama, save_mllama
from benchmarks.training_step import ARRANGEMENTS, TILE, packed, their_inputs
from language.checkpoint import load_llama
from language.generation import GenerationConfig, LlamaSession, generate
from language.model import Llama
from multimodal.batch import Batch, Images
from multimodal.checkpoint import load_model
from multimodal.session import MultimodalSession

PROMPT = 64
TINY = {
    "vocab_size": 1024,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
HALF_BILLION = {
    "vocab_size": 32_000,
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
}
AGAINST = f"transformers {transformers.__version__} generate"


def run() -> list[Ratio]:
    """Tiny core, a core of half a billion weights, first token with pictures."""
    return [
        decode("decoding, tiny core", TINY, num_new=128, target=1.5, dtype=torch.float32),
        decode(
            "decoding, 0.5B core",
            HALF_BILLION,
            num_new=16,
            target=1.0,
            dtype=faster_type(),
            pairs=5,
        ),
        first_token([1, 1, 1, 1], name="first token, one-tile pictures"),
        first_token([1, 2, 3, 4], name="first token, 1 to 4 tiles"),
    ]


def faster_type() -> torch.dtype:
    """The type in which this machine multiplies one vector with a large matrix faster."""
    ratios = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight, vector = torch.randn(8192, 1536, dtype=dtype), torch.randn(1, 1536, dtype=dtype)
        ratios[dtype] = compare(
            "matrix",
            ours=lambda w=weight, v=vector: [v @ w.T for _ in range(50)],
            theirs=lambda: None,
            against="",
            target=0,
        ).ours_ms
    return min(ratios, key=lambda dtype: ratios[dtype])


def decode(
    name: str,
    sizes: dict[str, int],
    *,
    num_new: int,
    target: float,
    dtype: torch.dtype,
    pairs: int = 7,
) -> Ratio:
    """``num_new`` greedy tokens after a prompt of PROMPT; the answers must agree."""
    with tempfile.TemporaryDirectory() as folder:
        save_llama(Path(folder), dtype=dtype, **sizes)
        core = load_llama(Path(folder))
        theirs = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    tokens = torch.randint(0, sizes["vocab_size"], (1, PROMPT))
    answers: dict[str, list[int]] = {}

    def generate_ours() -> None:
        answers["ours"] = our_answer(core, tokens, num_new=num_new)

    def generate_theirs() -> None:
        out = theirs.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=num_new,
            do_sample=False,
            pad_token_id=0,
        )
        answers["theirs"] = out[0, PROMPT:].tolist()

    label = str(dtype).removeprefix("torch.")
    result = compare(
        f"{name}, {num_new} tokens, {label}",
        ours=generate_ours,
        theirs=generate_theirs,
        against=AGAINST,
        target=target,
        pairs=pairs,
    )
    if dtype == torch.float32 and answers["ours"] != answers["theirs"]:
        raise AssertionError("the two sides said different things: the comparison is void")
    return result


def our_answer(core: Llama, tokens: torch.Tensor, *, num_new: int) -> list[int]:
    """Prefill and greedy decoding of one row."""
    session = LlamaSession(core, batch_size=1, max_length=tokens.shape[1] + num_new)
    config = GenerationConfig(max_new_tokens=num_new, max_loop=0)
    steps = generate(session, session.append(tokens), config)
    return [token for (token,) in steps if token is not None]


def first_token(tiles: list[int], *, name: str) -> Ratio:
    """From tiles and tokens of ``len(tiles)`` rows to the logits of the first new token."""
    with tempfile.TemporaryDirectory() as folder:
        save_mllama(Path(folder), tile_size=TILE)
        ours = packed(load_model(Path(folder))).eval()
        theirs = transformers.MllamaForConditionalGeneration.from_pretrained(folder).eval()
    torch.manual_seed(0)
    tokens = torch.randint(3, MLLAMA_VOCABULARY, (len(tiles), PROMPT))
    tokens[:, 0] = MLLAMA_VOCABULARY
    batch = Batch(
        tokens=tokens,
        lengths=torch.full((len(tiles),), PROMPT),
        images=Images(
            tiles=torch.randn(sum(tiles), 3, TILE, TILE),
            arrangements=torch.tensor([ARRANGEMENTS[count] for count in tiles]),
            rows=torch.arange(len(tiles)),
        ),
        visible=torch.ones(len(tiles), PROMPT, 1, dtype=torch.bool),
    )
    inputs = their_inputs(tokens, tiles)

    def read_ours() -> None:
        MultimodalSession(ours, batch_size=len(tiles), max_length=PROMPT + 1).prefill(batch)

    @torch.no_grad()
    def read_theirs() -> None:
        theirs(**inputs, use_cache=True, logits_to_keep=1)

    return compare(
        name,
        ours=read_ours,
        theirs=read_theirs,
        against=f"transformers {transformers.__version__} Mllama",
        target=1.5,
    )
