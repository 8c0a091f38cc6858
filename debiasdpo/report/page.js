"use strict";
// Tables are sorted by their heads and filtered by a word. Without scripts all is shown as it is.
for (const table of document.querySelectorAll("table.rows")) {
  const bodies = [...table.tBodies];
  const rows = body => [...body.rows].filter(row => !row.classList.contains("section"));
  const valueOf = row => (row.cells[sorted] ? row.cells[sorted].dataset.value ?? row.cells[sorted].textContent.trim() : "");
  let sorted = -1;
  const compare = (a, b) => {
    const [x, y] = [valueOf(a), valueOf(b)];
    if ((x === "") !== (y === "")) return x === "" ? 1 : -1;  // what does not exist stands last
    const [p, q] = [Number(x), Number(y)];
    return Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y) : p - q;
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sorted = column;
      for (const body of bodies) {
        const ordered = rows(body).sort(compare);
        if (down) ordered.reverse();
        body.append(...ordered);
      }
    });
  });
  if (bodies.reduce((count, body) => count + rows(body).length, 0) < 5) continue;
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "filter rows";
  field.setAttribute("aria-label", "filter rows of: " + table.parentElement.getAttribute("aria-label"));
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const body of bodies) {
      const head = body.querySelector(".section")?.textContent ?? "";
      for (const row of rows(body)) {
        const said = (head + " " + row.textContent).toLowerCase();
        row.hidden = !words.every(word => said.includes(word));
      }
      body.hidden = rows(body).every(row => row.hidden);
    }
  });
  table.parentElement.before(field);
}
