"""Fit the constants of stacks again, and say how far predictions are off: what `compute.stacks` holds was found by this.

    .venv/bin/python benchmarks/fit_stacks.py [stack ...]

Stacks: "nvidia" (Megatron-LM, DeepSpeed and FSDP of 2021 to 2024), "megatron-core", "mixtures" (of experts, on it), "maxtext"; default all. For each: every constant with its guess, the
stored value and what the fit finds; then the errors of a step by source and device, as fitted, and with each fold left out. A fold is a section of BLOOM's
notes, a row of Megatron-LM's tables, a fifth of llm-foundry's and MaxText's rows, and for megatron-core and mixtures a whole model. Needs NumPy and SciPy.
"""
import statistics
import sys

from fsdl_course.compute import validation
from fsdl_course.compute.stacks import STACKS

SETS = {
    "nvidia": lambda: validation.bloom_steps() + validation.megatron_steps() + validation.foundry_steps(),
    "megatron-core": validation.core_steps,
    "mixtures": validation.mixture_steps,
    "maxtext": validation.maxtext_steps,
}


def show(name: str) -> None:
    "Print the constants and errors of one set."
    steps = list(SETS[name]())
    constants = validation.constants_for(steps)
    fitted, stored = validation.refit(steps), validation.stored(constants)
    print(f"\n{name}: {len(steps)} steps")
    for constant, about in constants.items():
        print(f"  {constant:28} guess {about.guess:9.4g}  stored {stored[constant]:9.4g}  fitted {fitted[constant]:9.4g}  {about.means}")
    groups = validation.grouped(steps)
    now, left_out = validation.predicted(groups, STACKS), validation.cross_validated(steps)
    print(f"  {'':42} rows  median as stored  left out: median   mean  worst")
    for group in dict.fromkeys(step.group for step in steps):
        places = [place for place, step in enumerate(steps) if step.group == group]
        own, others = ([abs(found[place] / steps[place].seconds - 1) for place in places] for found in (now, left_out))
        print(f"  {group:42} {len(places):4} {statistics.median(own):17.1%} {statistics.median(others):17.1%} {statistics.fmean(others):6.1%} {max(others):6.1%}")


for chosen in sys.argv[1:] or SETS:
    show(chosen)
