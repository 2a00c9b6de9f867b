"""The ranker's page: honest words, whole at any gap in the result, closed to the network and to hostile names."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.errors import OutputError
from prunus.report import form, svg
from prunus.report.headline import headline
from prunus.report.markup import clean
from prunus.report.ranker import render, write
from prunus.report.run import read
from report_pages import BROWSER, HOSTILE, WRONG, Page, assert_needs_nothing, browse, paths, put, rows_of
from report_sample import sample

OUTCOMES = ("non_inferior", "inferior", "inconclusive")
ASSETS = Path(svg.__file__).parent


PATHS = list(paths(sample()))


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(WRONG)), min_size=1, max_size=25),
    st.sampled_from(OUTCOMES),
)
def test_a_gap_in_the_result_leaves_a_gap_in_the_page(changes, outcome):
    """Whatever is missing or of a wrong kind, the page is whole and shows no None, nan or undefined."""
    result = sample(outcome)
    for path, value in changes:
        put(result, path, value)
    visible = Page(render(result)).visible
    assert not re.search(r"\b(None|nan|NaN|undefined|null|inf|Infinity)\b|\[\]|\{\}", visible)
    assert "ranker report" in visible


@pytest.mark.parametrize("key", sorted(sample()))
def test_each_part_of_the_result_may_be_missing(key):
    """The page is drawn without any one of the result's top keys."""
    result = sample()
    del result[key]
    assert Page(render(result)).all("h1")


def test_an_empty_result_makes_a_page():
    """With nothing to show, the page claims nothing."""
    page = Page(render({}))
    assert "not tested" in page.visible
    assert not page.all("svg")


@pytest.mark.parametrize("role", ["forest", "dense", "sparse", "teacher"])
def test_rows_of_a_role_may_be_missing(role):
    """A run without forests, or without students of one kind, is drawn."""
    result = sample()
    result["rows"] = [row for row in result["rows"] if row["role"] != role]
    assert Page(render(result)).all("svg")


@settings(max_examples=40)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=40)))
def test_names_from_the_data_stay_text(name):
    """A hostile name of a feature, model, query, layer, stage or engine adds no element, and is shown as it is."""
    hostile, harmless = sample(), sample()
    for result, word in ((hostile, "x" + name + "x"), (harmless, "xharmlessx")):
        result["features"]["kept"][0]["name"] = word
        result["features"]["dropped"][0] = word
        result["rows"][2]["name"] = word
        result["rows"][2]["engine"] = word
        result["layers"][0]["name"] = word
        result["layers"][0]["kernel"] = word
        result["queries"]["worst"][0]["qid"] = word
        result["queries"]["by_length"][0]["documents"] = word
        result["machine"]["cpu"] = word
        result["recipe"]["budget"] = word
        result["verdict"]["metric"] = word
    page = Page(render(hostile))
    assert page.count() == Page(render(harmless)).count()
    assert clean("x" + name + "x") in [text for tag, text in page.texts if tag == "bdi"]
    assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)


def test_names_of_keys_stay_text():
    """Names that the run itself makes up, such as those of stages and of the recipe's fields, are escaped as well."""
    result = sample()
    result["recipe"] = {"<b>": {"<i>": 1}}
    result["seconds"] = {"<u>": 2.0}
    result["machine"] = {"<q>": "<s>"}
    result["metric"] = "<em>@10"
    assert not {"b", "i", "u", "q", "s", "em"} & Page(render(result)).count().keys()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_page_needs_nothing_but_itself(outcome):
    """No element loads anything, links stay in the page, and the policy allows its own style and script alone."""
    assert_needs_nothing(render(sample(outcome)))


def test_the_same_result_gives_the_same_page():
    """Nothing of the clock, of chance or of an earlier page is in a page."""
    first = render(sample())
    render(sample("inferior"))
    assert render(sample()) == first


def test_the_page_survives_json():
    """A result read back from result.json draws the same page as the dict that was written."""
    assert render(json.loads(json.dumps(sample()))) == render(sample())


