"""Tensor parallelism: this course's `split_decoder` beside PyTorch's DTensor, on the same model, in the same two processes.

    python benchmarks/tensor.py [--pairs 40] [--sizes 3M-16 3M-4 13M-4] [--save]

A job is a model and the sequences of a batch, of 128 tokens each. DTensor takes part twice: with embedding, head and loss split as ours are (`loss_parallel`),
and with the layers split only, so that each rank computes all logits. Printed for each: the ratio of medians (DTensor's time over ours: above 1, ours
is faster), with a 95% bootstrap interval over the pairs.
"""
from collections.abc import Iterator
from contextlib import nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import MODELS, WARM_UP, Line, compare_with, paired
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, loss_parallel, parallelize_module

from fsdl_course.models import build
from fsdl_course.parallel.processes import launch
from fsdl_course.parallel.tensor import split_decoder
from fsdl_course.parallel.text import Text
from fsdl_course.spec import Transformer

JOBS = {"3M-16": ("3M", 16), "3M-4": ("3M", 4), "13M-4": ("13M", 4)}  # model, sequences
VARIANTS = {"vocabulary split as well": True, "layers only": False}


class Ours:
    "This rank's part of a decoder."

    def __init__(self, model: Transformer):
        torch.manual_seed(0)
        self.module = split_decoder(build(model))
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        "One training step; the loss."
        self.optimizer.zero_grad()
        loss = self.module.loss(inputs, targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()


class Library:
    "The same decoder, its layers, and with `vocabulary` its ends too, as DTensors."

    def __init__(self, model: Transformer, vocabulary: bool):
        torch.manual_seed(0)
        self.module, self.vocabulary = build(model), vocabulary
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        plan = {f"attention.{name}": ColwiseParallel() for name in ("query", "key", "value")}
        plan |= {"mlp.up": ColwiseParallel(), "attention.out": RowwiseParallel(), "mlp.down": RowwiseParallel()}
        for block in self.module.blocks:
            parallelize_module(block, mesh, plan)
        if vocabulary:
            ends = {"embedding": RowwiseParallel(input_layouts=Replicate()), "head": ColwiseParallel(output_layouts=Shard(-1), use_local_output=False)}
            parallelize_module(self.module, mesh, ends)
            self.module.head.weight = self.module.embedding.weight
        # A fused step (fused=True) cannot mix DTensors with plain tensors.
        groups = [[p for p in self.module.parameters() if isinstance(p, DTensor) == kind] for kind in (True, False)]
        self.optimizer = torch.optim.AdamW([{"params": group} for group in groups], lr=1e-3)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        "One training step; the loss."
        self.optimizer.zero_grad()
        with loss_parallel() if self.vocabulary else nullcontext():
            loss = F.cross_entropy(self.module(inputs).flatten(0, 1), targets.flatten())
            loss.backward()
        self.optimizer.step()
        return (loss.full_tensor() if isinstance(loss, DTensor) else loss).item()


def measure(model: Transformer, batch: int, vocabulary: bool, pairs: int) -> list[tuple[float, ...]]:
    "Seconds of (ours, DTensor's) for each pair of steps. Both must have come to the same loss."
    ours, library, text = Ours(model), Library(model, vocabulary), Text(batch, model.seq)
    data, losses = [text.batch(number) for number in range(pairs + WARM_UP)], {}

    def step(name: str, contender: Ours | Library, number: int) -> None:
        losses[name] = contender.step(*data[number])

    seconds = paired({name: lambda number, name=name, it=it: step(name, it, number) for name, it in (("ours", ours), ("DTensor", library))}, pairs)
    if abs(losses["ours"] - losses["DTensor"]) > 0.01:
        raise RuntimeError(f"not the same work: after {pairs + WARM_UP} steps the losses are {losses}")
    return seconds


def lines(jobs: list[str], pairs: int) -> Iterator[Line]:
    "A line for each job and variant."
    for job in jobs:
        size, batch = JOBS[job]
        for name, vocabulary in VARIANTS.items():
            yield Line.of(job, name, launch(measure, 2, MODELS[size], batch, vocabulary, pairs, timeout=300)[0])


if __name__ == "__main__":
    compare_with("DTensor", __doc__, "tensor", lines, JOBS)
