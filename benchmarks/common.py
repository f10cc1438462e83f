"""What all benchmarks of this folder share: models, steps in interleaved pairs, a ratio with its interval, a table, and a file of results.

Steps of ours and of the library's are interleaved, in pairs whose order alternates, so that drift of a shared machine hits both alike.
"""
import argparse
import ctypes
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
import torch.distributed as dist

from fsdl_course.parallel.processes import progress
from fsdl_course.parallel.text import Text, share
from fsdl_course.spec import Transformer

MODELS = {
    "3M": Transformer(name="3M", layers=4, hidden=256, heads=4, vocab=256, seq=128),
    "13M": Transformer(name="13M", layers=4, hidden=512, heads=8, vocab=256, seq=128),
}
RESULTS = Path(__file__).resolve().parent / "results"
WARM_UP = 4


def batches(model: Transformer, global_batch: int, count: int, group: dist.ProcessGroup | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    "This rank's rows of the first `count` global batches, made before anything is timed: (inputs, targets) of shape (rows, model.seq)."
    text, rank, world_size = Text(global_batch, model.seq), dist.get_rank(group), dist.get_world_size(group)
    return [tuple(share(part, rank, world_size).contiguous() for part in text.batch(number)) for number in range(count)]


def paired(contenders: dict[str, Callable[[int], object]], pairs: int, warm_up: int = WARM_UP) -> list[tuple[float, ...]]:
    """Seconds of one step of each contender, in the order of `contenders`, for each of `pairs` rounds; to be called in every rank.

    A contender is called with the round's number, from 0 to pairs + warm_up - 1. All ranks wait for each other before and after it. Every other
    round goes backwards through the contenders, and the first `warm_up` rounds are not kept.
    """
    seconds = []
    for number in range(pairs + warm_up):
        took = {}
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            dist.barrier()
            start = time.perf_counter()
            contenders[name](number)
            dist.barrier()
            took[name] = time.perf_counter() - start
        seconds.append(tuple(took[name] for name in contenders))
        progress(number + 1, pairs + warm_up)
    return seconds[warm_up:]


def heap() -> int | None:
    "Bytes that this process has asked the C library for and not given back; None where the library does not tell (glibc's `mallinfo2` does)."
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    info = type("Mallinfo", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in names]})
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    ask.restype = info
    told = ask()
    return told.uordblks + told.hblkhd


def growth_of(step: Callable[[], object], repeats: int = 3) -> int | None:
    "The most bytes by which the process's heap grows during `step()`, looked at every half millisecond: all threads, all libraries. None as for `heap`."
    if heap() is None:
        return None
    peak = 0

    def look(before: int, done: threading.Event) -> None:
        nonlocal peak
        while not done.wait(0.0005):
            peak = max(peak, heap() - before)

    for _ in range(repeats):
        done = threading.Event()
        looking = threading.Thread(target=look, args=(heap(), done))
        looking.start()
        step()
        done.set()
        looking.join()
    return peak


def local_bytes(tensors: Iterable[torch.Tensor | None]) -> int:
    "Bytes of the distinct storages of tensors, or of this rank's parts of them; scalars such as step counters are left out."
    parts = [getattr(tensor, "_local_tensor", tensor) for tensor in tensors if tensor is not None and tensor.ndim]
    return sum({part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}.values())


def peak_memory(optimizer: torch.optim.Optimizer, step: Callable[[], object]) -> int | None:
    "Bytes of the states that `optimizer` knows, and on top of them the most by which the heap grows during `step()`. None as for `heap`."
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = local_bytes([*parameters, *(p.grad for p in parameters), *(t for some in optimizer.state.values() for t in some.values())])
    growth = growth_of(step)
    return None if growth is None else held + growth


def interval(pairs: Sequence[tuple[float, float]], draws: int = 2000) -> tuple[float, float, float]:
    "The second's median over the first's (the library's over ours), with the 2.5th and 97.5th percentile of its bootstrap over the pairs."

    def ratio(some: Sequence[tuple[float, float]]) -> float:
        return statistics.median(second for _, second in some) / statistics.median(first for first, _ in some)

    chance = random.Random(0)
    drawn = sorted(ratio(chance.choices(pairs, k=len(pairs))) for _ in range(draws))
    return ratio(pairs), drawn[int(0.025 * draws)], drawn[int(0.975 * draws)]


@dataclass(frozen=True)
class Line:
    "One line of a benchmark's table: medians in milliseconds, ratio = library / ours with its 95% interval; bytes held at the peak, where they were measured."

    model: str
    variant: str
    ours_ms: float
    library_ms: float
    ratio: float
    low: float
    high: float
    pairs: int
    ours_memory: int | None = None
    library_memory: int | None = None

    @classmethod
    def of(cls, model: str, variant: str, pairs: Sequence[tuple[float, float]], ours_memory: int | None = None, library_memory: int | None = None) -> "Line":
        "A line from the (ours, library) seconds of `paired`."
        ours, library = (1e3 * statistics.median(side) for side in zip(*pairs))
        return cls(model, variant, ours, library, *interval(pairs), len(pairs), ours_memory, library_memory)


def print_table(lines: Iterable[Line], library: str) -> list[Line]:
    "Print lines as they come, above 1: ours is faster; and return them."
    print(f"{'model':14} {'variant':32} {'ours ms':>8} {library + ' ms':>10} {library + ' / ours':>14}  {'95% interval':16} {'ours MiB':>9} {library + ' MiB':>10}")
    done = []
    for line in lines:
        ours, theirs = ("-" if held is None else f"{held / 2**20:.2f}" for held in (line.ours_memory, line.library_memory))
        span = f"{line.low:.3f} to {line.high:.3f}"
        print(f"{line.model:14} {line.variant:32} {line.ours_ms:8.1f} {line.library_ms:10.1f} {line.ratio:14.3f}  {span:16} {ours:>9} {theirs:>10}", flush=True)
        done.append(line)
    return done


def parser(doc: str, pairs: int = 40) -> argparse.ArgumentParser:
    "Arguments that every benchmark takes; `doc`: what it is."
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--pairs", type=int, default=pairs, help=f"pairs of steps for each line (default {pairs})")
    made.add_argument("--save", action="store_true", help="append the lines to benchmarks/results/, as JSON")
    return made


def save(benchmark: str, library: str, lines: Iterable[Line]) -> Path:
    "Append `lines` to results/<benchmark>.jsonl, one JSON object a line."
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{benchmark}.jsonl"
    more = {"library": f"{library}, torch {torch.__version__}", "date": date.today().isoformat()}
    with path.open("a") as file:
        for line in lines:
            file.write(json.dumps({"benchmark": benchmark, **asdict(line), **more}) + "\n")
    return path


def compare_with(library: str, doc: str, benchmark: str, lines: Callable[[list[str], int], Iterable[Line]], sizes: Iterable[str], full_name: str = "") -> None:
    """A benchmark's command: time `sizes` against `library`, print the table, and keep it if asked.

    lines: gives the lines for the names of sizes that were asked for and a number of pairs. full_name: what results call the library.
    """
    arguments = parser(doc)
    arguments.add_argument("--sizes", nargs="+", choices=list(sizes), default=list(sizes), help="which models and batches")
    options = arguments.parse_args()
    table = print_table(lines(options.sizes, options.pairs), library)
    if options.save:
        save(benchmark, full_name or library, table)
