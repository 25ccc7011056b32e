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
  if (table && find) {
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

  // Commands: a button that copies each, where the browser lets a page do so.
  for (const one of navigator.clipboard ? document.querySelectorAll(".commands code") : []) {
    const copy = document.createElement("button");
    copy.type = "button";
    copy.textContent = "Copy";
    copy.addEventListener("click", async () => { await navigator.clipboard.writeText(one.textContent); copy.textContent = "Copied"; });
    one.after(copy);
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
  const signed = (value, text) => (Number(text) ? `${value < 0 ? "−" : "+"}${text}` : text);  // what rounds to nothing has no sign
  const begun = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const plain = (value) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(3);
  const percent = (value) => (value == null ? "–" : signed(value, (100 * Math.abs(value)).toFixed(2)) + " %");
  const newest = () => { let asked = 0; return () => { const own = ++asked; return () => own === asked; }; };
  const saying = newest(), whying = newest();  // the answer to an earlier click may come last
  const say = async (label, close) => {
    const current = saying();
    const query = new URLSearchParams({ symbol: clicked.dataset.symbol, from: close, to: close });
    const answer = await fetch(`/api/decisions?${query}`);
    const { decisions: [own] = [], horizon } = await answer.json();
    if (!current()) return;
    clicked.classList.add("said");
    if (!own) { clicked.textContent = `${label}: no decision of this close is among the newest of the store.`; return; }
    const came = own.came_return_log == null ? own.missing.came_return_log : `${percent(own.came_return_log)} came`;
    const range = own.low_80 == null ? "" : `, log return, 80 % between ${percent(own.low_80)} and ${percent(own.high_80)}`;
    clicked.textContent = `${label}: expected over ${horizon} bars ${percent(own.expected_return_log)}${range}; ${came}. Strategy in force: ${own.strategy_title}${own.gate ? `, its gate “${own.gate}”` : ""}.${own.reason ? ` ${begun(own.reason.replace(/\.$/, ""))}.` : ""}`;
  };
  if (clicked && chart)
    chart.addEventListener("drawn", ({ detail: { time, closes } }) => chart.on("plotly_click", (event) => {
      const label = String(event.points[0].x), close = closes[time.indexOf(label)];
      if (close) look(label, close);  // else beyond the newest bar
    }), { once: true });

  // The same of a close in the table, without a pointer; and the way back.
  const back = by("newest"), unclicked = clicked && clicked.textContent;
  let from = null;
  const look = (label, close) => {
    say(label, close);
    if (explaining) explain(close);
    if (back) back.hidden = false;
  };
  if (clicked)
    for (const cell of document.querySelectorAll("#closes [data-close]")) {
      const choose = document.createElement("button"), label = cell.textContent;
      choose.type = "button";
      choose.textContent = label;
      choose.title = "What was forecast and explained of this close";
      choose.addEventListener("click", () => {
        from = choose;
        look(label, cell.dataset.close);
        clicked.scrollIntoView({ block: "center" });
        back.focus({ preventScroll: true });
      });
      cell.replaceChildren(choose);
    }
  if (back)
    back.addEventListener("click", () => {
      saying();  // an answer on its way is not of the newest close
      clicked.classList.remove("said");
      clicked.textContent = unclicked;
      if (explaining) explain("");
      back.hidden = true;
      (from || by("jump")).focus();
    });

  // Why: the steps from the models' votes to what is held, and what models and inputs add; of a bar that is clicked, too.
  const fill = (table, rows) => {
    const heads = [...table.tHead.rows[0].cells];
    table.tBodies[0].replaceChildren(...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, place) => {
        const cell = row.insertCell();
        cell.textContent = text;
        cell.className = heads[place].className || "words";
        if (place) cell.dataset.name = heads[place].textContent;
      });
      return row;
    }));
  };
  const ago = (lag) => (lag ? ` ${lag} bar${lag > 1 ? "s" : ""} ago` : "");
  const adds = (head, value) => (value == null ? "–" : head === "volatility" ? signed(value, Math.abs(value).toFixed(3)) : percent(value));
  const said = (head, value) => (head === "return" || value == null ? adds(head, value) : head === "volatility" ? value.toFixed(3).replace("-", "−") : `${(100 * value).toFixed(1)} %`);
  const shown = (step) => !["", "rounding"].includes(step.gate) || Math.abs(step.change) >= 5e-5 || ["ensemble", "cash"].includes(step.name);
  const tells = (model) => model.parts.length > 0 || Math.abs(model.adds || 0) >= 5e-6;
  const explaining = by("explained");
  const explain = async (close) => {
    const current = whying(), path = `/api/symbols/${encodeURIComponent(explaining.dataset.symbol).replace(/^\.\.?$/, "$&%2F")}/explain`;
    const answer = await fetch(close ? `${path}?${new URLSearchParams({ time: close })}` : path);
    const { explanation: one, titles = {}, reason, error } = await answer.json();
    if (!current()) return;
    by("explained-parts").hidden = !one;
    if (!one) { by("explained-said").textContent = error || reason; return; }
    const named = (name) => titles[name] || name.replaceAll("_", " "), { decision, horizon } = one;
    const came = one.came == null ? ` What came is not known: ${one.not_come}.` : ` Came: ${percent(one.came)}.`;
    const order = decision.order == null ? "" : ` Held at this close ${percent(decision.before)}, order ${percent(decision.order)}, held after it ${percent(decision.held)}.`;
    const gate = decision.gate ? ` Cut most by: ${decision.gate_sentence || decision.gate}.` : "";
    const known = Object.entries(one.known).map(([name, value]) => `${one.known_words[name]} ${String(Number(value.toPrecision(4))).replace(/^-/, "−")}`).join("; ");
    by("explained-said").textContent = `${one.caution ? `${one.caution} ` : ""}Close of ${one.time.slice(0, 16)} UTC, the next ${horizon} bars, refitted ${one.refit.slice(0, 10)}.${one.since ? ` ${one.since}` : ""}${known ? ` Known: ${known}.` : ""}${came}${order}${one.heads.map((head) => head.simple_words).filter(Boolean).map((words) => ` ${words}`).join("")}${gate}`;
    fill(by("explained-steps"), decision.steps.filter(shown).map((step) => [
      step.of ? `${step.name}: ${named(step.of)}` : step.name, step.words, percent(step.change), percent(step.after),
      step.gate ? `${step.gate}: ${step.sentence}` : "",
    ]));
    by("explained-heads").hidden = !one.heads.some((head) => head.models.some(tells));
    const sums = (head) => head.models.map(((sum) => (model) => (sum += model.adds || 0))(0));
    const spread = (head, value) => (head.standard_deviation == null ? "" : ` (s.d. from close to close ${(100 * head.standard_deviation * Math.exp((value - head.value) / 2)).toFixed(2)} %)`);
    fill(by("explained-models"), one.heads.flatMap((head) => head.models.map((model, place) => ({ ...model, sum: sums(head)[place] })).filter(tells).map((model) => [
      head.head, named(model.model), said(head.head, model.value),
      model.adds == null ? "" : model.model === head.starts_from ? "the start" : adds(head.head, model.adds),
      model.adds == null ? "" : said(head.head, model.sum) + spread(head, model.sum),
      model.parts.map((part) => `${part.part}: ${part.inputs.slice(0, 3).map((input) => `${input.input}${ago(input.lag)} ${adds(head.head, input.adds)}`).join("; ")}`).join(". "),
    ])));
  };
  if (explaining) explain("");

  const changes = by("changes");
  if (changes)
    fetch("/api/changes").then((answer) => answer.json()).then(({ changes: rows = [], titles = {} }) => {
      changes.hidden = rows.length === 0;
      const share = (value) => `${(100 * value).toFixed(1)} %`;
      fill(by("changes-table"), rows.map((one) => [
        one.asset_class, one.head, titles[one.model] || one.model, one.part,
        ...(one.refitted ? [one.stability.toFixed(2),
        one.between_seeds == null ? "–" : one.between_seeds.toFixed(2),
        one.moved.slice(0, 3).map((each) => `${each.input}${ago(each.lag)} ${share(each.before)} to ${share(each.now)}${each.turned ? ", the other way round" : ""}`).join("; "),
        ] : ["not refitted", "–", "there was no refit of it: it is the fit before"]),
      ]));
    });
})();
