"""``prunus rank compress``: teacher, data and budget in; model file, table, verdict and report out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import options, table, talk
from prunus.cli.parts import Files, Parts, read_parts
from prunus.cli.progress import progress

if TYPE_CHECKING:
    from prunus.compress.ranker import Result
    from prunus.compress.recipe import RankerRecipe
    from prunus.teacher.scores import Teacher


@talk.verb(goes_on=True)
def compress(
    teacher: Annotated[
        Path | None,
        typer.Argument(
            metavar="TEACHER",
            help="LightGBM .txt, XGBoost .json or .ubj, CatBoost .cbm or .json; left out with --teacher-scores.",
            show_default=False,
        ),
    ] = None,
    *,
    train: options.Train,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            help="Microseconds a document at 128 documents a call (0.5us), at another number (0.5us@20), or bytes (20KB).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the results.", show_default=False)],
    valid: Annotated[
        list[str] | None,
        typer.Option(
            "--valid",
            metavar="FILE",
            help="Documents to choose by; default: rows of the training files, see --valid-where.",
        ),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option("--test", metavar="FILE", help="Documents of the verdict; they choose nothing."),
    ] = None,
    split_valid: Annotated[
        float | None,
        typer.Option(
            "--split-valid",
            metavar="SHARE",
            min=0.05,
            max=0.95,
            help="No test data: this share of the validation queries validates, the others test.",
        ),
    ] = None,
    teacher_scores: Annotated[
        str | None,
        typer.Option("--teacher-scores", metavar="COLUMN", help="Column of a teacher's scores, instead of TEACHER."),
    ] = None,
    features: options.Features = None,
    ignore: options.Ignore = None,
    qid: options.Qid = "qid",
    label: options.Label = "label",
    user: options.User = None,
    where: options.Where = None,
    train_where: Annotated[
        str | None, typer.Option("--train-where", metavar="EXPRESSION", help="Rows to learn on.")
    ] = None,
    valid_where: Annotated[
        str | None, typer.Option("--valid-where", metavar="EXPRESSION", help="Rows to choose by.")
    ] = None,
    test_where: Annotated[
        str | None, typer.Option("--test-where", metavar="EXPRESSION", help="Rows of the verdict.")
    ] = None,
    effort: Annotated[
        options.Effort, typer.Option(help="How long to train and how many students to try.")
    ] = options.Effort.normal,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training documents; default: the effort's.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each student; the best by validation is kept.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    augmentation: Annotated[
        options.Augmentation, typer.Option(help="How synthetic documents are drawn.")
    ] = options.Augmentation.neighbour,
    missing: Annotated[
        options.Missing,
        typer.Option(
            help="auto: NaN is refused in features that were never missing in training; allow: it is read as the mean."
        ),
    ] = options.Missing.auto,
    margin: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="What the student may lose, as a share of the teacher's mean nDCG.")
    ] = 0.01,
    search_minutes: Annotated[
        float,
        typer.Option(
            "--search-minutes",
            metavar="MINUTES",
            min=0.0,
            help="Time to search for better designs of every kind; several processes that run the same command share it.",
        ),
    ] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of training.")] = 1,
    against: Annotated[
        str,
        typer.Option(
            "--against",
            metavar="ENGINES",
            help="Engines that time the trees, separated by commas; the fastest of them stands in the table.",
        ),
    ] = "lightgbm",
    json: options.Json = False,
) -> None:
    r"""Make a small sparse model that ranks as well as TEACHER within a budget, and say so with a paired test.

    Writes ranker.prunus, result.json and report.html. A run that was stopped goes on where it was; one with other inputs
    or options in the same folder is refused.

    Examples:
      prunus rank compress ranker.txt --train train.parquet --valid valid.parquet --test test.parquet --budget 0.5us -o out
      prunus rank compress ranker.txt --train train.parquet --valid valid.parquet --test test.parquet --budget 0.2us \
        --search-minutes 30 -o out
      prunus rank compress ranker.txt --train all.parquet --train-where 'part<=3' --valid-where 'part==4' \
        --split-valid 0.5 --budget 0.2us@20 -o out
    """
    columns = options.columns_of(
        features=features, ignore=ignore, qid=qid, label=label, where=where, user=user, teacher_scores=teacher_scores
    )
    engines = options.engines_of(against)
    recipe = make_recipe(
        budget=budget,
        effort=effort.value,
        epochs=epochs,
        seeds=seeds,
        seed=seed,
        augmentation=augmentation.value,
        missing=missing.value,
        margin=margin,
        threads=threads,
        search_minutes=search_minutes,
    )
    parts_of = (
        Files(tuple(train), train_where),
        Files(tuple(valid or ()), valid_where),
        Files(tuple(test or ()), test_where),
    )
    master: Teacher
    if teacher_scores is not None:
        refuse_two_teachers(teacher)
        from prunus.teacher.scores import ScoreTeacher

        master = ScoreTeacher(teacher_scores)
        parts = read_parts(*parts_of, columns, split_valid=split_valid, seed=seed)
    else:
        from prunus.teacher.trees import load_trees

        trees = load_trees(need_teacher(teacher))
        master = trees
        parts = read_parts(*parts_of, columns, teacher=trees, split_valid=split_valid, seed=seed)
    result = run(master, parts, recipe, out, engines)
    show(result.to_json(), result.verdict.sentence(), json=json)


def need_teacher(teacher: Path | None) -> Path:
    """Return the teacher's file.

    Raises:
        TeacherError: none was given.
    """
    from prunus.errors import TeacherError

    if teacher is None:
        msg = "got no teacher; expected a model file (TEACHER), or a column of its scores (--teacher-scores COLUMN)"
        raise TeacherError(msg)
    return teacher


def refuse_two_teachers(teacher: Path | None) -> None:
    """Check that no file is given beside a column of scores.

    Raises:
        TeacherError: both were given.
    """
    from prunus.errors import TeacherError

    if teacher is not None:
        msg = f"got the teacher {teacher} and --teacher-scores; expected one of them: drop the other"
        raise TeacherError(msg)


def make_recipe(**settings: Any) -> RankerRecipe:  # noqa: ANN401 - the recipe checks them
    """Make a recipe, with the extra named where training is not installed."""
    from prunus.design import Budget
    from prunus.extras import need

    Budget.parse(settings["budget"])
    need("pydantic", extra="train")
    need("torch", extra="train")
    if settings.get("search_minutes"):
        need("optuna", extra="train")
    from prunus.compress.recipe import RankerRecipe

    return RankerRecipe(**settings)


def run(teacher: Teacher, parts: Parts, recipe: RankerRecipe, out: Path, engines: tuple[str, ...]) -> Result:
    """Compress, and write the report beside the model."""
    from prunus.compress.ranker import compress_ranker
    from prunus.report import ranker as report

    with progress() as bars:
        result = compress_ranker(
            teacher, parts.train, parts.valid, parts.test, recipe=recipe, out=out, peers=engines, progress=bars
        )
    report.write(result.to_json(), out / "report.html")
    return result


def show(result: dict[str, Any], verdict: str, *, json: bool) -> None:
    """Print what a run gave: the figures as JSON; or the table, the verdict and the files."""
    if json:
        talk.put_json(result)
        return
    table.comparison(result)
    talk.put("")
    talk.put(verdict)
    exact = (result.get("exact_trees") or {}).get("sentence")
    if exact:
        talk.put(exact)
    faster = table.speed_sentence(result)
    if faster:
        talk.put(faster)
    for name, why in result.get("timing", {}).get("unavailable", {}).items():
        talk.say(f"not timed: {name}: {why}")
    talk.put("")
    for name, path in result["files"].items():
        talk.put(f"{name}: {path}")
