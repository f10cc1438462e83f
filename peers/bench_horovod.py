"""Data parallelism three ways, in the same two processes: Horovod, PyTorch's DDP, and this course's `DataParallel`.

    make bench-peers    or    .venv-peers/bin/python peers/bench_horovod.py [--pairs 40] [--save]

The lecture says of DDP and Horovod that "speedup seems to be the same". Both run over gloo here, each with its default settings, one thread a rank;
steps of all three are interleaved, in rounds whose order alternates. Horovod's background thread sleeps between its cycles (1 ms by default) while
the others take their steps. Printed for each two: the ratio of medians, with a 95% bootstrap interval over the rounds.
"""
import json
import statistics
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from horovod_ranks import horovod_ranks

from fsdl_course.models import build
from fsdl_course.parallel.data import DataParallel, largest_difference
from fsdl_course.parallel.processes import launch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from common import MODELS, RESULTS, WARM_UP, batches, interval, paired, parser  # noqa: E402

SIZE, BATCH, RANKS = "3M", 8, 2
NAMES = {"ours": "ours", "ddp": "DDP", "horovod": "Horovod"}


def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    "The model and its optimizer, the same for all."
    torch.manual_seed(0)
    module = build(MODELS[SIZE])
    return module, torch.optim.AdamW(module.parameters(), lr=1e-3)


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    "Mean over this rank's tokens."
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def ours(data: list):
    "A step of `DataParallel`, which sends all gradients as one after the backward pass."
    module, optimizer = fresh()
    replica = DataParallel(module)

    def step(number: int) -> None:
        inputs, targets = data[number]
        replica.zero_grad()
        loss_of(replica(inputs), targets).backward()
        replica.synchronise()
        optimizer.step()

    return module, step


def ddp(data: list):
    "A step of DistributedDataParallel, which sends buckets of 25 MiB as they fill."
    module, optimizer = fresh()
    replica = torch.nn.parallel.DistributedDataParallel(module)

    def step(number: int) -> None:
        inputs, targets = data[number]
        optimizer.zero_grad()
        loss_of(replica(inputs), targets).backward()
        optimizer.step()

    return module, step


def horovod(data: list, hvd):
    "A step of Horovod's DistributedOptimizer, which fuses what has become ready in each cycle of its own thread."
    module, optimizer = fresh()
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=module.named_parameters())
    hvd.broadcast_parameters(module.state_dict(), root_rank=0)

    def step(number: int) -> None:
        inputs, targets = data[number]
        optimizer.zero_grad()
        loss_of(module(inputs), targets).backward()
        optimizer.step()

    return module, step


def measure(pairs: int) -> tuple[list[tuple[float, ...]], float]:
    "Seconds of a step of (ours, DDP, Horovod) in each round, and the largest difference between their weights afterwards."
    data = batches(MODELS[SIZE], BATCH * dist.get_world_size(), pairs + WARM_UP)
    with horovod_ranks() as hvd:
        made = {"ours": ours(data), "ddp": ddp(data), "horovod": horovod(data, hvd)}
        seconds = paired({name: step for name, (_, step) in made.items()}, pairs)
    modules = [dict(module.named_parameters()) for module, _ in made.values()]
    apart = max(largest_difference(tensor, modules[0][name]) for other in modules[1:] for name, tensor in other.items())
    return seconds, apart


def main() -> None:
    options = parser(__doc__).parse_args()
    seconds, apart = launch(measure, RANKS, options.pairs, timeout=300, threads=1)[0]
    columns = dict(zip(NAMES, zip(*seconds)))
    print(f"{SIZE} parameters, {BATCH} x {MODELS[SIZE].seq} tokens a rank, {RANKS} ranks, {options.pairs} rounds; largest difference of weights: {apart:.1e}")
    print(", ".join(f"{NAMES[name]} {1e3 * statistics.median(column):.1f} ms" for name, column in columns.items()))
    lines = []
    for first, second in (("ddp", "horovod"), ("ours", "ddp"), ("ours", "horovod")):
        ratio, low, high = interval(list(zip(columns[first], columns[second])))
        print(f"{NAMES[second] + ' / ' + NAMES[first]:16} {ratio:.3f}  95% interval {low:.3f} to {high:.3f}")
        lines.append({"first": first, "second": second, "ratio": ratio, "low": low, "high": high})
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        libraries = {"ddp": f"DDP, torch {torch.__version__}", "horovod": f"Horovod, {version('horovod')}", "ours": "ours"}
        with (RESULTS / "horovod.jsonl").open("a") as file:
            for line in lines:
                first, second = line.pop("first"), line.pop("second")
                medians = {"ours_ms": 1e3 * statistics.median(columns[first]), "library_ms": 1e3 * statistics.median(columns[second])}
                said = {"benchmark": "horovod", "model": SIZE, "variant": f"{NAMES[second]} / {NAMES[first]}", **line, **medians, "library": libraries[second]}
                file.write(json.dumps({**said, "pairs": options.pairs, "date": date.today().isoformat()}) + "\n")


if __name__ == "__main__":
    main()