def test_the_table_holds_the_numbers_of_the_result():
    """Each row of the table carries its figures exactly, and shows them rounded, with p99 beside each time."""
    result = sample()
    shown = rows_of(render(result), "models")
    assert len(shown) == len(result["rows"])
    for row in result["rows"]:
        cells = next(cells for cells in shown if row["name"] in cells[0][0])
        texts, exact = [text for text, _ in cells], [value for _, value in cells]
        assert exact[1] == repr(row["ndcg@10"])
        assert texts[1].strip() == f"{row['ndcg@10']:.4f}"
        assert [float(value) for value in exact[3:6]] == list(row["us_per_doc"].values())
        for text, p99 in zip(texts[3:6], row["p99_us_per_doc"].values(), strict=True):
            assert f"p99 {form.us(p99, '')}" in text
        assert float(exact[6]) == pytest.approx(13.14 / row["us_per_doc"]["128"])
        assert float(exact[7]) == row["bytes"]
        assert exact[8:] == [None if row[key] is None else repr(row[key]) for key in ("nonzeros", "features_used")]
        if row["role"] != "teacher":
            assert exact[2] == repr(row["difference"])
            assert form.interval(row["lower"], row["upper"]) in texts[2]


def test_the_other_tables_hold_the_numbers_of_the_result():
    """Layers, features, slices and stages stand in their tables with their exact values."""
    result = sample()
    content = render(result)
    assert [row[2][1] for row in rows_of(content, "layers")] == [repr(layer["nonzeros"]) for layer in result["layers"]]
    assert [row[1][1] for row in rows_of(content, "features")] == [
        repr(item["share"]) for item in result["features"]["kept"][:15]
    ]
    assert [row[4][1] for row in rows_of(content, "queries")] == [
        repr(item["difference"]) for item in result["queries"]["by_length"]
    ]
    names = re.findall(r"<li><bdi>([^<]*)</bdi></li>", content)
    assert names == result["features"]["dropped"]
    for seconds in result["seconds"].values():
        assert f'data-sort="{seconds!r}"' in content


def test_conventions_stand_on_the_page():
    """The metric's convention, the number of queries left out, the timing rule and the meaning of a KB are said."""
    visible = Page(render(sample())).visible
    for words in (
        "gain 2^label",
        "37 in the test data",
        "one thread",
        "median of interleaved runs",
        "1 KB is 1,000 bytes",
        "nDCG(dcg='exp-log2', empty='skip')@10",
        "two-sided 95 %",
        "one-sided 95 %",
    ):
        assert words in visible


def said(result) -> str:
    """Everything that the head of a page says."""
    words = headline(read(result))
    return " ".join((words.sentence, words.lede, *words.findings))


def test_the_headline_of_a_good_run():
    """Quality and speed stand in one sentence, and the smallest forest that ranks as well right below."""
    words = headline(read(sample()))
    assert words.sentence == "The small model ranks as well as the teacher and scores 31 times faster."
    assert (
        words.lede == "Against the smallest forest that itself ranks as well (100 trees), it is still 13 times faster."
    )


@pytest.mark.parametrize(
    ("outcome", "words", "never"),
    [
        ("inferior", "scores 31 times faster but ranks worse than the teacher", "as well as the teacher."),
        (
            "inconclusive",
            "it is not settled whether it ranks as well as the teacher",
            "ranks as well as the teacher and",
        ),
        ("inconclusive", "about 2,311 queries would show it with a probability of 80 %", "as well as the teacher and"),
        ("inconclusive", "These 434 queries cannot tell", "as well as the teacher and"),
    ],
)
def test_the_headline_of_other_outcomes_is_honest(outcome, words, never):
    """What was not shown is not claimed, and an open outcome says how many queries it would take."""
    text = said(sample(outcome))
    assert words in text
    assert never not in text


def test_an_open_outcome_with_enough_queries_says_so():
    """Where the queries would be enough for an equally good model, more queries are not promised to help."""
    result = sample("inconclusive")
    result["verdict"]["queries_for_80_power"] = 200
    assert "probably a little worse" in said(result)


