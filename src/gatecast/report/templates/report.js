"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const colours = JSON.parse(by("colours").textContent);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const dark = () => scheme.matches && !printing;
  const narrow = () => innerWidth < 640;
  const config = { responsive: true, displaylogo: false, displayModeBar: false, showSendToCloud: false, plotlyServerURL: "" };
  const chart = by("candles");
  // On paper a chart is as wide as its column, in pixels of the page, and lower; on a screen as wide as what it stands in.
  const sized = (place, height, low = Math.round(0.7 * height)) => (
    printing ? { height: low, width: place.closest("figure").matches(".grid > :not(.wide, :only-child)") ? 312 : 660 } : { height }
  );
  const picks = [...document.querySelectorAll("[data-pick]")];
  const spans = [...document.querySelectorAll("[data-bars]")];
  let source = "{}", figures = {}, charts = {};

  const themed = () => {
    let text = source;
    if (dark())
      for (const role of Object.keys(colours.light))
        text = text.replaceAll(colours.light[role], colours.dark[role]);
    ({ figures, candles: charts } = JSON.parse(text));
  };

  // The data of all figures is compressed: bytes in base64 -> text.
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  };

  const plain = (text) => String(text).replace(/[&<>]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[one]);
  // On a small screen a long name stands in lines of at most 36 characters.
  const named = (text) => (narrow() ? plain(text).replace(/(.{1,36})(?: +|$)/g, "$1<br>").replace(/<br>$/, "") : plain(text));
  const number = (value) => Number(value.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 6 });
  const last = (list) => list[list.length - 1];

  // First place and place after the last of each run of true.
  const stretches = (there) => {
    const found = [];
    there.forEach((one, i) => {
      if (one && !there[i - 1]) found.push([i, i]);
      if (one) last(found)[1] = i + 1;
    });
    return found;
  };

  const small = () => (printing ? 10 : 12);
  const axis = (own) => ({
    showgrid: false, zeroline: false, automargin: true, ticks: "", tickfont: { color: colour("quiet"), size: small() },
    gridcolor: colour("line"), ticklabelstandoff: 6, fixedrange: true, ...own,
  });
  const colour = (role) => colours[dark() ? "dark" : "light"][role];
  const title = (text, y) => ({
    text, x: 0, y, xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false,
    font: { size: small(), color: colour("quiet") },
  });
  const shade = (x, y, name, fillcolor, line = { width: 0 }) => (
    { type: "scatter", mode: "lines", x, y, name, line, fill: "toself", fillcolor, hoverinfo: "skip" }
  );

  // What was forecast for each close, one standard deviation to each side.
  const pastBand = (time, past) => {
    const x = [], y = [];
    for (const [start, end] of stretches(past.low.map((low, i) => low != null && past.high[i] != null))) {
      x.push(...time.slice(start, end), ...time.slice(start, end).reverse(), null);
      y.push(...past.high.slice(start, end), ...past.low.slice(start, end).reverse(), null);
    }
    const name = `forecast ${past.step} bars before, ± 1 s.d.`;
    return x.length ? [shade(x, y, name, colour("unsure") + "2e", { color: colour("unsure") + "66", width: 0.6 })] : [];
  };

  const fanOf = (fan, labels) => {
    const x = fan.step.map((step) => labels[fan.origin + step]);
    const traces = [[2, "1f"], [1, "33"]].filter(([n]) => fan[`low_${n}`]).map(([n, alpha]) => ({
      ...shade([...x, ...[...x].reverse()], [...fan[`high_${n}`], ...[...fan[`low_${n}`]].reverse()], fan.bands[n - 1], colour("accent") + alpha),
      showlegend: false,
    }));
    return [...traces, { type: "scatter", mode: "lines", x, y: fan.path, name: `${plain(fan.title)} path`, line: { color: colour("accent"), width: 2 } }];
  };

  // Arrows below the bars where a signal is bullish, above where it is bearish; hollow where it was not traded.
  const arrows = (data) => {
    const ranges = data.high.map((high, i) => high - data.low[i]).filter(Number.isFinite).sort((a, b) => a - b);
    const away = 0.9 * (ranges[ranges.length >> 1] || 0);
    const found = [];
    for (const [sign, name, edge, symbol] of [[1, "bullish", "low", "triangle-up"], [-1, "bearish", "high", "triangle-down"]])
      for (const traded of [true, false]) {
        const at = data.signal.flatMap((one, i) => (one === sign && data.traded[i] === traded && data[edge][i] != null ? [i] : []));
        if (at.length)
          found.push({
            type: "scatter", mode: "markers", name: `${name}, ${traded ? "traded" : "not traded"}`,
            x: at.map((i) => data.time[i]), y: at.map((i) => data[edge][i] - sign * away), customdata: at.map((i) => data.z[i]),
            marker: {
              symbol: symbol + (traded ? "" : "-open"), size: at.map((i) => (data.consensus[i] ? 10 : 7)), opacity: 1,
              color: colour(traded ? "ink" : "quiet"), line: { width: 1, color: colour(traded ? "ink" : "quiet") },
            },
            hovertemplate: "z %{customdata}",
          });
      }
    return found;
  };

  // The panels below the price, from the bottom: name -> room.
  const panels = (data) => {
    const rooms = { strategy: [0, 0.045], weight: [0.1, 0.2] };
    return data.volume ? { ...rooms, volume: [0.26, 0.35], price: [0.42, 1] } : { ...rooms, price: [0.27, 1] };
  };

  // What was decided at a close stands until the next decision.
  const standing = (list) => {
    const end = list.findLastIndex((one) => one != null);
    let before = null;
    return list.map((one, i) => (i > end ? one : (before = one ?? before)));
  };

  const draw = (data, count) => {
    const { time, fan, past } = data, room = panels(data);
    const beyond = fan ? Math.max(0, fan.origin + last(fan.step) - time.length + 1) : 0;
    const labels = [...time, ...Array.from({ length: beyond }, (_, i) => `+${i + 1}`)];
    const start = count ? Math.max(0, labels.length - count) : 0;
    const up = data.close.map((close, i) => close >= data.open[i]);
    const traces = [...(past ? pastBand(time, past) : []), ...(fan ? fanOf(fan, labels) : [])];
    traces.push({
      type: "candlestick", x: time, open: data.open, high: data.high, low: data.low, close: data.close,
      name: plain(data.symbol), showlegend: false,
      increasing: { line: { color: colour("good"), width: 1 }, fillcolor: colour("card") },
      decreasing: { line: { color: colour("bad"), width: 1 }, fillcolor: colour("bad") },
    }, ...arrows(data));
    if (data.volume)
      traces.push({
        type: "bar", x: time, y: data.volume, yaxis: "y4", name: "volume", showlegend: false,
        marker: { color: up.map((one) => colour(one ? "good" : "bad") + "88"), line: { width: 0 } },
      });
    // What the book holds; what the strategies have by themselves where they have something, or there is no book.
    const there = (list) => list.filter((one) => one != null);
    const strategies = standing(data.strategy);
    const booked = there(data.held).length > 0, alone = !booked || there(data.weight).some((one) => one !== 0);
    const decided = [...(booked ? [["held", "held"]] : []), ...(alone ? [["weight", "the strategies alone"]] : [])];
    const weights = decided.flatMap(([list]) => there(data[list]));
    for (const [list, name] of weights.length ? decided : []) {
      const own = list === "held" || !booked;
      traces.push({
        type: "scatter", mode: "lines", x: time, y: standing(data[list]), yaxis: "y2", name, showlegend: false,
        line: { color: colour(own ? "ink" : "accent"), width: 1.2, shape: "hv", dash: own ? "solid" : "dot" },
        ...(own ? { fill: "tozeroy", fillcolor: colour("grey") + "33" } : {}),
      });
    }
    const positions = booked ? `held${narrow() ? "" : " by the book"}${alone ? "; dotted: the strategies alone" : ""}` : "position of the strategies";
    for (const strategy of new Set(there(strategies.slice(start)))) {
      const x = time.filter((_, i) => strategies[i] === strategy);
      traces.push({
        type: "bar", x, y: x.map(() => 1), width: 1, yaxis: "y3", legend: "legend2", hovertemplate: "in force",
        name: named(data.titles[strategy] || strategy.replaceAll("_", " ")),
        marker: { color: figures.looks[strategy] || colour("unsure"), line: { width: 0 } },
      });
    }
    const place = new Map(labels.map((label, i) => [label, i]));
    const prices = traces.filter((one) => !one.yaxis).flatMap((one) => one.x.flatMap((label, i) => (
      place.get(label) >= start ? [one.y, one.low, one.high].map((list) => list && list[i]).filter((y) => y != null) : []
    )));
    const low = prices.reduce((a, b) => Math.min(a, b), Infinity), high = prices.reduce((a, b) => Math.max(a, b), -Infinity);
    const pad = 0.04 * (high - low || 1);
    const legend = { orientation: "h", x: 0, y: 1, xanchor: "left", yanchor: "bottom", font: { color: colour("quiet"), size: small() } };
    const layout = {
      template: "none", ...sized(chart, narrow() ? 580 : 640, 330), bargap: 0.15, barmode: "stack", hovermode: "x unified", dragmode: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
      paper_bgcolor: "#0000", plot_bgcolor: "#0000", margin: { l: 8, r: 8, t: 36, b: 8 },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
      legend, legend2: { ...legend, y: -0.07, yanchor: "top" },
      xaxis: axis({
        type: "category", categoryorder: "array", categoryarray: labels, nticks: narrow() ? 3 : 7, tickangle: 0,
        rangeslider: { visible: false }, anchor: "y3", range: [start - 0.5, labels.length - 0.5],
      }),
      yaxis: axis({ domain: room.price, side: "right", showgrid: true, nticks: 6, range: prices.length ? [low - pad, high + pad] : undefined }),
      yaxis2: axis({
        domain: room.weight, side: "right", tickformat: ".0%", zeroline: true, zerolinecolor: colour("line"),
        tickvals: [...new Set([0, Math.min(0, ...weights), Math.max(0, ...weights)])],
      }),
      yaxis3: axis({ domain: room.strategy, visible: false, range: [0, 1] }),
      shapes: past ? stretches(past.turbulent).map(([from, to]) => ({
        type: "rect", x0: from - 0.5, x1: to - 0.5, y0: 0, y1: 1, xref: "x", yref: "y domain", layer: "below",
        line: { width: 0 }, fillcolor: colour("grey") + "30",
      })) : [],
      annotations: [title(positions, room.weight[1]), title("strategy in force", room.strategy[1])],
    };
    if (data.volume) {
      const seen = data.volume.slice(start).filter((one) => one != null);
      layout.yaxis4 = axis({ domain: room.volume, side: "right", nticks: printing ? 2 : 3, range: [0, Math.max(...seen, 1)] });
      layout.annotations.push(title("volume", room.volume[1]));
    }
    if (data.since) layout.annotations.push({ ...title(plain(data.since), 0.99), x: 0.99, xanchor: "right", yanchor: "top" });
    return { traces, layout };
  };

  // What the picture of a symbol shows, in a sentence, for those who do not see it.
  const told = (data, count) => {
    const shown = Math.min(count || data.time.length, data.time.length), at = data.time.length - 1;
    const lows = data.low.slice(-shown).filter((one) => one != null), highs = data.high.slice(-shown).filter((one) => one != null);
    const signal = { 1: "bullish", "-1": "bearish" }[data.signal[at]] || "no";
    const path = data.fan ? ` Expected in ${last(data.fan.step)} bars: ${number(last(data.fan.path))}` : "";
    const around = path && data.fan.low_2 ? `, ${data.fan.bands[1]} ${number(last(data.fan.low_2))} to ${number(last(data.fan.high_2))}` : "";
    return `${data.symbol}: ${shown} bars from ${data.time[data.time.length - shown]} to ${data.time[at]}, between ` +
      `${number(Math.min(...lows))} and ${number(Math.max(...highs))}, the last close ${number(data.close[at])}; ${signal} signal.` +
      `${path}${around}${path ? "." : ""}${data.since ? ` ${data.since}.` : ""}`;
  };

  const candles = () => {
    const data = chart && charts[chart.dataset.symbol];
    if (!data) return;
    const count = Number(spans.find((button) => button.getAttribute("aria-pressed") === "true").dataset.bars);
    const { traces, layout } = draw(data, count);
    chart.setAttribute("aria-label", told(data, count));
    Plotly.react(chart, traces, layout, config).then(() => chart.dispatchEvent(new CustomEvent("drawn", { detail: data })));
  };

  // Figures that are folded away are drawn when they are unfolded.
  const picture = (place) => {
    const figure = figures[place.dataset.figure];
    if (figure) Plotly.react(place, figure.data, { ...figure.layout, ...sized(place, figure.layout.height) }, config);
  };
  const pictures = (within) => [...within.querySelectorAll("[data-figure]")].filter((place) => place.checkVisibility());
  const everything = () => {
    themed();
    candles();
    pictures(document).forEach(picture);
  };
  addEventListener("toggle", ({ target }) => { if (target.open) pictures(target).forEach(picture); }, true);

  const press = (buttons, pressed) => buttons.forEach((one) => one.setAttribute("aria-pressed", String(one === pressed)));
  for (const button of spans)
    button.addEventListener("click", () => { press(spans, button); candles(); });
  for (const button of picks)
    button.addEventListener("click", () => {
      press(picks, button);
      chart.dataset.symbol = button.dataset.pick;
      candles();
    });

  // The symbols beside the chart: what is typed is found in their names; Enter shows the first.
  const find = by("find-symbol");
  if (find) {
    find.addEventListener("input", () => {
      const text = find.value.trim().toLowerCase();
      for (const one of picks) one.parentElement.hidden = !one.dataset.text.includes(text);
      const shown = picks.filter((one) => !one.parentElement.hidden).length;
      by("found-symbols").textContent = `${shown} of ${picks.length}`;
    });
    find.addEventListener("keydown", (event) => {
      const first = event.key === "Enter" && picks.find((one) => !one.parentElement.hidden);
      if (first) first.click();
    });
  }

  // The section that is being read is marked in the navigation.
  const links = new Map([...document.querySelectorAll('nav a[href^="#"]')].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) links.get(target.id).classList.toggle("here", isIntersecting);
  }, { rootMargin: "-30% 0px -69% 0px" });
  for (const id of links.keys()) if (by(id)) seen.observe(by(id));

  // What a link leads to is unfolded.
  const unfold = (target) => {
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    const own = target.querySelector(":scope > details");
    if (own) own.open = true;
    target.scrollIntoView();
  };
  addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]'), target = link && by(link.hash.slice(1));
    if (target) unfold(target);
  });
  if (location.hash && by(location.hash.slice(1))) unfold(by(location.hash.slice(1)));

  // On paper colours are those of a light screen.
  for (const [event, paper] of [["beforeprint", true], ["afterprint", false]])
    addEventListener(event, () => { printing = paper; everything(); });

  if (narrow() && spans.length) press(spans, spans[0]);
  scheme.addEventListener("change", everything);
  unpack(JSON.parse(by("drawings").textContent)).then((text) => { source = text; everything(); });
})();
