"""The page of a stream: the numbers of the logs, honest words, whole at any gap, and closed to hostile names."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.errors import OutputError
from prunus.report.markup import clean
from prunus.report.stream import findings, headline, kept, render, write
from prunus.report.stream_log import MOST_POINTS, Log, read
from prunus.report.timeline import Series, chart
from prunus.report.values import number
from report_pages import BROWSER, HOSTILE, WRONG, Page, assert_needs_nothing, browse, paths, put, rows_of
from stream_logs import SIZE, WARM_UP, put_down, sample

PATHS = list(paths(sample(8)))


def test_the_page_holds_the_numbers_of_the_logs() -> None:
    """Totals, windows, models, counters and operations stand in their tables with their exact values."""
    run = sample()
    content = render(run)
    last = run["windows"][-1]
    totals = rows_of(content, "quality")
    assert [row[1][1] for row in totals] == [repr(last["total"]["ne"][name]) for name in ("dense", "sparse", "served")]
    assert [row[2][1] for row in totals] == [None, "0.317", "0.376"]
    assert totals[2][2][0].strip() == "+0.38 %"
    found = rows_of(content, "windows")
    assert len(found) == len(run["windows"])
    for row, line in zip(found, reversed(run["windows"]), strict=True):
        figures = [*line["ne"].values(), *line["gap_percent"].values(), line["calibration"]["served"]]
        figures += [line["auc"]["served"], line["churn"], line["serving"]]
        assert [number(float(one[1])) if one[1] else None for one in row] == [line["events"], *figures]
    newest = rows_of(content.replace("The newest models.", 'id="newest"'), "newest")
    assert len(newest) == 15
    for row, line in zip(newest, reversed(run["emissions"]), strict=False):
        assert (row[0][1], float(row[1][1])) == (repr(line["number"]), line["events"])
        assert ("served" in row[3][0]) == line["swapped"]
        assert row[4][1] == repr(line["loss"])
    why = {row[0][0].strip(): [float(one) for _, one in row[1:]] for row in rows_of(content, "emissions")}
    assert why["gap grew: new pattern"] == [1, 1, 0]
    assert why["time came: new values"][0] == len(run["emissions"]) - 2
    assert sum(n for _, _, n in why.values()) == sum(not line["swapped"] for line in run["emissions"])
    counts = {row[0][0].strip(): float(row[1][1]) for row in rows_of(content, "events")}
    assert counts == {name.replace("_", " "): n for name, n in last["counts"].items()}
    costs = {row[0][0].strip(): float(row[1][1]) for row in rows_of(content, "compute")}
    assert costs["score, sparse model"] == last["flops"]["serve"]
    assert costs["learn, this run"] == pytest.approx(last["train_flops"] / last["events"])
    assert [row[0][1] for row in rows_of(content, "drift")] == [repr(22.0 * SIZE), repr(21.0 * SIZE)]


def test_a_run_of_the_loop_fills_the_page(tmp_path) -> None:
    """The real logs have every key that the page looks for: no part of it is missing, and the total is the summary's."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
    for name in ("river", "pydantic"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra 'stream')")
    from stream_world import SETTINGS, make_events, make_loop

    torch.manual_seed(3)
    summary = make_loop(make_events(4000), tmp_path).run()
    (tmp_path / "recipe.json").write_text(json.dumps({"settings": SETTINGS.model_dump(mode="json")}))
    content = write(tmp_path).read_text()
    ids = {attributes.get("id") for attributes in Page(content).all("section")}
    assert ids == {"quality", "pattern", "emissions", "drift", "events", "compute", "windows", "method"}
    totals = {row[0][0].strip(): row for row in rows_of(content, "quality")}
    assert totals["the model that serves"][1][1] == repr(summary["ne"]["served"])
    assert totals["sparse, as it learns"][2][1] == repr(summary["gap_percent"])
    assert f"{summary['events']:,} events seen, to the end of the stream" in content
    served = Log(read(tmp_path))
    assert served.mean("calibration", "served") == pytest.approx(1, abs=0.2)
    for title in ("gap to the dense master", "weights kept in each layer", "mask churn", "normalised entropy", "AUC"):
        assert f">{title}" in content


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(WRONG)), min_size=1, max_size=25))
def test_a_gap_in_the_logs_leaves_a_gap_in_the_page(changes) -> None:
    """Whatever is missing or of a wrong kind, the page is whole and shows no None, nan or undefined."""
    run = sample(8)
    for path, value in changes:
        put(run, path, value)
    visible = Page(render(run)).visible
    assert not re.search(r"\b(None|nan|NaN|undefined|null|inf|Infinity)\b|\[\]|\{\}", visible)
    assert "stream report" in visible