def test_a_smaller_forest_that_wins_is_named_in_the_headline():
    """A forest that ranks as well and scores faster than the chosen model takes the small model's glory."""
    result = sample()
    forest = next(row for row in result["rows"] if row["trees"] == 100)
    forest["us_per_doc"] = {"20": 0.3, "128": 0.2, "1000": 0.2}
    words = headline(read(result))
    assert words.sentence.endswith("a forest of 100 trees ranks as well and is faster still.")
    assert not words.lede
    assert any("Cutting the forest to 100 trees is the simpler way" in item for item in words.findings)


def test_a_dense_student_that_wins_is_called_dense():
    """Where the dense student was chosen, the headline says dense and a finding says that it won."""
    result = sample()
    for row in result["rows"]:
        row["chosen"] = row["name"] == "dense 32x16"
    words = headline(read(result))
    assert words.sentence.startswith("The small dense model ranks as well")
    assert any(item.startswith("A dense student won") for item in words.findings)
    assert any(
        "sparse 200x100x50, 1740 nonzeros is both better and no slower (0.5654 in 0.421" in item
        for item in words.findings
    )


@pytest.mark.parametrize(
    ("us", "words"),
    [
        (13.14, "and scores in the same time"),
        (26.28, "but scores 2.0 times slower"),
        (1.46, "and scores 9.0 times faster"),
        (0.0131, "1,003 times faster"),
    ],
)
def test_the_headline_says_the_speed_as_it_is(us, words):
    """Slower is called slower, and a ratio below ten keeps a decimal."""
    result = sample()
    next(row for row in result["rows"] if row["chosen"])["us_per_doc"] = {"128": us}
    assert words in headline(read(result)).sentence


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"us_per_doc": 0.5, "batch": 128}, "0.5 \N{MICRO SIGN}s a document at batch 128: kept, with 0.421"),
        ({"us_per_doc": 0.4, "batch": 128}, "kept within 10 %"),
        ({"us_per_doc": 0.1, "batch": 128}, "exceeded, with 0.421"),
        ({"us_per_doc": 0.9, "batch": 20}, "at batch 20: kept, with 0.800"),
        ({"bytes": 20_000}, "The budget was 20.0 KB: exceeded, with 20.1 KB"),
        ({"bytes": 20_120}, "kept, with 20.1 KB"),
    ],
)
def test_the_budget_is_held_against_what_was_measured(budget, words):
    """A budget of time is compared at its own batch size, one of bytes with the file."""
    assert words in said(sample() | {"budget": budget})


def test_a_forest_that_beats_an_inferior_model_is_named():
    """Even where neither ranks as well as the teacher, a forest that is better and faster than the model is told."""
    result = sample("inferior")
    forest = next(row for row in result["rows"] if row["trees"] == 50)
    forest["us_per_doc"] = {"128": 0.3}
    assert "A forest of 50 trees is both better on these test data and no slower (0.5499 in 0.300" in said(result)


def test_no_forest_that_ranks_as_well_is_said():
    """Where no smaller forest passes, the page says so, and praises nothing when the model does not pass itself."""
    for outcome, words in (("non_inferior", "no simpler way"), ("inferior", "as well as the teacher either.")):
        result = sample(outcome)
        result["rows"] = [row for row in result["rows"] if row["role"] != "forest" or row["trees"] <= 50]
        assert words in said(result)


def test_the_chosen_model_is_inside_the_frontier_however_bad_it_is():
    """What lies far below the teacher is drawn at the lower edge, but never the chosen model."""
    result = sample("inferior")
    chosen = next(row for row in result["rows"] if row["chosen"])
    chosen |= {"ndcg@10": 0.45, "difference": -0.11312, "lower": -0.12, "upper": -0.10}
    labels = re.findall("<text[^>]*point[^>]*>([^<]*)</text>", render(result))
    assert not any("200x100x50" in words and "\N{DOWNWARDS ARROW}" in words for words in labels)
    assert any(
        "\N{DOWNWARDS ARROW}" in words for words in re.findall("<text[^>]*point[^>]*>([^<]*)</text>", render(sample()))
    )


