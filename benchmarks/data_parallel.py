"""Data parallelism: this course's `DataParallel` beside PyTorch's DDP, on the same model, in the same two processes.

    python benchmarks/data_parallel.py [--pairs 40] [--sizes 3M 13M]

Steps of both are interleaved, in pairs whose order alternates, so that drift of a shared machine hits both alike. Printed for each variant:
the ratio of medians (DDP's time over ours: above 1, ours is faster), with a 95% bootstrap interval over the pairs.
"""
import argparse
import random
import statistics
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F

from fsdl_course.models import build
from fsdl_course.parallel.data import DataParallel
from fsdl_course.parallel.processes import launch, progress
from fsdl_course.parallel.text import Text, share
from fsdl_course.spec import Transformer

SIZES = {
    "3M": (Transformer(name="3M", layers=4, hidden=256, heads=4, vocab=256, seq=128), 8),
    "13M": (Transformer(name="13M", layers=4, hidden=512, heads=8, vocab=256, seq=128), 4),
}
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


def measure(model: Transformer, batch: int, options: dict, pairs: int, warm_up: int = 4) -> list[tuple[float, float]]:
    "Seconds of (ours, the library's) for each pair of steps."
    contenders = {"ours": Ours(model, options), "library": Library(model)}
    text = Text(batch * dist.get_world_size(), model.seq)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for pair in range(pairs + warm_up):
        global_inputs, global_targets = text.batch(pair)
        inputs, targets = (share(part, dist.get_rank(), dist.get_world_size()).contiguous() for part in (global_inputs, global_targets))
        for name in sorted(contenders, reverse=bool(pair % 2)):
            dist.barrier()
            start = time.perf_counter()
            contenders[name].step(inputs, targets, global_targets.numel())
            dist.barrier()
            if pair >= warm_up:
                seconds[name].append(time.perf_counter() - start)
        progress(pair + 1, pairs + warm_up)
    return list(zip(seconds["ours"], seconds["library"]))


def interval(pairs: list[tuple[float, float]], draws: int = 2000) -> tuple[float, float, float]:
    "The library's median over ours, with the 2.5th and 97.5th percentile of its bootstrap."

    def ratio(some: list[tuple[float, float]]) -> float:
        return statistics.median(library for _, library in some) / statistics.median(ours for ours, _ in some)

    chance = random.Random(0)
    drawn = sorted(ratio(chance.choices(pairs, k=len(pairs))) for _ in range(draws))
    return ratio(pairs), drawn[int(0.025 * draws)], drawn[int(0.975 * draws)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40, help="pairs of steps for each line")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="which models")
    options = parser.parse_args()
    print(f"{'model':6} {'variant':32} {'ours ms':>8} {'DDP ms':>8} {'DDP / ours':>11}  95% interval")
    for size in options.sizes:
        model, batch = SIZES[size]
        for name, settings in VARIANTS.items():
            pairs = launch(measure, 2, model, batch, settings, options.pairs, timeout=300)[0]
            ratio, low, high = interval(pairs)
            ours, library = (1e3 * statistics.median(side) for side in zip(*pairs))
            print(f"{size:6} {name:32} {ours:8.1f} {library:8.1f} {ratio:11.3f}  {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
