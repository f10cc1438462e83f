"""Estimators: what people install from the registry to foresee a training job, beside this course's `estimate`, in error and in speed.

    make bench-peers    or    .venv-peers/bin/python benchmarks/estimators.py [--pairs 40] [--save]

Error: on published measurements that travel in the package: BLOOM's jobs (peak memory and seconds of a step), torchtitan's (peak memory),
Megatron-LM's and llm-foundry's (seconds of a step). An estimator that knows nothing of a layout is given the share of one tensor, pipeline and
context rank, as its user would; what it refuses is counted as no answer.
Speed: one estimate of each for the same job, interleaved in rounds whose order alternates, over 60 layouts in turn; printed are medians and ratios
of medians, with a 95% bootstrap interval over the rounds. A million configurations are really estimated by ours, in arrays, and for the others
extrapolated from one, which is said.
Estimators that are not installed are left out, with a word. With --save the table is written to benchmarks/README.md and the figures to results/estimators.json.
"""
import csv
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import numpy as np
from common import RESULTS, interval, parser

from fsdl_course.compute import STACKS, estimate, peak_memory, step_seconds
from fsdl_course.ledger import many
from fsdl_course.models import build
from fsdl_course.spec import MODELS, Cluster, Layout, Transformer

GIB = 2**30
MARKS = ("<!-- estimators: written by estimators.py --save -->", "<!-- end of estimators -->")
README = Path(__file__).with_name("README.md")


# ---- the measured jobs ----


@dataclass(frozen=True)
class Job:
    "A job that somebody ran and published: bytes at the peak on a device, or seconds of a step, or both (else None)."

    source: str
    model: Transformer
    layout: Layout
    cluster: Cluster
    stack: str
    seq: int
    memory: float | None = None
    seconds: float | None = None


def rows(name: str) -> list[dict[str, str]]:
    "The lines of one of the package's files."
    return list(csv.DictReader((files("fsdl_course") / "data" / name).read_text(encoding="utf-8").splitlines()))


def bloom_jobs() -> Iterator[Job]:
    "Memory of the jobs of BLOOM's makers that ran, without duplicates and lines that they doubt."
    for row in rows("measured_bloom.csv"):
        if row["duplicate_of_earlier"] == "1" or row["suspect"] not in ("", "0") or row["mem_gb"] in ("", "OOM"):
            continue
        model = Transformer(
            layers=int(row["layers"] or row["layers_derived"]), hidden=int(row["h"]), heads=int(row["heads"] or row["heads_assumed"]),
            vocab=int(row["vocab"]), seq=int(row["seq"]), positions="alibi", embedding_norm=True,
        )
        dp, tp, pp, micro_batch, batch = (int(row[name]) for name in ("dp", "tp", "pp", "mbs", "gbs"))
        micro_batches = max(1, round(batch / dp / micro_batch))
        layout = Layout(dp=dp, tp=tp, pp=pp, zero=1, micro_batch=micro_batch, micro_batches=micro_batches, recompute="full", precision="mixed")
        yield Job("BLOOM", model, layout, Cluster("A100 80GB SXM", layout.world_size), "megatron-deepspeed", model.seq, float(row["mem_gb"]) * GIB)


def timed_jobs() -> Iterator[Job]:
    "Published seconds of a step, as `validate` reads them: BLOOM's, Megatron-LM's tables, llm-foundry's."
    from fsdl_course.compute.validation import bloom_steps, foundry_steps, megatron_steps

    for step in bloom_steps() + megatron_steps() + foundry_steps():
        yield Job(step.group, step.model, step.layout, step.cluster, step.stack, step.model.seq, None, step.seconds)


def torchtitan_jobs() -> Iterator[Job]:
    "torchtitan's jobs on H100s whose peak memory is published."
    names = {"Llama3.1-8B": "llama-3-8b", "Llama3.1-70B": "llama-3-70b"}
    for row in rows("measured_torchtitan.csv"):
        if not row["peak_mem_gib"]:
            continue
        layout = Layout(
            dp=int(row["fsdp"]), tp=int(row["tp"]), cp=int(row["cp"]), zero=3, micro_batch=int(row["local_batch"]), precision="autocast",
            recompute="full" if "full" in row["act_ckpt"] + row["extra"] else "selective", sequence_parallel=row["tp"] != "1",
        )
        model = MODELS[names.get(row["model"], "llama-2-7b")]
        stack = "torchtitan" if "torchtitan" in STACKS else "fsdp"
        yield Job("torchtitan", model, layout, Cluster("H100 SXM", layout.world_size), stack, int(row["seq"]), float(row["peak_mem_gib"]) * GIB)