def test_the_rows_own_test_decides_which_forest_ranks_as_well():
    """A forest whose row says non_inferior counts, whatever its two-sided interval says, and the other way round."""
    result = sample()
    for row in result["rows"]:
        if row["role"] == "forest":
            row["outcome"] = "non_inferior" if row["trees"] == 50 else "inconclusive"
    assert read(result).rival_forest.trees == 50
    for row in result["rows"]:
        row.pop("outcome", None)
    assert read(result).rival_forest.trees == 100


def test_charts_are_well_formed_and_described():
    """Each chart is XML with finite coordinates, a title and a description, drawn for wide and for narrow pages."""
    charts = re.findall(r'<svg viewBox="[^"]*" role="img".*?</svg>(?=<|$)', render(sample()), re.DOTALL)
    content = render(sample())
    page = Page(content)
    described = [attributes for attributes in page.all("svg") if attributes.get("role") == "img"]
    assert len(described) == 2 + 3 * 2 + 3
    ids = {attributes["id"]: name for name, attributes in page.elements if "id" in attributes}
    for attributes in described:
        title, description = (attributes["aria-labelledby"] or "").split()
        assert (ids[title], ids[description]) == ("title", "desc")
    assert charts
    for match in re.finditer(r' (?:x|y|x1|y1|x2|y2|cx|cy|r|width|height|points)="([^"]*)"', content):
        assert re.fullmatch(r"[-0-9., ]*", match.group(1)), match.group(0)


def test_every_point_of_the_frontier_is_drawn_and_explained():
    """The chart at batch 128 holds one mark with a spoken title for each model, and a ring around the chosen one."""
    result = sample()
    content = render(result)
    chart = content[content.index("Quality against time at batch 128") :]
    chart = chart[: chart.index("Quality against time at batch 1000")].split('role="img"')[0]
    titles = re.findall(r"<g><title>([^<]*)</title>", chart)
    assert len(titles) == len(result["rows"])
    for row in result["rows"]:
        spoken = next(title for title in titles if title.startswith(row["name"] + ": "))
        assert f"nDCG@10 {row['ndcg@10']:.4f}" in spoken
        assert form.us(row["us_per_doc"]["128"]) in spoken
    assert chart.count('class="ring"') == 1


POINT = st.tuples(st.floats(0, 300), st.floats(0, 200))


@given(st.lists(st.tuples(POINT, st.text("abcdefgh ", min_size=1, max_size=20)), min_size=1, max_size=14))
def test_labels_never_cover_one_another(points):
    """However points crowd, two labels that were placed share no area and none leaves the chart."""
    area = svg.Box(0, 0, 300, 200)
    labels = svg.Labels(area, 12, [point for point, _ in points])
    placed = [labels.place(*point, words) for point, words in points]
    drawn = sum(bool(label) for label in placed)
    boxes = [box for box in labels._taken if box.right - box.left > 6.5]
    assert len(boxes) == drawn
    assert all(box.inside(area) for box in boxes)
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))


@given(st.floats(1e-4, 1e4), st.floats(1.05, 1e6), st.integers(3, 9))
def test_log_ticks_lie_inside_and_rise(low, ratio, about):
    """Ticks of a logarithmic axis lie inside it, rise, and are not many more than asked for unless powers alone are."""
    ticks = svg.log_ticks(low, low * ratio, about)
    assert all(low * 0.998 <= tick <= low * ratio * 1.002 for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= max(about + 1, math.log10(ratio * 1.005) + 1)  # ends are met to two parts in a thousand


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 9))
def test_linear_ticks_lie_inside_and_rise(low, span, about):
    """Ticks of a straight axis lie inside it and rise by one step."""
    ticks = svg.linear_ticks(low, low + span, about)
    room = span * 1e-3
    assert all(low - room <= tick <= low + span + room for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= about * 2.5 + 2


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (form.us(0.4213), "0.421 \N{MICRO SIGN}s"),
        (form.us(13.14), "13.1 \N{MICRO SIGN}s"),
        (form.us(9.999), "10.0 \N{MICRO SIGN}s"),
        (form.us(0.03127), "0.0313 \N{MICRO SIGN}s"),
        (form.us(1234.5), "1,234 \N{MICRO SIGN}s"),
        (form.us(None), "\N{EN DASH}"),
        (form.signed(0.00231), "+0.0023"),
        (form.signed(-0.00231), "\N{MINUS SIGN}0.0023"),
        (form.signed(-0.000001), "0.0000"),
        (form.signed_percent(-0.021), "\N{MINUS SIGN}2.1 %"),
        (form.percent(0.048), "4.8 %"),
        (form.percent(1.0), "100 %"),
        (form.size(20_120), "20.1 KB"),
        (form.size(999), "999 B"),
        (form.size(1_874_211), "1.87 MB"),
        (form.times(9.96), "10"),
        (form.times(3.14), "3.1"),
        (form.duration(41.2), "41 s"),
        (form.duration(164.3), "2 min 44 s"),
        (form.duration(7500), "2 h 05 min"),
        (form.counted(1, "query", "queries"), "1 query"),
        (form.whole(1740), "1,740"),
    ],
)
def test_numbers_are_written_one_way(written, expected):
    """Units, signs, thousands and digits are the same all over the page."""
    assert written == expected


