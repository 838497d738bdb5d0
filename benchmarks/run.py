"""Run the benchmarks: `python benchmarks/run.py [--only NAME ...] [--threads 1] [--rounds 15] [--json FILE]`.

Every workload is run by vitrify and by each peer that is installed (`pip install ".[peers]"`), in turns, in
one process; the table gives medians, half the interquartile range, and each median over ours.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="vitrify beside its peers, as ratios within one run")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="TEXT", help="workloads whose name contains TEXT"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads for every contestant (default 1)")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each contestant (default 15)")
    parser.add_argument(
        "--peers", nargs="*", help="contestants whose name contains one of these (default all)"
    )
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    return parser.parse_args()


def pin(threads: int) -> None:
    """Limit this process, and libraries that have not started yet, to as many cores as threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VITRIFY_NUM_THREADS"):
        os.environ[name] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-threads:])


def main() -> None:
    options = arguments()
    pin(options.threads)
    from benchmarks.limits import fma_peak
    from benchmarks.report import save, table
    from benchmarks.workloads import WORKLOADS

    chosen = [w for w in WORKLOADS if not options.only or any(text in w.name for text in options.only)]
    if options.list or not chosen:
        print("\n".join(w.name for w in WORKLOADS))
        return
    peaks = {lanes: fma_peak(lanes) for lanes in (8, 16)}
    for lanes, peak in peaks.items():
        print(f"limit: {peak / 1e9:.1f} GFLOP/s a core, float32 multiply-add in vectors of {lanes}")
    results = []
    for workload in chosen:
        results.append(workload.run(rounds=options.rounds, threads=options.threads, peers=options.peers))
        print(table(results[-1:], max(peaks.values()) * options.threads), flush=True)
    if options.json:
        save(options.json, results, options.threads, peaks)


if __name__ == "__main__":
    main()