def measured_jobs() -> list[Job]:
    "All of them."
    found = []
    for read in (bloom_jobs, torchtitan_jobs, timed_jobs):
        try:
            found += read()
        except (ImportError, FileNotFoundError) as error:
            print(f"{read.__name__}: left out, {error}")
    return found


# ---- the estimators: each a function from a job to (bytes or None, seconds or None) ----

Answer = tuple[float | None, float | None]


def ours(job: Job) -> Answer:
    "This course's, as it is shipped."
    found = estimate(job.model, job.layout, job.cluster, stack=job.stack, seq=job.seq if job.seq != job.model.seq else None)
    return found.memory.total, found.step


def length_of(job: Job) -> int:
    "Tokens of a sequence on one context rank."
    return job.seq // job.layout.cp


def sharers_of(job: Job) -> int:
    "Ranks over which ZeRO or FSDP spread the states: context ranks are among them."
    return job.layout.dp * job.layout.cp


def share_of(job: Job) -> float:
    "Parameters of one tensor and pipeline rank."
    return job.model.parameters / (job.layout.tp * job.layout.pp)


def make_deepspeed() -> Callable[[Job], Answer]:
    "Its two functions for stages 2 and 3, nothing offloaded; stage 1 has none, so stage 2's is asked. States alone."
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as stage3
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as stage2

    def answer(job: Job) -> Answer:
        nodes, each = -(-sharers_of(job) // 8), min(sharers_of(job), 8)
        if job.layout.zero < 3:
            return stage2(share_of(job), each, nodes, cpu_offload=False)[1], None
        largest = job.model.vocab * job.model.hidden / job.layout.tp
        return stage3(share_of(job), largest, each, nodes, cpu_offload=False, cpu_offload_params=False)[1], None

    return answer


def make_accelerate() -> Callable[[Job], Answer]:
    """`accelerate estimate-memory` for training with Adam in float16, without its download: a model is built without memory, and its sizes are added up.

    The number is divided by the ranks that share it.
    """
    from accelerate import init_empty_weights
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils import calculate_maximum_sizes

    def answer(job: Job) -> Answer:
        with init_empty_weights():
            module = build(job.model)
        total, _ = calculate_maximum_sizes(module)
        whole = max(estimate_training_usage(total, "float16").values())
        return whole / (job.layout.tp * job.layout.pp * (sharers_of(job) if job.layout.zero == 3 else 1)), None

    return answer


def make_llm_analysis() -> Callable[[Job], Answer]:
    "`LLMAnalysis(...).training(...)` with the efficiency of 0.5 that its source names for Megatron-LM."
    from llm_analysis.analysis import ActivationRecomputation, DSZeRO, LLMAnalysis
    from llm_analysis.config import DtypeConfig, ModelConfig, ParallelismConfig, get_gpu_config_by_name
    from llm_analysis.logger import logger

    logger.setLevel(logging.CRITICAL)
    recompute = {"none": ActivationRecomputation.NONE, "selective": ActivationRecomputation.SELECTIVE, "full": ActivationRecomputation.FULL}
    sheet = {"A100 80GB SXM": "a100-sxm-80gb", "A100 40GB SXM": "a100-sxm-40gb", "H100 SXM": "h100-sxm-80gb"}
    gpus = {name: get_gpu_config_by_name(config) for name, config in sheet.items()}

    def answer(job: Job) -> Answer:
        model, layout = job.model, job.layout
        config = ModelConfig(
            model.name, model.layers, model.heads, model.hidden, model.vocab, length_of(job), model.kv_heads,
            ffn_embed_dim=model.ffn, expansion_ratio=model.ffn / model.hidden,
        )
        parallel = ParallelismConfig(tp_size=layout.tp, pp_size=layout.pp, dp_size=sharers_of(job), sp_size=layout.tp if layout.sequence_parallel else 1)
        found = LLMAnalysis(config, gpus[job.cluster.device.name], DtypeConfig(), parallel, flops_efficiency=0.5).training(
            batch_size_per_gpu=layout.micro_batch, gradient_accumulation_steps=layout.micro_batches,
            global_batch_size=layout.global_batch * layout.cp, seq_len=length_of(job),
            activation_recomputation=recompute[layout.recompute], ds_zero=DSZeRO(layout.zero), flash_attn="fsdp" in job.stack or job.stack == "torchtitan",
            mlp_gated_linear_units=model.gated,
        )
        return found["(weight+op_state+grad+act)_memory_per_gpu"], found["latency_per_iter"]

    return answer


def make_ftuneai() -> Callable[[Job], Answer]:
    """Full fine-tuning, sharded by ZeRO or FSDP; its time has one MFU, and an efficiency that falls with devices.

    Hours are rounded to hundredths, so a thousand steps are asked for.
    """
    from ftuneai.core.memory import MemoryEstimator
    from ftuneai.core.models import FineTuneMethod, ModelSpec, ShardingStrategy, TrainingConfig
    from ftuneai.core.time import TimeEstimator
    from ftuneai.loader import load_gpus

    sheet = {name.replace(" ", "").upper(): gpu for name, gpu in load_gpus().items()}
    strategies = (ShardingStrategy.NONE, ShardingStrategy.ZERO_1, ShardingStrategy.ZERO_2, ShardingStrategy.FSDP)

    def gpu_of(job: Job):
        wanted = {"A100 80GB SXM": "A100-80GB", "A100 40GB SXM": "A100-40GB", "H100 SXM": "H100"}[job.cluster.device.name]
        return next(gpu for name, gpu in sheet.items() if wanted in name)

    def answer(job: Job) -> Answer:
        model, layout = job.model, job.layout
        spec = ModelSpec(
            model.name, round(share_of(job)), model.hidden, -(-model.layers // layout.pp), model.heads, model.kv_heads, model.ffn, model.vocab, length_of(job),
        )
        tokens = length_of(job) // (layout.tp if layout.sequence_parallel else 1)
        config = TrainingConfig(
            method=FineTuneMethod.FULL, batch_size=layout.micro_batch, seq_length=tokens, gradient_checkpointing=layout.recompute != "none",
            flash_attention="fsdp" in job.stack or job.stack == "torchtitan", sharding=strategies[layout.zero], num_gpus=sharers_of(job),
        )
        memory = MemoryEstimator(spec, config).estimate().total_gb * GIB
        spec.parameters = model.parameters
        sequences, timer = 1000 * layout.global_batch, TimeEstimator(spec, config)
        hours = timer.estimate(gpu_of(job), sequences, epochs=1, num_gpus=layout.world_size, avg_seq_length=job.seq).total_hours
        return memory, 3.6 * hours

    return answer


PEERS = {  # name: (package, maker, what it can answer)
    "DeepSpeed": ("deepspeed", make_deepspeed, "memory of states"),
    "accelerate": ("accelerate", make_accelerate, "memory of states"),
    "llm-analysis": ("llm-analysis", make_llm_analysis, "memory, seconds"),
    "ftuneai": ("ftuneai", make_ftuneai, "memory, seconds"),
}


def installed() -> dict[str, Callable[[Job], Answer]]:
    "Ours, and every peer that can be imported; a word for the others."
    found = {"ours": ours}
    for name, (package, make, _) in PEERS.items():
        try:
            found[name] = make()
            print(f"{name} {version(package)}")
        except (ImportError, PackageNotFoundError) as error:
            print(f"{name}: left out, {error}")
    try:
        from megatron.training.theoretical_memory_usage import compute_weight_and_optimizer_memory  # noqa: F401
    except ImportError:
        print("Megatron-LM's theoretical_memory_usage: left out, it is in megatron.training, which the package megatron-core does not have")
    return found


# ---- error ----


@dataclass(frozen=True)
class Error:
    "How far an estimator is from what was measured: absolute relative errors of `answered` of `rows` rows, and the mean with its sign."

    estimator: str
    source: str
    quantity: str
    rows: int
    answered: int
    median: float
    mean: float
    worst: float
    bias: float

    @classmethod
    def of(cls, estimator: str, source: str, quantity: str, rows: int, errors: list[float]) -> "Error":
        "From the errors, with their signs, of the rows that were answered."
        sizes = [abs(error) for error in errors]
        middle, mean = statistics.median(sizes), statistics.fmean(sizes)
        return cls(estimator, source, quantity, rows, len(errors), middle, mean, max(sizes), statistics.fmean(errors))


def errors_of(name: str, estimator: Callable[[Job], Answer], jobs: list[Job]) -> Iterator[Error]:
    "A line for each source and quantity that the estimator says anything about."
    for source in dict.fromkeys(job.source for job in jobs):
        for place, quantity in enumerate(("memory", "seconds")):
            asked = [job for job in jobs if job.source == source and getattr(job, quantity)]
            found = []
            for job in asked:
                try:
                    answer = estimator(job)[place]
                except Exception:  # noqa: BLE001  whatever a peer raises: it has no answer
                    if name == "ours":
                        raise
                    answer = None
                if answer is not None:
                    found.append(answer / getattr(job, quantity) - 1)
            if found:
                yield Error.of(name, source, quantity, len(asked), found)


def left_out_errors() -> Iterator[Error]:
    "Ours once more, by constants that were fitted without the rows published together with the one predicted; seconds need SciPy."
    from fsdl_course.compute.measured import bloom_rows, torchtitan_rows

    off = {}
    for source, found in (("BLOOM", bloom_rows()), ("torchtitan", torchtitan_rows())):
        off[source, "memory"] = [row.error for row in found if row.published]
    try:
        from fsdl_course.compute.validation import left_out_steps

        for step, seconds, _ in left_out_steps():
            if not step.stack == "maxtext":
                off.setdefault((step.group, "seconds"), []).append(seconds / step.seconds - 1)
    except ImportError as error:
        print(f"ours, seconds of rows left out: left out, {error}")
    for (source, quantity), errors in off.items():
        yield Error.of("ours, row's group left out", source, quantity, len(errors), errors)


# ---- speed ----


@dataclass(frozen=True)
class Speed:
    "Milliseconds of one estimate (median), the library's over ours with its 95% interval, and seconds of a million: measured in arrays, or extrapolated from one."

    estimator: str
    ms: float
    ratio: float
    low: float
    high: float
    million: float
    extrapolated: bool


def layouts_of_gpt3() -> list[Job]:
    "60 jobs of one model that differ in their layout, so that no answer can be remembered from the call before."
    model, cluster = MODELS["gpt-3-175b"], Cluster("A100 80GB SXM", 4096)
    shapes = [(dp, tp, pp, mb) for dp in (2, 4, 8, 16, 32) for tp in (2, 4, 8) for pp in (4, 8) for mb in (1, 2)]
    layouts = [
        Layout.of(global_batch=1536, dp=dp, tp=tp, pp=pp, zero=1, micro_batch=mb, recompute="full", precision="mixed") for dp, tp, pp, mb in shapes
    ]
    return [Job("GPT-3", model, layout, cluster, "megatron", model.seq) for layout in layouts]


def seconds_per_call(estimator: Callable[[Job], Answer], jobs: list[Job], calls: int) -> float:
    "Seconds of one estimate, over `calls` jobs in turn."
    asked = [jobs[i % len(jobs)] for i in range(calls)]
    start = time.perf_counter()
    for job in asked:
        estimator(job)
    return (time.perf_counter() - start) / calls


def million_of_ours(count: int = 1_000_000, chunk: int = 20_000) -> float:
    "Seconds for memory and time of `count` layouts of GPT-3, in arrays of `chunk`, made beforehand; the best of three."
    model, cluster, chance = MODELS["gpt-3-175b"], Cluster("A100 80GB SXM", 4096), np.random.default_rng(0)
    fields = {"dp": 2 ** chance.integers(0, 10, count), "tp": 2 ** chance.integers(0, 4, count), "pp": chance.choice([1, 2, 4, 8, 16], count),
              "micro_batch": 2 ** chance.integers(0, 4, count), "micro_batches": 2 ** chance.integers(0, 8, count), "zero": chance.integers(0, 4, count)}
    pieces = [many(**{name: values[i:i + chunk] for name, values in fields.items()}, recompute="full", precision="mixed") for i in range(0, count, chunk)]
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        for piece in pieces:
            memory, seconds = peak_memory(model, piece, "megatron").total, step_seconds(model, piece, cluster, "megatron").total
            assert np.isfinite(memory).all() and np.isfinite(seconds).all() and len(memory) == len(seconds) == len(piece.dp)
        best = min(best, time.perf_counter() - start)
    return best


def speeds_of(estimators: dict[str, Callable[[Job], Answer]], rounds: int) -> list[Speed]:
    "All estimators in turn, in each of `rounds` rounds, each for about 5 ms or one call."
    jobs = layouts_of_gpt3()
    calls = {}
    for name, estimator in estimators.items():
        seconds_per_call(estimator, jobs, 2)
        calls[name] = max(1, min(600, round(5e-3 / seconds_per_call(estimator, jobs, 1))))
    taken = {name: [] for name in estimators}
    for number in range(rounds):
        for name in list(estimators)[:: -1 if number % 2 else 1]:
            taken[name].append(seconds_per_call(estimators[name], jobs[number % 7:], calls[name]))
    found = []
    for name, seconds in taken.items():
        ratio, low, high = interval(list(zip(taken["ours"], seconds)))
        median = statistics.median(seconds)
        found.append(Speed(name, 1e3 * median, ratio, low, high, million_of_ours() if name == "ours" else 1e6 * median, name != "ours"))
    return found


# ---- the table ----


def plain(number: float) -> str:
    "Two or three digits, never in powers of ten."
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def duration(seconds: float) -> str:
    "For people: 0.41 s, 7.5 min, 39 h, 17 days."
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (math.inf, 86_400, "days")):
        if seconds < limit:
            return f"{plain(float(f'{seconds / size:.2g}'))} {unit}"
    raise ValueError(f"seconds must be finite, not {seconds}")


def speed_lines(speeds: list[Speed]) -> list[str]:
    "Markdown."
    lines = ["| estimator | answers | one estimate, ms | over ours, 95% interval | a million |", "|---|---|---|---|---|"]
    for s in speeds:
        what = "memory, seconds, bytes, money" if s.estimator == "ours" else PEERS[s.estimator][2]
        ratio = "1" if s.estimator == "ours" else f"{plain(s.ratio)} ({plain(s.low)} to {plain(s.high)})"
        million = f"{duration(s.million)}, extrapolated" if s.extrapolated else f"{duration(s.million)}, in arrays"
        lines.append(f"| {s.estimator} | {what} | {plain(s.ms)} | {ratio} | {million} |")
    return lines


def error_lines(errors: list[Error]) -> list[str]:
    "Markdown, source by source."
    lines = ["| measured | estimator | rows answered | median | mean | worst | mean with sign |", "|---|---|---|---|---|---|---|"]
    order = {key: number for number, key in enumerate(dict.fromkeys((e.source, e.quantity) for e in errors))}
    for e in sorted(errors, key=lambda e: (order[e.source, e.quantity], not e.estimator.startswith("ours"))):
        lines.append(f"| {e.source}, {e.quantity} | {e.estimator} | {e.answered} of {e.rows} | {e.median:.1%} | {e.mean:.1%} | {e.worst:.0%} | {e.bias:+.0%} |")
    return lines


def write(errors: list[Error], speeds: list[Speed], versions: dict[str, str], rounds: int) -> None:
    "Keep the figures, and put the tables into README.md, between the marks, or at its end."
    RESULTS.mkdir(exist_ok=True)
    kept = {"date": date.today().isoformat(), "rounds": rounds, "versions": versions, "errors": [asdict(e) for e in errors], "speeds": [asdict(s) for s in speeds]}
    (RESULTS / "estimators.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    section = "\n".join([
        MARKS[0], "## `estimators.py`: what people install to foresee a job (`make bench-peers`)", "",
        f"{named}; Python, one process; {rounds} interleaved rounds over 60 layouts of GPT-3; {date.today().isoformat()}.",
        "A million are estimated for real by ours, in NumPy arrays; the others have no arrays, so theirs is a million times one.", "",
        *speed_lines(speeds), "",
        "Error against published measurements, the size of predicted / measured - 1. DeepSpeed and accelerate count states only and know no tensor or pipeline ranks:",
        "they were given one rank's share. \"Row's group left out\": ours with constants that were fitted without the rows published together with the one predicted;",
        "the line `ours` above it is what is shipped, whose few constants were fitted on rows like these.", "",
        *error_lines(errors), MARKS[1],
    ])
    text = README.read_text(encoding="utf-8")
    if MARKS[0] in text:
        before, rest = text.split(MARKS[0])
        text = before + section + rest.split(MARKS[1])[1]
    else:
        text = text.rstrip("\n") + "\n\n" + section + "\n"
    README.write_text(text, encoding="utf-8")


def main() -> None:
    options = parser(__doc__).parse_args()
    estimators, jobs = installed(), measured_jobs()
    if options.save and len(estimators) <= len(PEERS):
        print("not saved: some estimators are left out; make peers installs them, and make bench-peers runs this with them")
        options.save = False
    errors = [error for name, estimator in estimators.items() for error in errors_of(name, estimator, jobs)]
    errors += left_out_errors()
    speeds = speeds_of(estimators, options.pairs)
    print("\n".join([*speed_lines(speeds), "", *error_lines(errors)]))
    if options.save:
        write(errors, speeds, {name: version(PEERS[name][0]) for name in estimators if name in PEERS}, options.pairs)


if __name__ == "__main__":
    main()