@pytest.mark.parametrize("run", [{}, {"windows": []}, sample(1), sample(2), sample(3)], ids=range(5))
def test_a_run_that_has_just_begun_has_a_page(run) -> None:
    """With no window, or with none after the warm-up, the page claims nothing of a model that serves."""
    page = Page(render(run))
    assert "No model serves" in page.visible
    assert not re.search("(worse|better) than|as well as", headline(Log(run)))


@settings(max_examples=20)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=40)))
def test_names_from_the_data_stay_text(name) -> None:
    """A hostile name of a counter, id field, source, reason or error adds no element, and is shown as it is."""
    hostile, harmless = sample(8), sample(8)
    for run, word in ((hostile, "x" + name + "x"), (harmless, "xharmlessx")):
        for line in run["windows"]:
            line["counts"][word] = 5
        run["recipe"]["inputs"]["schema"]["id_fields"] = [word, "item"]
        run["recipe"]["inputs"]["source"] = [word]
        run["recipe"][word] = {word: word}
        run["emissions"][-1] |= {"why": word, "error": word, "swapped": False}
        run["result"] = {"method": word}
    page = Page(render(hostile))
    assert page.count() == Page(render(harmless)).count()
    assert clean(("x" + name + "x").replace("_", " ")) in [text for tag, text in page.texts if tag == "bdi"]
    assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)


def test_the_page_needs_nothing_but_itself() -> None:
    """No element loads anything, links stay in the page, and the same logs give the same bytes."""
    content = render(sample())
    assert_needs_nothing(content)
    assert render(json.loads(json.dumps(sample()))) == content


@pytest.mark.parametrize(
    ("gap", "serve", "words"),
    [
        (
            0.123,
            40_000.0,
            "clicks 0.12 % worse than the dense model beside it, for 90.0 % fewer operations an event.",
        ),
        (-0.31, 20_000.0, "clicks 0.31 % better than the dense model beside it, for 95.0 % fewer operations"),
        (3.27, 40_000.0, "clicks 3.3 % worse than"),
        (0.004, 400_000.0, "within 0.01 % as well as the dense model beside it, for as many operations an event."),
        (-0.004, 800_000.0, "within 0.01 % as well as the dense model beside it, for 2.0 times the operations"),
        (None, 40_000.0, "A sparse model serves, for 90.0 % fewer operations an event; no figure compares it"),
    ],
)
def test_the_headline_says_what_was_measured(gap, serve, words) -> None:
    """Worse is called worse, better better, and what was not compared is not claimed."""
    run = sample()
    run["windows"][-1]["total"]["gap_percent"]["served"] = gap
    run["windows"][-1]["flops"]["serve"] = serve
    assert words in headline(Log(run))


def test_without_a_master_the_page_compares_with_nothing() -> None:
    """A run in which no dense model learns has entropy and no gap, and says why."""
    run = sample()
    for line in run["windows"]:
        for figure in ("ne", "auc", "calibration"):
            line[figure]["dense"] = None
        line["gap_percent"] = {"sparse": None, "served": None}
        line["total"] |= {"gap_percent": {"sparse": None, "served": None}}
        line["total"]["ne"]["dense"] = None
    page = Page(render(run))
    assert "no dense model learns beside it" in headline(Log(run))
    assert "0.8544" in page.visible
    assert "Gap to dense" not in page.visible
    assert "for the sparse model" in page.visible


def test_findings_qualify_the_headline() -> None:
    """Refused models, failures, rollbacks, a biased model, alarms and counters are told; where there is none, nothing is."""
    run = sample()
    run["emissions"][5] |= {"swapped": False, "error": "disk full"}
    for line in run["windows"]:
        line["calibration"]["served"] = 1.2
    said = " ".join(findings(Log(run)))
    refused = sum(not line["swapped"] for line in run["emissions"]) - 1
    for words in (
        f"{refused} of 37 models did not get to serve",
        "1 of 37 models could not be made or written, the last: disk full",
        "Rolled back by hand: model 37.",
        "20.0 % more clicks than there were",
        "1 alarm of the master's loss, 1 alarm of the gap",
        "78 bad label missing, 13 late.",
    ):
        assert words in said
    calm = sample(8)
    calm["rollbacks"] = []
    for line in calm["windows"]:
        line |= {"alarms": {"loss": 0, "gap": 0}, "counts": {"events": 9}}
    for line in calm["emissions"]:
        line["swapped"] = True
    assert [one for one in findings(Log(calm)) if "clicks" not in one] == []


