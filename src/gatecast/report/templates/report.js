"use strict";
(() => {
  const read = (id) => document.getElementById(id).textContent;
  const source = read("figures");
  const colours = JSON.parse(read("colours"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false, displayModeBar: false, showSendToCloud: false, plotlyServerURL: "" };
  const chart = document.getElementById("candles");
  const choice = document.getElementById("symbol");
  const spans = [...document.querySelectorAll("[data-bars]")];
  let figures = {};

  const themed = () => {
    let text = source;
    if (dark.matches)
      for (const role of Object.keys(colours.light))
        text = text.replaceAll(colours.light[role], colours.dark[role]);
    figures = JSON.parse(text);
  };

  // The last `count` bars (0: all) and the fan, with the price axis fitted to what is in view.
  const view = (figure, count) => {
    const labels = figure.layout.xaxis.categoryarray;
    const place = new Map(labels.map((label, i) => [label, i]));
    const start = count ? Math.max(0, labels.length - count) : 0;
    const prices = [];
    for (const trace of figure.data) {
      if (trace.yaxis) continue;
      (trace.x || []).forEach((label, i) => {
        if (place.get(label) < start) return;
        for (const list of [trace.y, trace.low, trace.high])
          if (list && list[i] != null) prices.push(list[i]);
      });
    }
    figure.layout.xaxis.range = [start - 0.5, labels.length - 0.5];
    figure.layout.xaxis.nticks = innerWidth < 640 ? 3 : 7;
    if (prices.length) {
      const low = prices.reduce((a, b) => Math.min(a, b)), high = prices.reduce((a, b) => Math.max(a, b));
      const pad = 0.04 * (high - low || 1);
      figure.layout.yaxis.range = [low - pad, high + pad];
    }
    return figure;
  };

  const candles = () => {
    if (!chart) return;
    const pressed = spans.find((button) => button.getAttribute("aria-pressed") === "true");
    const figure = figures.candles[choice.value];
    if (figure) {
      view(figure, Number(pressed.dataset.bars));
      Plotly.react(chart, figure.data, figure.layout, config);
    }
  };

  const everything = () => {
    themed();
    candles();
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = figures[place.dataset.figure];
      Plotly.react(place, figure.data, figure.layout, config);
    }
  };

  if (innerWidth < 640 && spans.length) spans.forEach((button, i) => button.setAttribute("aria-pressed", String(i === 0)));
  if (choice) choice.addEventListener("change", candles);
  for (const button of spans)
    button.addEventListener("click", () => {
      for (const other of spans) other.setAttribute("aria-pressed", String(other === button));
      candles();
    });
  dark.addEventListener("change", everything);
  everything();
})();
