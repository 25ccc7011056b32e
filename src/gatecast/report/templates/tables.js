"use strict";
// Every table of a page: sorted by a click on a heading, saved as CSV, and on a narrow screen one block a row.
(() => {
  const text = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
  const plain = (shown) => shown.replaceAll("−", "-").replace(/(\d),(?=\d{3})/g, "$1").replace(/\s+%$/, " %");
  const NUMBER = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/;

  // Rows as they belong together: a row, and the lines of words below it.
  const groups = (body) => {
    const found = [];
    for (const row of body.rows)
      if (row.classList.contains("why") && found.length) found[found.length - 1].push(row);
      else found.push([row]);
    return found;
  };

  const valueOf = (row, column, kind) => {
    const cell = row.cells[column];
    const shown = cell ? cell.dataset.value ?? text(cell) : "";
    if (kind === "text") return shown.toLowerCase();
    const value = parseFloat(plain(shown).replace(/^\+/, ""));
    if (Number.isNaN(value)) return -Infinity;
    return kind === "size" ? Math.abs(value) : value;
  };

  const sortable = (table, heads) => {
    const body = table.tBodies[0];
    heads.forEach((head, column) => {
      if (!text(head)) return;
      const kind = head.dataset.kind || (head.classList.contains("n") ? "number" : "text");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.sort = kind;
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", head.getAttribute("aria-sort") || "none");
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort"), down = before === "none" ? kind !== "text" : before === "ascending";
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sorted = groups(body).sort(([a], [b]) => {
          const x = valueOf(a, column, kind), y = valueOf(b, column, kind);
          return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
        });
        body.append(...sorted.flat());
      });
    });
  };

  // A column of percentages has its unit in the heading and numbers below it; text that a spreadsheet might take for
  // a formula is kept text.
  const csvOf = (heads, rows) => {
    const cells = rows.map((row) => [...row.cells].map((cell) => plain(cell.dataset.exact ?? text(cell)).replace(/^–$/, "")));
    const titles = heads.map((head) => text(head).replace(/ [↑↓]$/, "") || "Name");
    titles.forEach((title, column) => {
      const own = cells.map((row) => row[column] || "").filter((one) => one);
      if (!own.length || !own.every((one) => one.endsWith(" %") && NUMBER.test(one.slice(0, -2)))) return;
      titles[column] = `${title}, %`;
      for (const row of cells) if (row[column]) row[column] = row[column].slice(0, -2);
    });
    const quoted = (one) => {
      const safe = /^[=+\-@\t]/.test(one) && !NUMBER.test(one) ? `'${one}` : one.replace(/^\+/, "");
      return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return [titles, ...cells].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  };

  const nameOf = (table) => {
    const panel = table.closest("details, .panel, section");
    const title = panel && panel.querySelector("h2, h3, summary");
    return table.dataset.csv || (title ? text(title) : document.title);
  };

  const exportable = (table, heads) => {
    const name = nameOf(table), button = document.createElement("button");
    button.type = "button";
    button.className = "csv";
    button.textContent = "Save as CSV";
    button.setAttribute("aria-label", `Save as CSV: ${name}`);
    button.addEventListener("click", () => {
      const rows = groups(table.tBodies[0]).map(([row]) => row);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(["\uFEFF", csvOf(heads, rows)], { type: "text/csv" }));
      link.download = `${name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "table"}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    const place = table.closest(".scroll") || table;
    place.after(button);
  };

  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || !table.tBodies.length) continue;
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells], fixed = table.classList.contains("fixed");
    if (fixed && table.dataset.csv) exportable(table, heads);
    if (fixed) continue;
    if ((heads.length > 3 && !table.classList.contains("slim")) || table.classList.contains("stacked")) {
      if (!table.classList.contains("stacked")) table.classList.add("stacked", ...(table.matches(".rests, .plain") ? [] : ["blocks"]));
      const names = heads.map(text);
      for (const row of table.tBodies[0].rows)
        [...row.cells].forEach((cell, column) => {
          if (column && !cell.dataset.name && cell.colSpan === 1 && names[column]) cell.dataset.name = names[column];
        });
    }
    if (table.tBodies[0].rows.length < 2) continue;
    exportable(table, heads);
    sortable(table, heads);
  }
  // On a narrow screen a long table shows its first rows until all are asked for, or one is looked for.
  const FIRST = 12;
  for (const table of innerWidth < 640 ? document.querySelectorAll("table.stacked:not(.newest)") : []) {
    const rows = table.tBodies.length ? table.tBodies[0].rows.length : 0;
    if (rows < 2 * FIRST) continue;
    const button = document.createElement("button"), find = document.querySelector(`[aria-controls="${table.id || "-"}"]`);
    const whole = () => { table.classList.remove("short"); button.remove(); };
    button.type = "button";
    button.className = "csv";
    button.textContent = `Show all ${rows} rows`;
    button.addEventListener("click", whole);
    if (find) find.addEventListener("input", whole);
    table.classList.add("short");
    (table.closest(".scroll") || table).after(button);
  }
  // What is read first stays open there, too.
  if (innerWidth < 640) for (const panel of document.querySelectorAll("details.panel[open]:not(.stays)")) panel.open = false;
})();
