"""BEST-RQ targets and loss of one recording of 60 s, 16 codebooks: time and memory.

Theirs is the published formula (SpeechBrain's quantizer, once for each codebook): the norm of the
difference between every frame and every vector of a codebook, masked frames x 8,192 x 16 numbers;
then the plain loss: cross-entropy of all logits at once. Both sides do masked frames alone, have
the same tables and heads, and must give the same codes and the same loss. The loss is three matrix
products, in which there is nothing to save: the wider the encoder, the nearer its ratio is to one.

Memory is the most that is in use beyond what lies there before and the heads' gradient, which both
sides need: of the GPU, or of this process.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.paired import Ratio, compare
from speech.best_rq import BestRqConfig, RandomProjectionQuantizer, draw_mask
from speech.multi_softmax import multi_softmax_loss

NUM_FRAMES = 1500
WIDTHS = {"base": 512, "1b": 1536}
INPUT_DIM = 320
AGAINST = "published formula, plain loss"


def run() -> list[Ratio]:
    """Codes alone, then codes, loss and gradients for encoders of two widths."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = BestRqConfig()
    quantizer = RandomProjectionQuantizer(INPUT_DIM, config).to(device)
    generator = torch.Generator().manual_seed(0)
    mask = draw_mask(
        torch.tensor([NUM_FRAMES]), config=config, frame_seconds=0.04, generator=generator
    )
    features = torch.randn(NUM_FRAMES, INPUT_DIM, generator=generator)[mask[0]].to(device)

    def published() -> Tensor:
        return published_codes(features, quantizer)

    def ours() -> Tensor:
        return quantizer(features)

    same = (ours() == published()).float().mean()
    assert same > 0.999, f"{float(same):.4f} of the codes agree"  # ties may round either way
    results = both("BEST-RQ codes", ours, published, against="published formula")
    for name, width in WIDTHS.items():
        hidden = torch.randn(len(features), width, generator=generator).to(device)
        heads = 0.02 * torch.randn(16, width, config.codebook_size, generator=generator)
        heads = heads.to(device)
        hidden.requires_grad_(True)
        heads.requires_grad_(True)

        def plain_step(hidden: Tensor = hidden, heads: Tensor = heads) -> Tensor:
            return differentiated(plain_loss(hidden, heads, published()), hidden, heads)

        def our_step(hidden: Tensor = hidden, heads: Tensor = heads) -> Tensor:
            chunk = config.chunk_frames
            loss, _ = multi_softmax_loss(hidden, heads, ours(), chunk_frames=chunk)
            return differentiated(loss, hidden, heads)

        torch.testing.assert_close(our_step(), plain_step(), rtol=1e-3, atol=0)
        shared = heads.numel() * heads.element_size()
        title = f"BEST-RQ codes and loss, width {width} ({name})"
        results += both(title, our_step, plain_step, against=AGAINST, shared=shared)
    return results


def published_codes(frames: Tensor, quantizer: RandomProjectionQuantizer) -> Tensor:
    """Nearest vectors [frames, books] by the norm of every difference."""
    frames = F.layer_norm(frames, frames.shape[-1:])
    codes = []
    for projection, codebook in zip(quantizer.projections, quantizer.codebooks, strict=True):
        vectors = F.normalize(frames @ projection, dim=-1)  # [frames, 16]
        distances = torch.linalg.vector_norm(codebook[:, None] - vectors, dim=-1)
        codes.append(distances.argmin(dim=0))
    return torch.stack(codes, dim=1)


def plain_loss(hidden: Tensor, heads: Tensor, codes: Tensor) -> Tensor:
    """Cross-entropy of all logits at once, summed."""
    logits = hidden @ heads  # [books, frames, classes]
    return F.cross_entropy(logits.flatten(0, 1), codes.T.flatten(), reduction="sum")


def differentiated(loss: Tensor, *inputs: Tensor) -> Tensor:
    """The loss, after its gradients were made and dropped."""
    torch.autograd.grad(loss, inputs)
    return loss.detach()


def both(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    against: str,
    shared: int = 0,
) -> list[Ratio]:
    """Time and memory of both sides; ``shared`` bytes are left out of the memory of each."""
    pairs = 7 if torch.cuda.is_available() else 2  # a pair takes a minute or two on a CPU
    time = compare(
        f"{name}, 60 s",
        ours=ours,
        theirs=theirs,
        against=against,
        target=5.0,
        pairs=pairs,
        warm_up=int(torch.cuda.is_available()),
    )
    used = [(peak_bytes(run) - shared) / 2**20 for run in (ours, theirs)]
    ratio = used[1] / used[0]
    memory = Ratio(
        name="the same, memory in MiB instead of ms",
        against=against,
        ours_ms=used[0],
        theirs_ms=used[1],
        low=ratio,
        median=ratio,
        high=ratio,
        target=5.0,
    )
    return [time, memory]


def peak_bytes(run: Callable[[], object]) -> int:
    """Most memory in use while ``run`` runs, beyond what was in use before."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # what is free no longer counts (glibc)
    Path("/proc/self/clear_refs").write_text("5")  # and the peak begins anew (Linux)
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Bytes that the process has, or at most had, in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")
