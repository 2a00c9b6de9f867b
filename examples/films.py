"""Rerun the films of arXiv 2401.10484: public scores from attributes, by the paper's three models and what they leave out.

    python examples/films.py [FILMS.parquet] [--part valid] [--seeds 5] [--jobs 1] [--json FILE] [--quick]

Without a table a generated twin of it stands in. Nets learn from films up to 2013 and are judged on those after it, once;
`--part valid` learns from films up to 2010 and judges on 2011 to 2013, which is what the settings below were chosen by.
Needs the extra `train`; joules need `pip install 'prunus[energy]'` and a machine that tells them.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a thread costs more than it brings to nets of this size

import numpy as np
import polars as pl
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn.functional import mse_loss

import prunus
from prunus.bench.quick import compare_in_process
from prunus.prune.channels import count_weights
from prunus.prune.lottery import at_random
from prunus.prune.sad import LTH_SAD, SAD, SP_SAD, SS_SAD, Recipe, prune_and_distil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

NUMERICAL = ("budget_usd", "runtime_min", "year", "release_month", "release_day")
SOCIAL = ("director_likes", "actor1_likes", "actor2_likes", "actor3_likes", "cast_likes")
CATEGORICAL = ("country", "content_rating", "language", "genres")
TEXTUAL = ("title", "keywords", "tagline", "overview")
GROUPS = ("numerical", "social", "categorical", "textual", "all")

TEACHER, STUDENT = (128, 64), (64, 32)
SPARSITY = 0.6
"""What the paper removes from its networks."""
EPOCHS, BATCH, RATE, DECAY = 20, 256, 0.05, 0.1
"""Rate and decay were chosen with the student alone, on the films of 2011 to 2013, out of .005, .02, .05 and 5e-4 to 0.3:
decay matters most, since without it the nets learn the films by heart. alpha and beta stay as the paper has them: on the same
films, from 0 to five times as much made no difference beyond noise."""
PENALTIES = 10.0 ** np.arange(-1, 5.5, 0.5)


@dataclass(frozen=True)
class Task:
    """One group of attributes: inputs of mean 0 and spread 1 over the films to learn from, scores from 1 to 10."""

    X: Floats
    y: Floats
    held: Floats
    held_y: Floats


@dataclass(frozen=True)
class Job:
    """Everything that one seed of one group needs."""

    group: str
    seed: int
    task: Task
    penalty: float
    epochs: int
    decay: float


def twin(n: int, seed: int = 0) -> pl.DataFrame:
    """Generate films with the table's columns, whose scores depend on attributes of each group, not in a line."""
    rng = np.random.default_rng(seed)
    genres, words = [f"genre{i}" for i in range(8)], [f"word{i}" for i in range(60)]
    fame = rng.normal(size=n)
    chosen = [rng.choice(8, size=rng.integers(1, 4), replace=False) for _ in range(n)]
    said = rng.integers(0, 60, (n, 12))
    runtime, budget = rng.normal(108, 20, n).round(), rng.lognormal(16.5, 1.3, n).round()
    country, rating = rng.integers(0, 5, n), rng.integers(0, 4, n)
    worth = 0.5 * np.maximum((runtime - 115) / 20, 0) - 0.2 * np.tanh(np.log(budget) - 17) + 0.3 * np.maximum(fame, 0)
    worth += 0.1 * (country - 2) + np.array([0.4 * (0 in c) - 0.4 * (3 in c) for c in chosen])
    worth += 0.25 * ((said < 6).sum(axis=1) - (said > 53).sum(axis=1))
    likes = np.exp(6 + 1.2 * fame[:, None] + rng.normal(size=(n, 5))).round()
    return pl.DataFrame(
        {
            **{name: likes[:, i] for i, name in enumerate(SOCIAL)},
            "budget_usd": budget,
            "runtime_min": runtime,
            "year": rng.integers(1995, 2017, n),
            "release_month": rng.integers(1, 13, n),
            "release_day": rng.integers(1, 29, n),
            "country": [f"country{i}" for i in country],
            "content_rating": [f"rating{i}" for i in rating],
            "language": ["english"] * n,
            "genres": ["|".join(genres[i] for i in c) for c in chosen],
            "title": [words[row[0]] for row in said],
            "keywords": ["|".join(words[i] for i in row[1:4]) for row in said],
            "tagline": [words[row[4]] for row in said],
            "overview": [" ".join(words[i] for i in row[5:]) for row in said],
            "imdb_score": np.clip(6.3 + worth + rng.normal(0, 0.7, n), 1, 10).round(1),
        }
    )


