// Draws every <div data-chart="kind" data-figure="{…}">. Colours come from the style sheet, so that light and dark agree
// with the page; each drawing stands beside a table with the same numbers.

const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");

function ink() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    paper: read("--paper"), raised: read("--raised"), ink: read("--ink"), faint: read("--faint"), rule: read("--rule"),
    strong: read("--strong-rule"), accent: read("--accent"), band: read("--band"), final: read("--final"),
    failed: read("--failed"), pending: read("--pending"), text: read("--text"), mono: read("--mono"),
  };
}

function tooltip(colours, formatter) {
  // Rich text is drawn on the canvas: no markup is made from what others wrote on the chain.
  return {
    renderMode: "richText", backgroundColor: colours.paper, borderColor: colours.strong, borderWidth: 1,
    textStyle: { color: colours.ink, fontFamily: colours.text, fontSize: 14 }, formatter, confine: true,
  };
}

function radar(figure, colours, element) {
  const axes = figure.axes;
  const centre = [element.clientWidth / 2, element.clientHeight / 2];
  const radius = Math.min(centre[0] - 88, centre[1] - 40);
  const at = (score, position) => {
    const angle = Math.PI / 2 + (2 * Math.PI * position) / axes.length;
    const far = (radius * score) / 1_000_000;
    return [centre[0] + far * Math.cos(angle), centre[1] - far * Math.sin(angle)];
  };
  // One outline: round the high ends, then back round the low ends, so that the grid shows through the middle of the ring.
  const outer = axes.map((axis, i) => at(axis.high, i));
  const inner = axes.map((axis, i) => at(axis.low, i)).reverse();
  const band = [...outer, outer[0], inner.at(-1), ...inner];
  return {
    graphic: [{ type: "polygon", silent: true, z: 1, shape: { points: band }, style: { fill: colours.band } }],
    radar: {
      indicator: axes.map((axis) => ({ name: axis.label, min: 0, max: 1_000_000, color: axis.weak ? colours.failed : colours.ink })),
      center: centre, radius, axisNameGap: 8,
      axisName: { fontFamily: colours.text, fontSize: 13, lineHeight: 16, width: 104, overflow: "break" },
      splitNumber: 4, splitArea: { show: false }, splitLine: { lineStyle: { color: colours.rule } },
      axisLine: { lineStyle: { color: colours.rule } },
    },
    series: [{
      type: "radar", silent: true, z: 3, symbol: "circle", symbolSize: 5, itemStyle: { color: colours.accent },
      lineStyle: { width: 1.5, color: colours.accent }, data: [{ value: axes.map((axis) => axis.value) }],
    }],
  };
}

function network(figure, colours) {
  const symbols = { validator: "diamond", owner: "rect", publisher: "rect" };
  const state = { answers: colours.final, silent: colours.failed, unknown: colours.faint };
  return {
    tooltip: tooltip(colours, (item) => item.data.detail ?? ""),
    series: [{
      type: "graph", layout: "circular", circular: { rotateLabel: !narrow.matches }, left: 96, right: 96, top: 80, bottom: 80,
      data: figure.nodes.map((node) => ({
        name: node.identifier, detail: node.detail, link: node.link, label: { formatter: node.label },
        symbol: symbols[node.kind] ?? "circle", symbolSize: node.kind === "validator" ? 16 : 12,
        itemStyle: { color: node.alive === "unknown" ? colours.paper : state[node.alive], borderColor: state[node.alive], borderWidth: 2 },
      })),
      links: figure.links.map((link) => ({
        source: link.source, target: link.target,
        lineStyle: link.kind === "connection" ? { color: colours.rule, width: 1 } : { color: colours.accent, width: 2, opacity: 0.6 },
      })),
      lineStyle: { curveness: 0.12 },
      label: { show: true, position: "right", color: colours.ink, fontFamily: colours.text, fontSize: 13 },
    }],
  };
}

function sankey(figure, colours) {
  return {
    tooltip: tooltip(colours, (item) => item.dataType === "edge" ? `${item.data.source_label} → ${item.data.target_label}\n${item.data.amount}` : item.data.label_text),
    series: [{
      type: "sankey", left: 8, right: narrow.matches ? 104 : 136, top: 16, bottom: 16, nodeWidth: 12, nodeGap: 16, draggable: false, layoutIterations: 32,
      data: figure.nodes.map((node) => ({ name: node.identifier, label_text: node.label, label: { formatter: node.label } })),
      links: figure.links, emphasis: { focus: "adjacency" },
      itemStyle: { color: colours.accent, borderWidth: 0 }, lineStyle: { color: colours.accent, opacity: 0.22, curveness: 0.5 },
      label: { color: colours.ink, fontFamily: colours.text, fontSize: 13, width: narrow.matches ? 96 : 128, overflow: "break" },
    }],
  };
}

