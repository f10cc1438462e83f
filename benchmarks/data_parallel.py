"""Data parallelism: this course's `DataParallel` beside PyTorch's DDP, on the same model, in the same two processes.

    python benchmarks/data_parallel.py [--pairs 40] [--sizes 3M 13M] [--save]

Steps of both are interleaved, in pairs whose order alternates, so that drift of a shared machine hits both alike. Printed for each variant:
the ratio of medians (DDP's time over ours: above 1, ours is faster), with a 95% bootstrap interval over the pairs.
"""
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import MODELS, WARM_UP, Line, batches, compare_with, paired

from fsdl_course.models import build
from fsdl_course.parallel.data import DataParallel
from fsdl_course.parallel.processes import launch
from fsdl_course.spec import Transformer

BATCHES = {"3M": 16, "13M": 8}  # sequences of the global batch
VARIANTS = {
    "flat, no overlap (the default)": {},
    "4 MiB buckets, overlapped": {"bucket_bytes": 4 * 2**20, "overlap": True},
}


class Ours:
    "One replica under `DataParallel`."

    def __init__(self, model: Transformer, options: dict):
        torch.manual_seed(0)
        self.module = build(model)
        self.replica = DataParallel(self.module, average=False, **options)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor, elements: int) -> None:
        "One training step."
        self.replica.zero_grad()
        loss = F.cross_entropy(self.module(inputs).flatten(0, 1), targets.flatten(), reduction="sum") / elements
        loss.backward()
        self.replica.synchronise()
        self.optimizer.step()


class Library:
    "One replica under PyTorch's DistributedDataParallel, with its default settings."

    def __init__(self, model: Transformer):
        torch.manual_seed(0)
        self.module = build(model)
        self.replica = torch.nn.parallel.DistributedDataParallel(self.module)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor, elements: int) -> None:
        "One training step."
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.replica(inputs).flatten(0, 1), targets.flatten(), reduction="sum") * dist.get_world_size() / elements
        loss.backward()
        self.optimizer.step()


def measure(model: Transformer, global_batch: int, options: dict, pairs: int) -> list[tuple[float, float]]:
    "Seconds of (ours, the library's) for each pair of steps."
    ours, library = Ours(model, options), Library(model)
    data, elements = batches(model, global_batch, pairs + WARM_UP), global_batch * model.seq
    return paired({"ours": lambda number: ours.step(*data[number], elements), "DDP": lambda number: library.step(*data[number], elements)}, pairs)


def lines(sizes: list[str], pairs: int) -> Iterator[Line]:
    "A line for each size and variant."
    for size in sizes:
        for name, settings in VARIANTS.items():
            yield Line.of(size, name, launch(measure, 2, MODELS[size], BATCHES[size], settings, pairs, timeout=300)[0])


if __name__ == "__main__":
    compare_with("DDP", __doc__, "data_parallel", lines, BATCHES)
