"""Time and peak memory of reading a LETOR file of the shape of MSLR-WEB30K: 136 dense features, about 120 documents a query.

    python benchmarks/read_letor.py --megabytes 200            # a file is generated beside the result, and removed
    python benchmarks/read_letor.py --megabytes 3800 --json    # the size of the whole of MSLR-WEB30K

The file is read in a process of its own, so that the peak counts nothing else; ``--sparse`` leaves the zeros out,
which the slower of the two parsers reads. Peak memory is stated beside the size of the result and the difference of
the two: that part does not grow with the file, so the peak at another size is its result and that.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N_FEATURES = 136
DOCS_PER_QUERY = 120
MSLR_DOCUMENTS = 3_771_125
MSLR_MEGABYTES = 3_800


def write_file(path: Path, megabytes: float, *, sparse: bool) -> int:
    """Write lines until the file is large enough; a block of distinct lines is repeated under new query ids."""
    rng = np.random.default_rng(1)
    n = 50 * DOCS_PER_QUERY
    values = np.exp(rng.standard_normal((n, N_FEATURES)) * 2)
    whole = rng.random(N_FEATURES) < 0.6  # MSLR: counts mostly, many of them 0, and scores of six decimals
    zero = (rng.random((n, N_FEATURES)) < 0.4) & whole
    rests = []
    for i in range(n):
        pairs = [
            f"{j + 1}:{0 if zero[i, j] else int(values[i, j]) + 1 if whole[j] else round(values[i, j], 6)}"
            for j in range(N_FEATURES)
            if not (sparse and zero[i, j])
        ]
        rests.append(" ".join(pairs) + " \n")
    labels = rng.integers(0, 5, n)
    n_docs, qid = 0, 0
    with path.open("w", newline="\n") as file:
        while file.tell() < megabytes * 1e6:
            for i, rest in enumerate(rests):
                qid += i % DOCS_PER_QUERY == 0
                file.write(f"{labels[i]} qid:{qid} {rest}")
            n_docs += n
    return n_docs


def read_here(path: str) -> None:
    """Read the file and print what it took; runs in a process of its own."""
    from prunus.data.letor import read_letor
    from prunus.extras import need

    for module in ("pyarrow.csv", "pyarrow.compute", "sklearn.datasets", "scipy.sparse"):
        need(module, extra="io")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    data = read_letor(path)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {
        "documents": data.n_docs,
        "features": data.n_features,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "result_megabytes": (data.X.nbytes + data.y.nbytes) / 1e6,
        "imported_megabytes": before * 1024 / 1e6,
        "peak_megabytes": peak * 1024 / 1e6,
    }
    sys.stdout.write(json.dumps(row) + "\n")


def main() -> None:
    """Generate, read, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--folder", default=None, help="where the generated file goes (default: the temporary folder)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read_here(options.read)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "mslr.txt"
        write_file(path, options.megabytes, sparse=options.sparse)
        size = path.stat().st_size / 1e6
        done = subprocess.run(
            [sys.executable, __file__, "--read", str(path)], check=True, capture_output=True, text=True
        )
    row = {"file_megabytes": size, "sparse": options.sparse, **json.loads(done.stdout)}
    row["megabytes_per_second"] = size / row["seconds"]
    row["beside_the_result_megabytes"] = row["peak_megabytes"] - row["result_megabytes"]
    row["cpu"], row["cores"] = platform.processor() or platform.machine(), os.cpu_count()
    if options.json:
        print(json.dumps(row))
        return
    print(
        f"{size:.0f} MB, {row['documents']:,} documents x {row['features']} features"
        f"{', zeros left out' if options.sparse else ''}: {row['seconds']:.1f} s ({row['cpu_seconds']:.1f} s of CPU),"
        f" {row['megabytes_per_second']:.0f} MB/s\n"
        f"peak memory {row['peak_megabytes']:.0f} MB = result {row['result_megabytes']:.0f} MB"
        f" + {row['beside_the_result_megabytes']:.0f} MB (of which {row['imported_megabytes']:.0f} MB are imports)"
    )
    if not options.sparse and size < 0.9 * MSLR_MEGABYTES:
        result = MSLR_DOCUMENTS * (N_FEATURES + 1) * 4 / 1e6
        print(
            f"extrapolated to MSLR-WEB30K ({MSLR_MEGABYTES} MB, {MSLR_DOCUMENTS:,} documents):"
            f" {MSLR_MEGABYTES / row['megabytes_per_second']:.0f} s,"
            f" peak {result + row['beside_the_result_megabytes']:.0f} MB"
        )


if __name__ == "__main__":
    main()
