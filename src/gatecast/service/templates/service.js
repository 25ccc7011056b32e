"use strict";
(() => {
  const by = (id) => document.getElementById(id);

  // A new record is told by the server; the page stays as it is until the reader asks for the new one.
  const live = by("live"), news = by("news"), record = Number(document.body.dataset.record);
  if (live && window.EventSource) {
    const events = new EventSource("/events");
    const mark = (on) => { live.classList.toggle("on", on); live.classList.toggle("off", !on); };
    events.addEventListener("open", () => mark(true));
    events.addEventListener("error", () => mark(false));
    events.addEventListener("record", (message) => {
      const told = JSON.parse(message.data);
      mark(!told.error);
      if (told.record > record) news.hidden = false;
    });
    addEventListener("pagehide", () => events.close());
  }

  // The table of all symbols: find one.
  const table = by("all"), find = by("find");
  if (table) {
    const rows = [...table.tBodies[0].rows];
    find.addEventListener("input", () => {
      const text = find.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        row.hidden = !row.dataset.text.includes(text);
        shown += !row.hidden;
      }
      by("found").textContent = `${shown} symbol${shown === 1 ? "" : "s"}`;
    });
  }

  // The page of a symbol: another one by the list or by the arrow keys; a click on a bar says what was decided there.
  const jump = by("jump");
  if (jump) {
    jump.addEventListener("change", () => jump.form.submit());
    addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
      const link = { ArrowLeft: by("previous"), ArrowRight: by("next") }[event.key];
      if (link) link.click();
    });
  }
  const clicked = by("clicked"), chart = by("candles");
  const percent = (value) => (value == null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(2)} %`);
  const say = async (label) => {
    const day = label.slice(0, 10), next = new Date(Date.parse(day) + 864e5).toISOString().slice(0, 10);
    const query = new URLSearchParams({ symbol: clicked.dataset.symbol, from: day, to: `${next}T12:00`, limit: "5" });
    const answer = await fetch(`/api/decisions?${query}`);
    const { decisions: told = [], horizon } = await answer.json();
    const own = told.filter((one) => one.time.slice(0, 10) >= day).pop();
    clicked.classList.add("said");
    if (!own) { clicked.textContent = `${label}: the store had not decided of this close.`; return; }
    const came = own.came_return_log == null ? "not all of these bars have come" : `${percent(own.came_return_log)} came`;
    const range = own.low_80 == null ? "" : `, 80 % between ${percent(own.low_80)} and ${percent(own.high_80)}`;
    clicked.textContent = `${label}: expected over ${horizon} bars ${percent(own.expected_return_log)}${range}; ${came}. ${own.strategy}, decided by “${own.gate}”. ${own.reason || ""}`;
  };
  if (clicked && chart)
    chart.addEventListener("drawn", () => chart.on("plotly_click", (event) => say(String(event.points[0].x))), { once: true });
})();
