"""The job that every library here does: a small transformer, ten steps of AdamW in float64, on two ranks, over the same text."""
import functools
import os
import socket
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from fsdl_course.models import build
from fsdl_course.parallel.data import relative_difference
from fsdl_course.parallel.text import Text, share
from fsdl_course.spec import Transformer

# The two embedding tables are apart, so that pipelines can do the same job: none of the libraries' ones here ties tensors of two stages by itself
MODEL = Transformer(name="small", layers=2, hidden=32, heads=4, vocab=256, seq=32, tied=False)
RANKS, BATCH, STEPS = 2, 8, 10
ADAMW = {"lr": 1e-3, "eps": 1e-8}
# What counts as equal: see `relative_difference`
CLOSE = 1e-10


def make_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    "The model with the weights that every run starts from; the same numbers in every dtype, up to its rounding."
    torch.manual_seed(0)
    return build(MODEL, dtype=torch.float64).to(dtype)


class Embed(nn.Module):
    "The part before the first block."

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.embedding, self.positions = decoder.embedding, decoder.positions

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]


class Project(nn.Module):
    "The part behind the last block."

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.norm, self.head = decoder.norm, decoder.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(x))


def as_layers(decoder: nn.Module) -> list[nn.Module]:
    "The model as modules to be run one after the other, each on what the one before it gives: what pipelines cut into stages."
    return [Embed(decoder), *decoder.blocks.children(), Project(decoder)]


def make_optimizer(module: nn.Module) -> torch.optim.Optimizer:
    "PyTorch's own AdamW, as on one device."
    return torch.optim.AdamW(module.parameters(), **ADAMW)


def batches(rank: int = 0, world_size: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    "A rank's share of each step's inputs and targets, both (batch, seq)."
    text = Text(BATCH, MODEL.seq)
    for step in range(STEPS):
        inputs, targets = (share(part, rank, world_size).contiguous() for part in text.batch(step))
        yield inputs, targets


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    "Cross-entropy: all shares are of one size, so the mean of the ranks' means is the global batch's."
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def weights(module: nn.Module) -> dict[str, Tensor]:
    "A copy of each parameter."
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@functools.cache
def one_device(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    "The weights after the same steps on one device, with one thread: many, on a busy machine, wait for each other."
    torch.set_num_threads(1)
    module = make_model(dtype)
    optimizer = make_optimizer(module)
    for inputs, targets in batches():
        optimizer.zero_grad()
        mean_loss(module(inputs), targets).backward()
        optimizer.step()
    return weights(module)


def difference(ranks: list[dict[str, Tensor]], reference: dict[str, Tensor]) -> float:
    "How far the ranks are from one device: `relative_difference`. Raises AssertionError unless the ranks equal each other to the bit."
    for other in ranks[1:]:
        assert other.keys() == ranks[0].keys() and all(torch.equal(tensor, ranks[0][name]) for name, tensor in other.items()), "the ranks differ"
    return relative_difference(ranks[0], reference)


def meeting_port() -> str:
    "A free port that all ranks know: for libraries that meet a second time, by environment variables. `launch` has made the process group."
    chosen = [None]
    if dist.get_rank() == 0:
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            chosen = [door.getsockname()[1]]
    dist.broadcast_object_list(chosen, src=0)
    return str(chosen[0])


def set_environment() -> None:
    "What `torchrun` would set. `launch` sets RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE itself."
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=meeting_port())