def test_a_mean_over_windows_is_that_of_their_events() -> None:
    """Calibration weighted by clicks is all predicted clicks over all clicks, and the warm-up does not count."""
    run = sample()
    late = [line for line in run["windows"] if line["events"] > WARM_UP]
    clicks = [line["rate"] * line["size"] for line in late]
    predicted = [one * line["calibration"]["served"] for one, line in zip(clicks, late, strict=True)]
    assert Log(run).mean("calibration", "served") == pytest.approx(sum(predicted) / sum(clicks), rel=1e-12)


def test_a_long_run_is_thinned() -> None:
    """Lines of many windows are means of equal groups, none is lost, and the page stays small."""
    log = Log(sample(1500))
    line = log.series("dense", "dense", "ne", "dense")
    assert len(line.points) == MOST_POINTS
    mean = sum(one["ne"]["dense"] for one in log.windows) / 1500
    assert sum(value for _, value in line.points) / MOST_POINTS == pytest.approx(mean, rel=1e-9)
    assert line.points[-1][0] == log.events
    content = render(log.run)
    assert len(content) < 600_000
    assert all(points.count(",") <= MOST_POINTS for points in re.findall(r'points="([^"]*)"', content))


def test_counts_that_stay_at_nothing_have_a_plain_axis() -> None:
    """A chart of zeros is marked 0, and no more."""
    nothing = Series("new patterns", "forest", [(float(n), 0.0) for n in range(5)])
    drawn = str(chart("new patterns", [nothing], 300.0, 150.0))
    assert re.findall(r'class="tick"[^>]*text-anchor="end"[^>]*>([^<]*)<', drawn) == ["0"]


def test_the_model_that_serves_is_the_newest_that_was_not_withdrawn() -> None:
    """One that came at the end of the last window counts, and one that was rolled back does not."""
    log = Log(sample())
    swapped = [
        line["number"] for line in log.emissions if line["swapped"] and line["number"] != log.emissions[-1]["number"]
    ]
    assert log.serving == max(swapped)
    assert f"Model {log.serving} serves" in render(log.run)


def test_lines_break_where_a_figure_is_missing() -> None:
    """What serves has no line before it was there, and an alarm is drawn at its window in every chart of the gap."""
    content = render(sample())
    chart = content[content.index(">gap to the dense master") :]
    chart = chart[: chart.index("</figure>")].split('role="img"')[0]
    served = re.search(r'<title>the model that serves</title><polyline points="([^"]*)"', chart)
    sparse = re.search(r'<title>sparse, as it learns</title><polyline points="([^"]*)"', chart)
    assert served
    assert sparse
    assert served.group(1).count(",") == 40 - WARM_UP // SIZE
    assert sparse.group(1).count(",") == 40
    assert chart.count('class="alarm loss"') == chart.count('class="alarm gap"') == 1
    for match in re.finditer(r' (?:x|y|x1|y1|x2|y2|cx|cy|r|width|height|points)="([^"]*)"', content):
        assert re.fullmatch(r"[-0-9., ]*", match.group(1)), match.group(0)


def test_axes_are_marked_in_the_units_of_what_they_show() -> None:
    """Counts have whole marks only, with commas at the thousands; of many id fields the fullest are drawn."""
    run = sample()
    for line in run["windows"]:
        line["ids"] = [field * line["events"] // 10 for field in range(9)]
    content = render(run)

    def chart(title):
        part = content[content.index(f">{title}") :]
        return part[: part.index("</svg></figure>")]

    assert set(re.findall(r'class="tick" text-anchor="end">([^<]*)<', chart("new patterns chosen"))) == {"0", "1"}
    ids = chart("ids with an embedding, the fullest fields")
    assert re.findall("<g><title>([^<]*)</title>", ids) == [f"id field {n}" for n in (9, 8, 7, 6, 5, 4)]
    assert ">20,000<" in ids


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path) -> None:
    """The page is drawn from the whole lines; bytes that are no text and files that are missing do not stop it."""
    run = sample()
    put_down(run, tmp_path)
    before = write(tmp_path).read_bytes()
    with (tmp_path / "windows.jsonl").open("ab") as file:
        file.write(b'{"window": 40, "events": 41')
    assert write(tmp_path).read_bytes() == before
    with (tmp_path / "windows.jsonl").open("ab") as file:
        file.write(b"\n\xff\x00[1]\n" + b"[" * 100_000 + b"\n3\n")
    assert write(tmp_path, tmp_path / "other.html").read_bytes() == before
    (tmp_path / "emissions.jsonl").unlink()
    assert "Models that came" not in write(tmp_path).read_text()


