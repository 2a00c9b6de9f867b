"use strict";
// Columns sort at a click, folded parts open for printing. Without this script the page loses nothing else.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const key = (row) => row.cells[column].dataset.sort ?? null;
    const words = (row) => row.cells[column].textContent.trim();
    if (![...body.rows].some((row) => words(row))) return;
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = [...body.rows].some((row) => key(row) !== null);
      const order = (a, b) => {
        if (!numeric) return words(a).localeCompare(words(b), "en", { numeric: true }) * (down ? -1 : 1);
        if (key(a) === null || key(b) === null) return (key(a) === null) - (key(b) === null);
        return (Number(key(a)) - Number(key(b))) * (down ? -1 : 1);
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
