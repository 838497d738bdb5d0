"""Run the benchmarks: `python benchmarks/run.py [--only TEXT ...] [--threads 1] [--json FILE] [--plot FILE]`.

Every workload is run by vitrify and by each peer that is installed (`pip install ".[peers]"`), in turns, in
one process; the table gives medians, half the interquartile range, each median over ours, and the share of
what the machine can do at most, measured in the same run. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import ctypes
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
    parser.add_argument("--plot", type=Path, help="also draw the ratios here (needs matplotlib)")
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    parser.add_argument(
        "--plain-heap", action="store_true", help="leave the C library's heap as it is (see keep_heap)"
    )
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


def keep_heap() -> None:
    """Tell glibc never to give memory back to the kernel: the best that a user of the peers can do.

    They take fresh pages for each large result otherwise, which costs them several times the work itself
    (mallopt(3): M_MMAP_MAX 0, M_TRIM_THRESHOLD and M_TOP_PAD large).
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):
            library.mallopt(parameter, value)


def main() -> None:
    options = arguments()
    pin(options.threads)
    if not options.plain_heap:
        keep_heap()
    from benchmarks import exchange, limits
    from benchmarks.plot import plot
    from benchmarks.report import save, table
    from benchmarks.workloads import WORKLOADS

    chosen = [w for w in WORKLOADS if not options.only or any(text in w.name for text in options.only)]
    if options.list or not chosen:
        print("\n".join(w.name for w in WORKLOADS))
        return
    limit = limits.measure(options.threads)
    print(
        f"limits, {options.threads} thread(s): {limit.flops / 1e9:.1f} GFLOP/s float32 multiply-add, "
        f"{limit.read / 1e9:.1f} GB/s read, {limit.copy / 1e9:.1f} GB/s copied"
    )
    results = []
    for workload in chosen:
        before = exchange.measure()
        results.append(workload.run(rounds=options.rounds, threads=options.threads, peers=options.peers))
        results[-1].exchange = (before, exchange.measure())
        print(table(results[-1:], limit), flush=True)
    if options.json:
        save(options.json, results, options.threads, limit)
    if options.plot:
        plot(options.plot, results, f"vitrify beside its best peer, {options.threads} thread(s)")


if __name__ == "__main__":
    main()
