"""The verbs of recommenders: files in; the promised keys, tables, verdicts and named refusals out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import prunus
from cli_tools import run
from interactions_world import make_interactions

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

QUICK = ("--kind", "tickets", "--factors", "48", "--epochs", "6", "-k", "5", "--l2", "20", "--margin", "0.5")


@dataclass(frozen=True)
class Compressed:
    """A folder with interactions of named items (ratings.csv) and what came of them (out); the page with titles."""

    path: Path
    values: dict[str, object]
    page: str

    @property
    def model(self) -> Path:
        """The model file."""
        return self.path / "out" / "recommender.prunus"


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """Write interactions as text, and compress them once."""
    folder = tmp_path_factory.mktemp("recommend")
    data = make_interactions(250, 80, n_each=12)
    assert data.times is not None
    rows = zip(data.user_of.tolist(), data.items.tolist(), data.times.tolist(), strict=True)
    lines = [f"u{user},film {item},{1 + item % 5},{time}" for user, item, time in rows]
    (folder / "ratings.csv").write_text("user,item,rating,timestamp\n" + "\n".join(lines) + "\n")
    titles = "".join(f"film {item},The <b>{item}</b>th\n" for item in range(80))
    (folder / "films.csv").write_text("item,name\n" + titles)
    named = ("--titles", folder / "films.csv", "--title", "name")
    asked = (folder / "ratings.csv", *named, "--budget", "60B", "-o", folder / "out", *QUICK, "--json")
    done = run("recommend", "compress", *asked)
    return Compressed(folder, done.json(), (folder / "out" / "report.html").read_text())


def test_compress_gives_the_promised_keys(compressed: Compressed) -> None:
    """The keys of DESIGN.md, figures in range, the names' bytes beside; and the table says the same."""
    values = compressed.values
    student = values["student"]
    assert isinstance(student, dict)
    assert {"ndcg@5", "recall@5", "bytes_per_item", "file_bytes"} <= student.keys()
    assert student["bytes_per_item"] <= 60
    assert student["id_map_bytes"] > 0
    assert student["file_bytes"] == compressed.model.stat().st_size
    assert values["split"] == "strong:0.1"
    again = run(
        "recommend",
        "compress",
        compressed.path / "ratings.csv",
        "--budget",
        "60B",
        "-o",
        compressed.path / "out",
        *QUICK,
    )
    assert again.code == 0, again.err
    assert f"{student['ndcg@5']:.4f}" in again.out
    assert "users" in again.out
    assert "quer" not in again.out
    assert "which bytes/item does not count" in again.out
    assert "The teacher's own weights, cut to" in again.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget", "60"), "expected bytes an item"),
        (("--budget", "1B"), "one factor of 4 bits takes more"),
        (("--budget", "1B", "--kind", "tickets"), "one value an item takes"),
        (("--budget", "60B", "--split", "half"), "expected leave-last-out"),
        (("--budget", "60B", "--split", "strong:0.1", "--test", "x"), "expected one of them"),
        (("--budget", "60B", "--min-rating", "9"), "below the least rating"),
        (("--budget", "60B", "--item", "song"), "no column 'song'"),
        (("--budget", "60B", "--where", "rating>"), "cannot be read"),
        (("--budget", "60B", "--test", "nothing.txt"), "cannot be opened"),
        (("--budget", "60B", "--l2", "0"), "above 0"),
    ],
)
def test_compress_refuses(compressed: Compressed, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """What cannot be used is one line on stderr, and nothing is written."""
    done = run("recommend", "compress", compressed.path / "ratings.csv", *options, "-o", tmp_path / "out")
    assert said in done.refused()
    assert not (tmp_path / "out").exists()


def test_given_test_part(compressed: Compressed, tmp_path: Path) -> None:
    """Lists a user, and a test part as a file; numbered items need no names in the file."""
    rng = np.random.default_rng(0)
    rows = [np.unique(rng.integers(0, 40, 10)).tolist() for _ in range(60)]
    rows[0] = sorted({*rows[0], *range(40)} - {39})
    for name, part in (("train.txt", slice(0, -2)), ("test.txt", slice(-2, None))):
        (tmp_path / name).write_text("".join(f"{u} {' '.join(map(str, r[part]))}\n" for u, r in enumerate(rows)))
    done = run(
        "recommend", "compress", tmp_path / "train.txt", "--test", tmp_path / "test.txt", "--budget", "4KB",
        "-o", tmp_path / "out", *QUICK, "--epochs", "1", "--json",
    )  # fmt: skip
    values = done.json()
    assert values["split"] == "given"
    assert values["student"]["id_map_bytes"] == 0
    assert values["student"]["file_bytes"] <= 4000


def test_report_is_one_page(compressed: Compressed) -> None:
    """The page says the verdict, draws curve and training, shows lists by title, escaped, and needs no network."""
    page = compressed.page
    student, teacher = compressed.values["student"], compressed.values["teacher"]
    assert isinstance(student, dict)
    assert isinstance(teacher, dict)
    for shown in (f"{student['ndcg@5']:.4f}", f"{teacher['ndcg@5']:.4f}", "bytes an item", "density", "EASE(l2=20)"):
        assert shown in page
    assert re.search(r"The &lt;b&gt;\d+&lt;/b&gt;th", page)
    assert "<b>" not in page
    assert page.count("<svg") >= 4
    assert not re.search(r"(?:src|href)=.?https?:", page)


def test_report_of_a_bare_result() -> None:
    """Whatever is missing leaves a gap, not an error."""
    from prunus.report.recommender import render

    for result in ({}, {"verdict": {"outcome": "inferior"}, "curve": [{"bytes_per_item": 3}], "examples": [{}]}):
        assert "prunus report" in render(result)


def test_evaluate_repeats_the_figures_of_compress(compressed: Compressed) -> None:
    """The same data, split and seed give the figures of the run; against itself a model is non-inferior."""
    asked = ("recommend", "evaluate", compressed.model, compressed.path / "ratings.csv", "-k", "5")
    values = run(*asked, "--against", compressed.model, "--json").json()
    made = compressed.values["student"]
    assert isinstance(made, dict)
    for key in ("ndcg@5", "recall@5", "hr@5", "mrr@5", "bytes_per_item", "file_bytes", "id_map_bytes"):
        assert values["student"][key] == pytest.approx(made[key], rel=1e-9), key
    assert values["verdict"]["outcome"] == "non_inferior"
    assert values["verdict"]["difference"] == 0
    assert values["teacher"]["ndcg@5"] == values["student"]["ndcg@5"]
    text = run(*asked, "--split", "leave-last-out")
    assert text.code == 0, text.err
    assert "nDCG@5" in text.out


def test_evaluate_refuses_other_items(compressed: Compressed, tmp_path: Path) -> None:
    """Models of different catalogues are not compared, and a file of another kind is named."""
    rows = "".join(f"{u} {i}\n" for u in range(9) for i in {u % 4, (u + 1) % 4, 3})
    (tmp_path / "other.txt").write_text(rows)
    made = run(
        "recommend", "compress", tmp_path / "other.txt", "--budget", "4KB", "-o", tmp_path / "out", *QUICK,
        "--epochs", "1", "--split", "random:0.3", "--json",
    )  # fmt: skip
    other = made.json()["files"]["model"]
    done = run("recommend", "evaluate", compressed.model, compressed.path / "ratings.csv", "--against", other)
    assert "expected the same catalogue" in done.refused()
    ranker = Path(__file__).parent / "golden" / "ranker-v2.prunus"
    assert (
        "expected a recommender model"
        in run("recommend", "evaluate", ranker, compressed.path / "ratings.csv").refused()
    )


def test_score_writes_lists(compressed: Compressed, tmp_path: Path) -> None:
    """Every form holds the lists that the scorer makes: unseen items only, names given, unknown ones counted."""
    pl = pytest.importorskip("polars")
    (tmp_path / "new.csv").write_text("user,item\nann,film 3\nann,film 4\nbob,film 70\nbob,no film\ncid,no film\n")
    asked = ("score", compressed.model, tmp_path / "new.csv", "-k", "7")
    values = run(*asked, "--json").json()
    scorer = prunus.load(compressed.model)
    assert isinstance(scorer, prunus.RecommendScorer)
    expected = scorer.recommend_ids([["film 3", "film 4"], ["film 70"], []], 7)
    assert [one["user"] for one in values["lists"]] == ["ann", "bob", "cid"]
    assert [one["items"] for one in values["lists"]] == expected.names
    assert not {"film 3", "film 4"} & set(values["lists"][0]["items"])
    assert [one["cold"] for one in values["lists"]] == [False, False, True]
    assert values["cold_users"] == 1
    assert values["left_out"] == {"with an item that the model does not know": 2}
    plain = run(*asked)
    assert [line.split("\t")[1:] for line in plain.out.splitlines()] == expected.names
    assert "most popular" in plain.err
    assert "2 rows" in plain.err
    for name, read in (("lists.csv", pl.read_csv), ("lists.parquet", pl.read_parquet)):
        assert run(*asked, "-o", tmp_path / name).code == 0
        frame = read(tmp_path / name)
        assert frame["item"].to_list() == [item for row in expected.names for item in row]
        assert frame["rank"].to_list() == list(range(1, 8)) * 3
        np.testing.assert_allclose(frame["score"], [s for row in expected.scores for s in row], rtol=1e-5)
    assert run(*asked, "-o", tmp_path / "lists.txt").code == 0
    assert (tmp_path / "lists.txt").read_text() == plain.out
    assert "does not know ('no film')" in run(*asked, "--unknown", "error").refused()


def test_inspect(compressed: Compressed) -> None:
    """Inspect says what the bytes are spent on, where the model comes from, and that it scores here as there."""
    values = run("inspect", compressed.model, "--json").json()
    made = compressed.values["student"]
    assert isinstance(made, dict)
    assert {key: values[key] for key in ("bytes_per_item", "id_map_bytes", "nonzeros")} == {
        key: made[key] for key in ("bytes_per_item", "id_map_bytes", "nonzeros")
    }
    assert values["provenance"]["teacher"] == "EASE(l2=20)"
    assert values["popular"][0].startswith("film ")
    text = run("inspect", compressed.model).out
    assert "80 items, sparse factors 48 wide" in text
    assert "EASE(l2=20)" in text