def prepare(films: pl.DataFrame, last: int, until: int) -> dict[str, Task]:
    """Turn attributes into inputs; whatever is counted or fitted, is so on the films to learn from.

    Args:
        films: the table.
        last: year of the last film to learn from.
        until: year of the last film to judge on.
    """
    year = films["year"].to_numpy()
    fit, held = year <= last, (year > last) & (year <= until)

    def text(columns: Sequence[str]) -> list[str]:
        return films.select(pl.concat_str(pl.col(columns).fill_null(""), separator=" ")).to_series().to_list()

    numbers = films.select(NUMERICAL).with_columns(pl.col("budget_usd").log1p()).to_numpy().astype(float)
    likes = np.log1p(films.select(SOCIAL).to_numpy().astype(float))
    cells = [
        "|".join(f"{name}={part}" for name in CATEGORICAL for part in str(row[name] or "?").split("|"))
        for row in films.select(CATEGORICAL).iter_rows(named=True)
    ]
    kinds = CountVectorizer(analyzer=lambda cell: cell.split("|"), binary=True, min_df=10).fit(np.array(cells)[fit])
    words = TfidfVectorizer(stop_words="english", min_df=5, sublinear_tf=True)
    texts = text(TEXTUAL)
    seen = words.fit_transform(np.array(texts, dtype=object)[fit])
    topics = TruncatedSVD(min(64, seen.shape[1] - 1), random_state=0).fit(seen)
    found = {
        "numerical": numbers,
        "social": likes,
        "categorical": kinds.transform(cells).toarray().astype(float),
        "textual": topics.transform(words.transform(texts)),
    }
    found["all"] = np.hstack(list(found.values()))
    y = films["imdb_score"].to_numpy().astype(np.float32)
    tasks = {}
    for name, values in found.items():
        filled = np.where(np.isnan(values), np.nanmedian(values[fit], axis=0), values)
        scaled = (filled - filled[fit].mean(axis=0)) / np.maximum(filled[fit].std(axis=0), 1e-6)
        scaled = np.clip(scaled, -5, 5).astype(np.float32)  # a rare country is no twenty standard deviations away
        tasks[name] = Task(scaled[fit], y[fit], scaled[held], y[held])
    return tasks


def net(n_inputs: int, widths: Sequence[int], seed: int) -> nn.Sequential:
    """Draw a stack of layers, each followed by batch norm and ReLU, with one output."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(n_inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
            n_inputs = width
        return nn.Sequential(*layers, nn.Linear(n_inputs, 1))


def narrow(n_inputs: int, target: int, seed: int) -> nn.Sequential:
    """Draw the widest net of the student's proportions with at most so many weights."""
    nets = (net(n_inputs, (2 * width, width), seed) for width in range(STUDENT[1], 0, -1))
    return next(small for small in nets if count_weights(small) <= target)


