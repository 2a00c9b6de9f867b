"""Pages taken apart: what the tests of every report look at."""

from __future__ import annotations

import base64
import copy
import hashlib
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """A page taken apart: its elements in order, its text, and whether every element is closed where it must be."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == [], f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        assert len(dict(attrs)) == len(attrs), f"an attribute stands twice in {tag} {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        """Close the element that is open."""
        assert self._open.pop() == tag

    def handle_data(self, data):
        """Note text and what it stands in."""
        self.texts.append((self._open[-1] if self._open else "", data))

    @property
    def visible(self) -> str:
        """All text that a reader sees or hears."""
        return "\n".join(text for tag, text in self.texts if tag not in {"style", "script"})

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all elements of one name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def count(self) -> dict[str, int]:
        """How many elements of each name there are."""
        names = [name for name, _ in self.elements]
        return {name: names.count(name) for name in set(names)}


def paths(value, prefix=()):
    """Yield the path of every value in a result, and of every list and mapping."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*prefix, key)
        yield from paths(item, (*prefix, key))


REMOVED = object()
WRONG = [
    REMOVED,
    None,
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    1e300,
    "",
    "words",
    [],
    {},
    [None],
    {"x": None},
    True,
    10**400,
]


def put(result, path, value):
    """Set or remove what stands at a path; a path that an earlier change cut off is left alone."""
    for key in path[:-1]:
        try:
            result = result[key]
        except (KeyError, IndexError, TypeError):
            return
    try:
        if value is not REMOVED:
            result[path[-1]] = copy.deepcopy(value)
        elif isinstance(result, dict):
            result.pop(path[-1], None)
    except (IndexError, TypeError):
        return


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></svg><h1>x</h1>",
    "' onload='x",
    "&lt;b&gt; &amp;",
    "javascript:alert(1)",
    "\u202egnp.exe",
    "\x00\x1b[31m",
    "\ud800",
    "{{7*7}} ${x}",
    "<!-- ",
    "]]>",
]


def assert_needs_nothing(content: str) -> None:
    """Check that a page loads nothing, links into itself alone, and allows no style or script but its own."""
    page = Page(content)
    assert not page.count().keys() & {"link", "img", "iframe", "object", "embed", "base", "form", "use", "image"}
    assert not any(
        "src" in attributes or "srcset" in attributes or "style" in attributes for _, attributes in page.elements
    )
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert "http" not in content.replace("http-equiv", "")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|eval\(", content)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    for tag in ("style", "script"):
        inside = re.findall(f"<{tag}>(.*?)</{tag}>", content, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def rows_of(content: str, table: str) -> list[list[tuple[str, str | None]]]:
    """Return (text, exact value) of each cell of the first table after a heading."""
    part = content[content.index(f'id="{table}"') :]
    body = part[part.index("<tbody>") : part.index("</tbody>")]
    cells = [re.findall(r"<(?:td|th)([^>]*)>(.*?)</(?:td|th)>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]
    exact = re.compile(r'data-sort="([^"]*)"')
    return [
        [
            (re.sub("<[^>]*>", " ", text), found.group(1) if (found := exact.search(attributes)) else None)
            for attributes, text in row
        ]
        for row in cells
    ]


BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def browse(folder: Path, page: str, *options: str) -> tuple[str, str]:
    """Open a page of a folder in the browser; return its DOM and what the browser logged."""
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
    ]
    command += [
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={folder / 'profile'}",
        *options,
        f"file://{folder / page}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, done.stderr