def test_an_older_end_is_not_the_end(tmp_path) -> None:
    """The summary of a run that has gone on since does not make it ended."""
    run = sample()
    for events, words in ((SIZE * 40, "to the end of the stream"), (SIZE * 20, "and it goes on")):
        run["result"] = {"events": events}
        assert words in write(put_down(run, tmp_path)).read_text()


def test_the_page_is_kept_up_to_date(tmp_path, monkeypatch) -> None:
    """It is drawn at the end and at Ctrl-C, in between when it is due, and never where the run was refused."""
    from prunus.report import stream

    page = put_down(sample(), tmp_path) / "report.html"
    clock = [0.0]
    monkeypatch.setattr(stream.time, "monotonic", lambda: clock[0])
    with kept(tmp_path, pytest.fail) as again:
        again()
        assert not page.exists()
        clock[0] = stream.EVERY_S
        again()
        assert page.exists()
        page.unlink()
        again()
        assert not page.exists()
    assert page.exists()
    for error, there in ((KeyboardInterrupt, True), (ValueError, False)):
        page.unlink()
        with pytest.raises(error), kept(tmp_path, pytest.fail):
            raise error
        assert page.exists() == there


def test_a_page_that_cannot_be_written_is_told_of(tmp_path) -> None:
    """The run goes on, and says why there is no page; asked for by itself it is an error that says what to do."""
    folder = put_down(sample(), tmp_path / "run")
    (folder / "report.html").mkdir()
    said: list[str] = []
    with kept(folder, said.append):
        pass
    assert len(said) == 1
    assert "the report cannot be written" in said[0]
    with pytest.raises(OutputError, match="the report cannot be written"):
        write(folder)


PROBE = """<!DOCTYPE html><meta charset="utf-8"><body><pre id="out">waiting</pre><script>
const found = [], widths = [1100, 400, 320];
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.onload = () => {
    const page = frame.contentDocument, shown = (node) => node.getClientRects().length > 0;
    found.push({
      width, scroll: Math.max(page.documentElement.scrollWidth, page.body.scrollWidth),
      charts: [...page.querySelectorAll("svg.chart")].filter(shown).length,
      type: Math.min(...[...page.querySelectorAll("svg.chart text")].filter(shown).map((node) => node.getBoundingClientRect().height)),
      cut: [...page.querySelectorAll("svg.chart text")].filter(shown).filter((node) => {
        const text = node.getBoundingClientRect(), chart = node.closest("svg.chart").getBoundingClientRect();
        return text.left < chart.left - 1 || text.right > chart.right + 1;
      }).map((node) => node.textContent),
    });
    if (found.length === widths.length) document.getElementById("out").textContent = JSON.stringify(found);
  };
  frame.src = "report.html";
  document.body.append(frame);
}
</script>"""


@pytest.mark.long
@pytest.mark.skipif(BROWSER is None, reason="no browser: install Debian's chromium")
def test_a_real_browser_shows_the_page(tmp_path) -> None:
    """Chromium draws all charts without a console message, sideways overflow, small type or text that is cut off."""
    write(put_down(sample(), tmp_path))
    (tmp_path / "probe.html").write_text(PROBE, encoding="utf-8")
    dom, log = browse(
        tmp_path, "probe.html", "--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=15000"
    )
    assert "CONSOLE" not in log, [line for line in log.splitlines() if "CONSOLE" in line]
    views = json.loads(re.search(r'<pre id="out">(.*?)</pre>', dom, re.DOTALL).group(1).replace("&lt;", "<"))
    assert len(views) == 3
    for view in views:
        assert view["scroll"] <= view["width"], view
        assert view["charts"] == 1 + 3 + 1 + 3 + 3
        assert view["type"] >= 10
        assert view["cut"] == []