def luminance(colour: str) -> float:
    """Relative luminance of a colour, as WCAG defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "least"),
    [
        *(("ink", back, 7.0) for back in ("paper", "raised", "marked")),
        *(("soft", back, 4.5) for back in ("paper", "raised", "marked")),
        ("brand", "paper", 4.5),
        *((tone, f"{tone}-soft", 4.5) for tone in ("good", "bad", "open")),
        *((role, "paper", 3.0) for role in ("teacher", "forest", "sparse", "dense", "other")),
        *(("ink", back, 7.0) for back in ("good-soft", "bad-soft")),
    ],
)
def test_colours_have_contrast(scheme, front, back, least):
    """Text has the contrast that WCAG AA asks for, and marks that of graphics, in the light and in the dark."""
    palettes = re.findall(r":root \{([^}]*--ink[^}]*)\}", (ASSETS / "page.css").read_text(encoding="utf-8"))
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", palettes[scheme]))
    light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


def test_headings_and_tables_are_announced():
    """One main heading, no level skipped, a caption for each table and a scope for each of its headings."""
    content = render(sample())
    levels = [int(name[1]) for name, _ in Page(content).elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    tables = re.findall(r"<table[^>]*>.*?</table>", content, re.DOTALL)
    assert tables
    assert all(re.match(r"<table[^>]*><caption>[^<]+</caption>", table) for table in tables)
    assert all("scope" in attributes for attributes in Page(content).all("th"))


def test_the_page_is_written_where_asked(tmp_path):
    """The file holds the page, replaces an older one, and nothing else is left in the folder."""
    target = tmp_path / "report.html"
    target.write_text("older")
    assert write(sample(), str(target)) == target
    assert target.read_text(encoding="utf-8") == render(sample())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("failing", ["fsync", "write"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch, failing, error):
    """A full disk or an interrupt leaves the older page as it was, and no part of the new one."""
    target = tmp_path / "report.html"
    target.write_text("older")

    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(os, failing, fail)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write(sample(), target)
    if expected is OutputError:
        assert "No space left" in str(caught.value)
        assert str(target) in str(caught.value)
    assert target.read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """Writing into a missing folder is an OutputError that names the file."""
    with pytest.raises(OutputError, match=r"missing.report\.html"):
        write(sample(), tmp_path / "missing" / "report.html")


PROBE = """<!DOCTYPE html><meta charset="utf-8"><body><pre id="out">waiting</pre><script>
const ALL = "allow-same-origin allow-scripts", STILL = "allow-same-origin", found = [];
const frames = [[1280, ALL], [400, ALL], [320, ALL], [1280, STILL], [400, STILL]];
let open = frames.length;
for (const [width, sandbox] of frames) {
  const frame = document.createElement("iframe");
  if (sandbox === STILL) frame.setAttribute("sandbox", sandbox);
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.onload = () => {
    const page = frame.contentDocument;
    const root = page.documentElement;
    const shown = (node) => node.getClientRects().length > 0;
    const view = {
      width, scripts: sandbox === ALL, inner: root.clientWidth, scroll: Math.max(root.scrollWidth, page.body.scrollWidth),
      headline: page.querySelector("h1").textContent, charts: [...page.querySelectorAll("svg.chart")].filter(shown).length,
      verdict: shown(page.querySelector("#verdict svg.chart.wide")), background: getComputedStyle(page.body).backgroundColor,
      type: Math.min(...[...page.querySelectorAll("svg.chart text")].filter(shown).map((node) => node.getBoundingClientRect().height)),
      outside: [...page.querySelectorAll("main *")].filter((node) => shown(node) && !node.closest(".scroll, svg") && node.getBoundingClientRect().right > width + 1).map((node) => node.className || node.tagName),
      buttons: page.querySelectorAll("th button").length,
    };
    const tab = page.querySelector("label[for=tab0]");
    tab.click();
    view.panel = shown(page.querySelector(".panel0")) && !shown(page.querySelector(".panel1"));
    const head = page.querySelectorAll("#models thead th")[1];
    const column = () => [...page.querySelectorAll("#models tbody tr")].map((row) => Number(row.cells[1].dataset.sort));
    if (view.buttons) { head.firstChild.click(); view.up = column(); head.firstChild.click(); view.down = column(); }
    found.push(view);
    if (--open === 0) document.getElementById("out").textContent = JSON.stringify(found);
  };
  frame.src = "report.html";
  document.body.append(frame);
}
</script>"""


@pytest.mark.long
@pytest.mark.skipif(BROWSER is None, reason="no browser: install Debian's chromium")
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_real_browser_shows_the_page(tmp_path, outcome):
    """Chromium draws headline and charts without a console message and without sideways overflow, scripts on and off."""
    report = write(sample(outcome), tmp_path / "report.html")
    dom, log = browse(tmp_path, report.name, "--dump-dom")
    assert "CONSOLE" not in log, [line for line in log.splitlines() if "CONSOLE" in line]
    assert headline(read(sample(outcome))).sentence in dom
    assert 'class="chart wide"' in dom

    (tmp_path / "probe.html").write_text(PROBE, encoding="utf-8")
    dom, log = browse(
        tmp_path, "probe.html", "--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=15000"
    )
    # a frame without scripts says that it blocked them: that is what it is for
    console = [line for line in log.splitlines() if "CONSOLE" in line and "sandboxed" not in line]
    assert not console
    views = json.loads(
        re.search(r'<pre id="out">(.*?)</pre>', dom, re.DOTALL).group(1).replace("&lt;", "<").replace("&amp;", "&")
    )
    assert len(views) == 5
    for view in views:
        assert view["inner"] == view["width"]
        assert view["scroll"] <= view["width"], view
        assert view["outside"] == []
        assert view["headline"] == headline(read(sample(outcome))).sentence
        assert view["charts"] == 1 + 1 + 3
        assert view["verdict"] == (view["width"] > 700)
        assert view["background"] == "rgb(253, 253, 251)", "the style was refused or is another"
        assert view["type"] >= 10, "type in a chart is too small to read"
        assert view["panel"], "the tabs of the frontier do not work"
        assert bool(view["buttons"]) == view["scripts"]
        if view["scripts"]:
            assert view["up"] == sorted(view["up"])
            assert view["down"] == view["up"][::-1]


@pytest.mark.long
@pytest.mark.skipif(BROWSER is None, reason="no browser: install Debian's chromium")
def test_a_real_browser_runs_no_script_of_the_data(tmp_path):
    """Markup in names is drawn as text, and even a script that got into the page would be refused."""
    result = sample()
    attack = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    result["features"]["kept"][0]["name"] = attack
    result["rows"][1]["name"] = attack
    path = write(result, tmp_path / "report.html")
    dom, log = browse(tmp_path, path.name, "--dump-dom")
    assert "<title>taken" not in dom
    assert "CONSOLE" not in log
    forced = path.read_text(encoding="utf-8").replace("</main>", attack + "</main>")
    (tmp_path / "forced.html").write_text(forced, encoding="utf-8")
    dom, log = browse(tmp_path, "forced.html", "--dump-dom")
    assert "<title>taken" not in dom
    assert "Content Security Policy" in log
