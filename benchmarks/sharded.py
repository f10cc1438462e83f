"""Sharded data parallelism: this course's `Sharded` at ZeRO-3 beside PyTorch's FSDP2, on the same model, in the same two processes.

    python benchmarks/sharded.py [--pairs 40] [--sizes "3M, 16 x 128" ...] [--save]

Steps of both are interleaved, in pairs whose order alternates, so that drift of a shared machine hits both alike. Printed for each variant:
the ratio of medians (FSDP2's time over ours: above 1, ours is faster), with a 95% bootstrap interval over the pairs; and the memory that a rank
holds at the peak of a step: states before it, and the most by which its heap grows, as the C library counts. A size says the model and the global batch, in sequences x tokens.
"""
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import MODELS, WARM_UP, Line, batches, compare_with, paired, peak_memory
from torch.distributed.fsdp import fully_shard

from fsdl_course.models import build
from fsdl_course.parallel.processes import launch
from fsdl_course.parallel.sharded import Sharded
from fsdl_course.spec import Transformer

SIZES = {"3M, 16 x 128": ("3M", 16), "3M, 4 x 128": ("3M", 4), "13M, 4 x 128": ("13M", 4)}
VARIANTS = {"prefetch (the default)": {}, "no prefetch": {"prefetch": False}}


class Ours:
    "One rank under `Sharded`, at ZeRO-3."

    def __init__(self, model: Transformer, options: dict):
        torch.manual_seed(0)
        self.module = build(model)
        self.sharded = Sharded(self.module, zero=3, average=False, **options)
        self.optimizer = torch.optim.AdamW(self.sharded.trainable, lr=1e-3)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor, elements: int) -> None:
        "One training step."
        self.sharded.zero_grad()
        loss = F.cross_entropy(self.module(inputs).flatten(0, 1), targets.flatten(), reduction="sum") / elements
        loss.backward()
        self.sharded.synchronise()
        self.sharded.step(self.optimizer)


class Library:
    "One rank under PyTorch's FSDP2, each layer and the rest a unit, with its default settings."

    def __init__(self, model: Transformer):
        torch.manual_seed(0)
        self.module = build(model)
        for block in self.module.blocks:
            fully_shard(block)
        fully_shard(self.module)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor, elements: int) -> None:
        "One training step."
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.module(inputs).flatten(0, 1), targets.flatten(), reduction="sum") * dist.get_world_size() / elements
        loss.backward()
        self.optimizer.step()


def measure(model: Transformer, global_batch: int, options: dict, pairs: int) -> tuple[list[tuple[float, float]], int | None, int | None]:
    "Seconds of (ours, the library's) for each pair of steps, and the peak memory of each."
    ours, library = Ours(model, options), Library(model)
    data, elements = batches(model, global_batch, pairs + WARM_UP), global_batch * model.seq
    seconds = paired({"ours": lambda number: ours.step(*data[number], elements), "FSDP2": lambda number: library.step(*data[number], elements)}, pairs)
    return seconds, *(peak_memory(side.optimizer, lambda: side.step(*data[-1], elements)) for side in (ours, library))


def lines(sizes: list[str], pairs: int) -> Iterator[Line]:
    "A line for each size and variant; memory is that of the fullest rank."
    for size in sizes:
        name, global_batch = SIZES[size]
        for variant, options in VARIANTS.items():
            ranks = launch(measure, 2, MODELS[name], global_batch, options, pairs, timeout=300, echo=False)
            held = [None if None in side else max(side) for side in zip(*(rank[1:] for rank in ranks))]
            yield Line.of(size, variant, ranks[0][0], *held)


if __name__ == "__main__":
    compare_with("FSDP2", __doc__, "sharded", lines, SIZES)
