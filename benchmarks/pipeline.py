"""Pipelining: this course's `Pipeline` beside torch.distributed.pipelining, both with 1F1B, on the same two stages of a model, in the same two processes.

    python benchmarks/pipeline.py [--pairs 40] [--sizes "3M, 8 x 2 x 128" ...] [--save]

Steps of both are interleaved, in pairs whose order alternates, so that drift of a shared machine hits both alike. Printed for each size: the ratio
of medians (the library's time over ours: above 1, ours is faster), with a 95% bootstrap interval over the pairs; and the memory that a rank holds at
the peak of a step: states before it, and the most that the process allocates on top, by the C library's own count.
A size says the model, the micro-batches, and a micro-batch's sequences x tokens.
"""
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import MODELS, WARM_UP, Line, compare_with, paired, peak_memory
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from fsdl_course.models import build
from fsdl_course.parallel.pipeline import Pipeline, cut
from fsdl_course.parallel.processes import launch
from fsdl_course.parallel.text import Text
from fsdl_course.schedules import one_f_one_b
from fsdl_course.spec import Transformer

ROWS, STAGES = 2, 2
SIZES = {
    "3M, 8 x 2 x 128": ("3M", 8),
    "3M, 4 x 2 x 128": ("3M", 4),
    "13M, 8 x 2 x 128": ("13M", 8),
}


class Contender:
    "One stage of the model with an optimizer of its own, and the batches on which it trains."

    def __init__(self, model: Transformer, micro_batches: int, data: list[tuple[torch.Tensor, torch.Tensor]]):
        torch.manual_seed(0)
        self.rank, self.data, self.elements = dist.get_rank(), data, data[0][1].numel()
        [self.part] = cut(build(model), STAGES, [self.rank]).values()
        self.optimizer = torch.optim.AdamW(self.part.parameters(), lr=1e-3)
        self.prepare(model, micro_batches)

    def prepare(self, model: Transformer, micro_batches: int) -> None:
        "Make what goes through the schedule."
        raise NotImplementedError

    def gradients(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        "Forward and backward passes of a global batch."
        raise NotImplementedError

    def step(self, number: int) -> None:
        "One training step."
        self.optimizer.zero_grad()
        self.gradients(*self.data[number])
        self.optimizer.step()

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        "A micro-batch's part of the global mean."
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum") / self.elements


class Ours(Contender):
    "A stage under `Pipeline`."

    def prepare(self, model: Transformer, micro_batches: int) -> None:
        self.pipeline = Pipeline(
            one_f_one_b(STAGES, micro_batches), {self.rank: self.part}, None, dtype=torch.float32,
            loss=lambda part, outputs, targets: self.loss(outputs, targets), shape=lambda inputs: (*inputs.shape, model.hidden),
        )

    def gradients(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.pipeline.run(list(zip(inputs.split(ROWS), targets.split(ROWS))))


class Library(Contender):
    "A stage under torch.distributed.pipelining."

    def prepare(self, model: Transformer, micro_batches: int) -> None:
        stage = PipelineStage(self.part, self.rank, STAGES, torch.device("cpu"))
        self.schedule = Schedule1F1B(stage, micro_batches, loss_fn=self.loss, scale_grads=False)

    def gradients(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        if self.rank == 0:
            self.schedule.step(inputs, return_outputs=False)
        else:
            self.schedule.step(target=targets, losses=[], return_outputs=False)


def measure(model: Transformer, micro_batches: int, pairs: int) -> tuple[list[tuple[float, float]], int | None, int | None]:
    "Seconds of (ours, the library's) for each pair of steps, and the peak memory of each."
    text = Text(ROWS * micro_batches, model.seq)
    data = [tuple(part.contiguous() for part in text.batch(number)) for number in range(pairs + WARM_UP)]
    contenders = {"ours": Ours(model, micro_batches, data), "torch": Library(model, micro_batches, data)}
    seconds = paired({name: contender.step for name, contender in contenders.items()}, pairs)
    memory = [peak_memory(side.optimizer, lambda side=side: side.step(0)) for side in contenders.values()]
    contenders["ours"].pipeline.close()
    return seconds, *memory


def lines(sizes: list[str], pairs: int) -> Iterator[Line]:
    "A line for each size; memory is that of the fuller rank."
    for size in sizes:
        name, micro_batches = SIZES[size]
        ranks = launch(measure, STAGES, MODELS[name], micro_batches, pairs, timeout=300, echo=False)
        memory = [None if None in side else max(side) for side in zip(*(rank[1:] for rank in ranks))]
        yield Line.of(size, "1f1b, 2 stages", ranks[0][0], *memory)


if __name__ == "__main__":
    compare_with("torch", __doc__, "pipeline", lines, SIZES, "torch.distributed.pipelining")