function history(figure, colours) {
  return {
    tooltip: { ...tooltip(colours, (items) => items.map((item) => `${item.seriesName}: ${item.data.said}`).join("\n")), trigger: "axis" },
    legend: { bottom: 0, textStyle: { color: colours.ink, fontFamily: colours.text } },
    grid: { left: 48, right: 16, top: 16, bottom: 64 },
    xAxis: { type: "time", axisLine: { lineStyle: { color: colours.strong } }, axisLabel: { color: colours.faint, fontFamily: colours.text } },
    yAxis: { min: 0, max: 1_000_000, interval: 250_000, splitLine: { lineStyle: { color: colours.rule } }, axisLabel: { color: colours.faint, fontFamily: colours.text, formatter: (value) => (value / 1e6).toFixed(2) } },
    color: [colours.accent, colours.final, colours.pending, colours.failed, colours.strong],
    series: figure.series.map((one) => ({ name: one.label, type: "line", step: "end", symbolSize: 6, data: one.points.map((point) => ({ value: [point.at * 1000, point.score], said: point.said })) })),
  };
}

function spending(figure, colours) {
  const points = figure.points.map((point) => [point.at * 1000, point.value / 1e6]);
  return {
    tooltip: { ...tooltip(colours, (items) => `ε ${items[0].data[1].toFixed(3)}`), trigger: "axis" },
    grid: { left: 48, right: 24, top: 24, bottom: 40 },
    xAxis: { type: "time", axisLine: { lineStyle: { color: colours.strong } }, axisLabel: { color: colours.faint, fontFamily: colours.text, hideOverlap: true } },
    yAxis: { min: 0, max: Math.max(figure.allowed / 1e6, ...points.map((point) => point[1])) * 1.1, splitLine: { lineStyle: { color: colours.rule } }, axisLabel: { color: colours.faint, fontFamily: colours.text, formatter: (value) => value.toFixed(1) } },
    series: [{
      type: "line", step: "end", symbol: "circle", symbolSize: 6, data: points, itemStyle: { color: colours.accent }, lineStyle: { color: colours.accent, width: 2 }, areaStyle: { color: colours.accent, opacity: 0.12 },
      markLine: { silent: true, symbol: "none", data: [{ yAxis: figure.allowed / 1e6 }], lineStyle: { color: colours.failed, type: "dashed" }, label: { position: "insideEndTop", color: colours.failed, fontFamily: colours.text, formatter: (line) => `ε ${line.value}` } },
    }],
  };
}

function shares(figure, colours) {
  const parts = [...figure.parts].reverse();
  return {
    tooltip: tooltip(colours, (item) => `${item.name}: ε ${item.value.toFixed(3)}`),
    grid: { left: 112, right: 56, top: 8, bottom: 32 },
    xAxis: { type: "value", splitLine: { lineStyle: { color: colours.rule } }, axisLabel: { color: colours.faint, fontFamily: colours.text, hideOverlap: true } },
    yAxis: { type: "category", data: parts.map((part) => part.label), axisLine: { lineStyle: { color: colours.strong } }, axisLabel: { color: colours.ink, fontFamily: colours.text, width: 100, overflow: "truncate" } },
    series: [{
      type: "bar", barMaxWidth: 24, label: { show: true, position: "right", color: colours.ink, fontFamily: colours.text, formatter: (item) => item.value.toFixed(3) },
      data: parts.map((part) => ({ value: part.value / 1e6, itemStyle: { color: part.left ? colours.final : colours.accent } })),
    }],
  };
}

const drawings = { radar, network, sankey, history, spending, shares };

function draw(element) {
  const colours = ink();
  const figure = JSON.parse(element.dataset.figure);
  const options = drawings[element.dataset.chart](figure, colours, element);
  const chart = echarts.getInstanceByDom(element) ?? echarts.init(element, null, { renderer: "canvas" });
  chart.setOption({ animation: false, ...options }, { notMerge: true });
  chart.resize();
  chart.off("click");
  chart.on("click", (item) => { if (item.data?.link) location.assign(item.data.link); });
}

function drawAll(root) {
  for (const element of root.querySelectorAll("[data-chart]")) draw(element);
}

function redraw() {
  drawAll(document);
}

document.fonts.ready.then(redraw);
dark.addEventListener("change", redraw);
narrow.addEventListener("change", redraw);
document.addEventListener("htmx:load", (event) => { if (event.target !== document.body) drawAll(event.target); });

let width = document.body.clientWidth;
new ResizeObserver(() => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  redraw();
}).observe(document.body);