def recipes(epochs: int, decay: float) -> dict[str, Recipe]:
    """Scale the paper's recipes to ``epochs`` passes: prunings in the first 60 %, so that each has as long after the last."""
    rounds = round(SPARSITY / LTH_SAD.prune_rate)
    every = max(epochs * 6 // 10 // rounds, 1)
    left = epochs - rounds * every
    taught = {"batch": BATCH, "learning_rate": RATE, "width": 32, "weight_decay": decay}
    pruned = taught | {"sparsity": SPARSITY, "prune_every": every}
    # The rate's steps fall after the last pruning, on a clock that runs on or starts again with the weights.
    through = {"milestones": (epochs - left // 2, epochs - left // 4), "epochs": epochs}
    again = {"milestones": (left // 2, left * 3 // 4), "epochs": epochs}
    once = {"prune_rate": SPARSITY, "prune_every": rounds * every}
    return {
        "alone": replace(SAD, **taught | through | {"alpha": 0.0, "beta": 0.0}),
        "short": replace(SAD, **taught | again | {"epochs": left, "alpha": 0.0, "beta": 0.0}),
        "SAD": replace(SAD, **taught | through),
        "SP-SAD": replace(SP_SAD, **pruned | through | {"prune_every": 2 * every}),
        "LTH-SAD": replace(LTH_SAD, **pruned | again),
        "SS-SAD": replace(SS_SAD, **pruned | again | {"epochs": left}),
        "fine-tune": replace(LTH_SAD, **pruned | through | once | {"reset": "none"}),
    }


class Meter:
    """Says what a piece of work took: seconds of this process's CPU, and joules where the machine tells them."""

    def __init__(self, *, alone: bool) -> None:
        """Look for meters; several jobs at once cannot tell their joules apart."""
        self.monitor: Any = None
        if alone:
            with contextlib.suppress(ImportError):
                from zeus.monitor import ZeusMonitor

                self.monitor = ZeusMonitor(gpu_indices=[])

    @contextlib.contextmanager
    def running(self) -> Iterator[dict[str, float | None]]:
        """Measure what is done inside; the dictionary is filled at the end."""
        cost: dict[str, float | None] = {}
        if self.monitor:
            self.monitor.begin_window("films")
        start = time.process_time()
        yield cost
        cost["cpu_seconds"] = time.process_time() - start
        energy = self.monitor.end_window("films").cpu_energy if self.monitor else None
        cost["joules"] = sum(energy.values()) if energy else None


def judge(job: Job, name: str, module: nn.Module, cost: dict[str, float | None], folder: Path) -> dict[str, Any]:
    """Compile a net, keep its file, and score the held films in the engine."""
    task = job.task
    path = folder / f"{job.group}-{job.seed}-{name}.prunus"
    with torch.no_grad():  # back to scores from 1 to 10
        last = module[-1] if isinstance(module, nn.Sequential) else module
        last.weight *= float(task.y.std())
        last.bias.mul_(float(task.y.std())).add_(float(task.y.mean()))
    scorer = prunus.compile(module)
    scorer.save(path)
    errors = np.abs(scorer.score(task.held) - task.held_y)
    return {
        "group": job.group, "seed": job.seed, "model": name, "errors": errors, "mae": float(errors.mean()),
        "mse": float((errors**2).mean()), "weights": count_weights(module), "bytes": path.stat().st_size, **cost,
    }  # fmt: skip


def run_job(job: Job, folder: Path, *, alone: bool) -> list[dict[str, Any]]:
    """Train and judge every model of one group with one seed."""
    torch.set_num_threads(1)
    task, meter, plan = job.task, Meter(alone=alone), recipes(job.epochs, job.decay)
    n_inputs = task.X.shape[1]
    x, y = torch.from_numpy(task.X), torch.from_numpy((task.y - task.y.mean()) / task.y.std())
    records = []

    def squares(output: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return mse_loss(output[:, 0], wanted)

    def add(name: str, student: nn.Module, teacher: nn.Module | None, recipe: str, **options: Any) -> nn.Module:  # noqa: ANN401
        with meter.running() as cost:
            trained = prune_and_distil(student, teacher, x, y, plan[recipe], loss=squares, seed=job.seed, **options)
        records.append(judge(job, name, copy.deepcopy(trained.module), cost, folder))
        return trained.module

    def linear() -> nn.Module:
        model = Ridge(job.penalty).fit(task.X, y.numpy())
        line = nn.Linear(n_inputs, 1)
        line.weight.data = torch.tensor(model.coef_)[None].float()
        line.bias.data = torch.tensor([model.intercept_]).float()
        return line

    if job.seed == 0:
        with meter.running() as cost:
            constant = nn.Linear(n_inputs, 1)
            nn.init.zeros_(constant.weight), nn.init.zeros_(constant.bias)
        records.append(judge(job, "constant", constant, cost, folder))
        with meter.running() as cost:
            line = linear()
        records.append(judge(job, "ridge", line, cost, folder))
    student = net(n_inputs, STUDENT, job.seed)
    teacher = add("teacher", net(n_inputs, TEACHER, 1000 + job.seed), None, "alone")
    add("student alone", student, None, "alone")
    add("student alone, short", student, None, "short")  # as long as a ticket trains after its last reset
    add("SAD", student, teacher, "SAD")
    small = narrow(n_inputs, round((1 - SPARSITY) * count_weights(student)), job.seed)
    add("small dense alone", small, None, "alone")
    add("small dense SAD", small, teacher, "SAD")
    for name in ("SP-SAD", "LTH-SAD", "SS-SAD"):
        add(name, student, teacher, name)
    add("random mask SAD", student, teacher, "LTH-SAD", importance=at_random(job.seed))
    add("LTH alone", student, None, "LTH-SAD")
    add("prune + fine-tune", student, None, "fine-tune")
    add("prune + fine-tune SAD", student, teacher, "fine-tune")
    raw = [record | {"errors": record["errors"].tolist()} for record in records]
    (folder / f"{job.group}-{job.seed}.json").write_text(json.dumps(raw), encoding="utf-8")
    print(f"{job.group}, seed {job.seed}: {sum(r['cpu_seconds'] for r in records):.0f} s of CPU", file=sys.stderr)
    return records


def latencies(records: Sequence[dict[str, Any]], tasks: dict[str, Task], folder: Path) -> dict[tuple[str, str], float]:
    """Time the first seed's models in the engine, in turn: microseconds a film at batch 128, by group and model."""
    found = {}
    for group, task in tasks.items():
        names = [r["model"] for r in records if r["group"] == group and r["seed"] == 0]
        scorers = [prunus.load(folder / f"{group}-0-{name}.prunus") for name in names]
        timed = compare_in_process(scorers, task.held, 128, rounds=7, slice_seconds=0.01)
        found |= {(group, name): row["us_per_doc"] for name, row in zip(names, timed, strict=True)}
    return found


def summarise(records: Sequence[dict[str, Any]], timed: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    """Put the seeds of a model together: means, spreads, and the difference of its errors to SAD's, film by film."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        rows.setdefault((record["group"], record["model"]), []).append(record)
    film = {key: np.mean([r["errors"] for r in own], axis=0) for key, own in rows.items()}
    table = []
    for (group, model), own in rows.items():
        worse = film[group, model] - film[group, "SAD"]
        row = {"group": group, "model": model, "seeds": len(own), "us_per_film": timed[group, model]}
        for name in ("mae", "mse", "weights", "bytes", "cpu_seconds"):
            row[name] = statistics.fmean(r[name] for r in own)
            row[f"{name}_sd"] = statistics.stdev(r[name] for r in own) if len(own) > 1 else None
        joules = [r["joules"] for r in own]
        row["joules"] = None if None in joules else statistics.fmean(joules)
        row["mae_minus_sad"] = float(worse.mean())
        row["half_width"] = float(1.96 * worse.std() / len(worse) ** 0.5)  # of the 95 % interval over the films
        table.append(row)
    return table


def show(table: Sequence[dict[str, Any]]) -> None:
    """Print the table, a part for each group of attributes."""

    def spread(row: dict[str, Any], name: str) -> str:
        sd = row[f"{name}_sd"]
        return f"{row[name]:.3f}" + ("" if sd is None else f" +-{sd:.3f}")

    for group in dict.fromkeys(row["group"] for row in table):
        print(f"\n| {group} | MAE | MSE | MAE minus SAD's | weights | bytes | CPU s | joules | us a film |")
        print("|---|---|---|---|---|---|---|---|---|")
        for row in table:
            if row["group"] == group:
                joules = "not reported" if row["joules"] is None else f"{row['joules']:.1f}"
                print(
                    f"| {row['model']} | {spread(row, 'mae')} | {spread(row, 'mse')} | {row['mae_minus_sad']:+.3f} +-"
                    f"{row['half_width']:.3f} | {row['weights']:,.0f} | {row['bytes']:,.0f} | {row['cpu_seconds']:.2f} | {joules} | {row['us_per_film']:.3f} |"
                )


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run it all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="?", type=Path, help="Parquet table of films; without it a twin is generated")
    parser.add_argument("--part", choices=("test", "valid"), default="test", help="which films to judge on")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--decay", type=float, default=DECAY, help="weight decay of the nets")
    parser.add_argument("--jobs", type=int, default=1, help="processes; joules are told with one only")
    parser.add_argument("--groups", nargs="*", choices=GROUPS, default=GROUPS)
    parser.add_argument("--models", type=Path, help="folder to keep models and figures of each seed in")
    parser.add_argument("--json", type=Path, help="file to write the table to")
    parser.add_argument("--quick", action="store_true", help="a small twin, one seed, few epochs: does it run?")
    options = parser.parse_args(arguments)
    seeds, epochs = (1, 21) if options.quick else (options.seeds, options.epochs)
    films = pl.read_parquet(options.films) if options.films else twin(500 if options.quick else 4500)
    last, until = (2013, 9999) if options.part == "test" else (2010, 2013)
    before = prepare(films, 2010, 2013)  # what the ridge's penalty is chosen on
    tasks = {group: task for group, task in prepare(films, last, until).items() if group in options.groups}

    def penalty(task: Task) -> float:
        fits = [(p, Ridge(p).fit(task.X, task.y).predict(task.held)) for p in PENALTIES]
        return float(min(fits, key=lambda fit: float(((fit[1] - task.held_y) ** 2).mean()))[0])

    jobs = [
        Job(g, s, task, penalty(before[g]), epochs, options.decay) for s in range(seeds) for g, task in tasks.items()
    ]
    print(f"{'the table given' if options.films else 'a generated twin'}: {len(jobs[0].task.y)} films to learn from, "
          f"{len(jobs[0].task.held_y)} to judge on")  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.models or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.jobs > 1:
            with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
                parts = list(pool.map(partial(run_job, folder=folder, alone=False), jobs))
        else:
            parts = [run_job(job, folder, alone=True) for job in jobs]
        records = [record for part in parts for record in part]
        table = summarise(records, latencies(records, tasks, folder))
    show(table)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1), encoding="utf-8")
    return table


if __name__ == "__main__":
    main()
