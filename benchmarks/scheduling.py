"""How long it takes to simulate 10,000 jobs on 64 nodes, for each policy and three loads: seconds of CPU, the least of three runs.

Where nodes are hardly ever free and hundreds of jobs wait, conservative backfilling plans them all at every event; the others only look at the first.
"""
import argparse
import json
import time
from datetime import date
from pathlib import Path

from fsdl_course.resources.queue import Multifactor, Policy, random_jobs, simulate
from fsdl_course.spec import text_table
from fsdl_course.units import seconds_text

RESULTS = Path(__file__).resolve().parent / "results"
RULES = {"fifo": "fifo", "easy": "easy", "conservative": "conservative", "multifactor": "multifactor", "multifactor, conservative": Policy(Multifactor(), "conservative")}


def first_that_fits(queue, free, now):
    "A rule such as a learner writes."
    return next((job for job in queue if job.nodes <= free), None)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--save", action="store_true", help="append the seconds to results/")
    asked = options.parse_args()
    rows = []
    for load in (0.8, 0.95, 1.1):
        jobs = random_jobs(10_000, 64, load=load)
        for name, rule in {**RULES, "a function": first_that_fits}.items():
            seconds = []
            for _ in range(3 if load < 1 else 1):
                start = time.process_time()
                found = simulate(jobs, 64, rule)
                seconds.append(time.process_time() - start)
            rows.append({"load": load, "policy": name, "seconds": round(min(seconds), 2), "mean_wait": round(found.waiting)})
    print(text_table([("load", "policy", "seconds", "mean wait"), *((str(one["load"]), one["policy"], str(one["seconds"]), seconds_text(one["mean_wait"])) for one in rows)], left=(0, 1)))
    if asked.save:
        with open(RESULTS / "scheduling.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"date": date.today().isoformat(), "jobs": 10_000, "nodes": 64, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
