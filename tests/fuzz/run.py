"""Fuzz the reader of model files: python tests/fuzz/run.py --seconds 600 (``make fuzz``).

With atheris installed the fuzzing is guided by coverage of the engine's Python code: a changed file that reaches
something new is kept and changed further. Without it, or with --plain, a file is kept where it comes to an outcome not
seen before. Either way files are changed by mutate.py and signed again. What is found is written to --out, and the
exit code is then not 0.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import resource
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

MEMORY = 2 << 30
"""Address space, beyond what Python and the engine take, in which every small file must be dealt with: bytes."""


def limit_memory() -> None:
    """Let allocations fail that a file of a few kilobytes has no reason for."""
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))


def write_corpus(folder: Path) -> list[bytes]:
    """Put the seeds beside what was kept before; return all of it."""
    from fuzz.seeds import seeds

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds().items():
        (folder / f"seed-{name}").write_bytes(content)
    kept = HERE / "corpus"
    files = [*sorted(folder.iterdir()), *(sorted(kept.iterdir()) if kept.is_dir() and kept != folder else [])]
    return [path.read_bytes() for path in files if path.is_file()]


def plain(seconds: float, seed: int, folder: Path, out: Path) -> int:
    """Fuzz without atheris; return how many files were findings."""
    from fuzz.mutate import mutate
    from fuzz.target import read

    rng = random.Random(seed)
    corpus = write_corpus(folder)
    waiting = list(corpus)  # what was kept is read first: it may be a finding by now
    seen: set[str] = set()
    tried, found = 0, 0
    limit_memory()
    end = time.monotonic() + seconds
    while waiting or time.monotonic() < end:
        old = bool(waiting)
        content = waiting.pop() if old else mutate(rng.choice(corpus), rng)
        tried += 1
        try:
            outcome = read(content)
        except Exception as error:  # noqa: BLE001 - whatever is no named error is what we look for
            found += 1
            name = hashlib.sha256(content).hexdigest()[:16]
            out.mkdir(parents=True, exist_ok=True)
            (out / f"crash-{name}").write_bytes(content)
            print(f"{type(error).__name__}: {str(error)[:200]} ({out}/crash-{name})", flush=True)
            continue
        if outcome not in seen and not old:
            corpus.append(content)
            (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
        seen.add(outcome)
    print(f"{tried} files, {len(seen)} outcomes, {found} findings (seed {seed})")
    return found


def guided(seconds: float, seed: int, folder: Path, out: Path) -> None:
    """Fuzz with atheris, which ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["prunus.engine", "prunus.data.ranking"]):
        from fuzz.target import read
    from fuzz.mutate import mutate

    write_corpus(folder)
    out.mkdir(parents=True, exist_ok=True)
    arguments = [sys.argv[0], f"-max_total_time={seconds:.0f}", f"-seed={seed}", f"-artifact_prefix={out}/", "-max_len=65536"]  # fmt: skip
    arguments += ["-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1", "-verbosity=1", str(folder)]
    kept = HERE / "corpus"

    def change(content: bytes, max_size: int, number: int) -> bytes:
        made = mutate(content, random.Random(number))
        return made if len(made) <= max_size else content

    def one(content: bytes) -> None:
        read(content)

    atheris.Setup(arguments + ([str(kept)] if kept.is_dir() else []), one, custom_mutator=change)
    limit_memory()
    atheris.Fuzz()


def main() -> None:
    """Read the options and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--corpus", type=Path, default=Path("out/fuzz/corpus"), help="where files are kept")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="where findings are written")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    given = parser.parse_args()
    seed = given.seed or random.SystemRandom().randrange(1, 2**31)
    if given.plain or importlib.util.find_spec("atheris") is None:
        sys.exit(1 if plain(given.seconds, seed, given.corpus, given.out) else 0)
    guided(given.seconds, seed, given.corpus, given.out)


if __name__ == "__main__":
    main()
