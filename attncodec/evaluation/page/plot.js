"use strict";
// The plot of curves: a small SVG of our own, drawn anew when its width, its metric or its curves change.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

/** Make an element with attributes and children; text becomes a text node, so that no name is ever read as HTML. */
function make(name, attributes = {}, ...children) {
  const inSvg = ["svg", "g", "path", "line", "text", "circle"].includes(name);
  const element = inSvg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Curves differ in colour, in dashes and in markers, so that colour alone never tells them apart.
const COLOURS = 8;
const DASHES = ["", "7 3", "2 3", "10 3 2 3", "5 5", "12 4", "1 4", "8 3 2 3 2 3"];
const MARKERS = [
  "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
  "M-4,-4H4V4H-4Z",
  "M0,-5L5,4H-5Z",
  "M0,-5.5L5.5,0L0,5.5L-5.5,0Z",
  "M0,5L5,-4H-5Z",
  "M-1.5,-5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5V-1.5H-1.5Z",
  "M0,-5L5,-1L3,5H-3L-5,-1Z",
];
const LINE_OF = (style) => ({ stroke: `var(--c${style % COLOURS})`, "stroke-dasharray": DASHES[style % DASHES.length] });
const MARKER_OF = (style) => ({ d: MARKERS[style % MARKERS.length], fill: `var(--c${style % COLOURS})`, class: "marker" });
const MARGIN = { left: 52, right: 14, top: 24, bottom: 42 };
const X_TICK = 80, Y_TICK = 40; // the least pixels between ticks that do not stand at powers of ten
const NEAR = 40; // pixels from the pointer to a point that it reads

const plotState = { number: 0, labels: new Map(), hidden: new Set(), points: [], chosen: null };

const plotNow = () => DATA.plots[plotState.number];
const shownCurves = () => plotNow().curves.filter((curve) => !plotState.hidden.has(curve.name));
const joined = (separator, ...parts) => parts.filter(Boolean).join(separator);
const tell = (axis, value) => joined(" ", axis.title, value.toFixed(axis.decimals), axis.unit);
const titleOf = (axis) => joined(", ", axis.title, axis.unit, axis.log && "log scale");

/** Return round numbers in a range, about `count` of them: 1, 2 or 5 times a power of ten, and `apart` at least, apart. */
function ticks(low, high, count, apart) {
  const rough = Math.max((high - low) / count, apart), power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough), found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at++) found.push(Number((at * step).toPrecision(6)));
  return found;
}

/** Return 1, 2 and 5 times the powers of ten in a range. */
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const digit of [1, 2, 5]) found.push(Number((digit * 10 ** power).toPrecision(6)));
  return found.filter((value) => value >= low && value <= high);
}

/** Return the ticks of an axis, and a map from its values to the pixels between `from` and `to`. */
function scale(axis, values, from, to, tickPixels) {
  const most = Math.max(...values), least = Math.min(...values), room = 0.05 * (most - least) || 0.5;
  const [low, high] = axis.log ? [least * 0.95, most * 1.05] : [least - room, most + room];
  const of = axis.log ? Math.log : (value) => value;
  const at = (value) => from + ((of(value) - of(low)) / (of(high) - of(low))) * (to - from);
  const found = axis.log ? logTicks(low, high) : [], count = Math.max(2, Math.abs(to - from) / tickPixels);
  return { at, ticks: found.length > 1 ? found : ticks(low, high, count, 10 ** -axis.decimals) };
}

function drawPlot() {
  const box = byId("plot"), plot = plotNow(), curves = shownCurves();
  const width = box.clientWidth, height = Math.max(280, Math.min(460, width * 0.6));
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  plotState.points = [];
  const all = curves.flatMap((curve) => curve.points);
  if (all.length) {
    const x = scale(plot.x, all.map((point) => point[0]), MARGIN.left, width - MARGIN.right, X_TICK);
    const y = scale(plot.y, all.map((point) => point[1]), height - MARGIN.bottom, MARGIN.top, Y_TICK);
    drawAxes(svg, plot, width, height, x, y);
    // The first curves are the subject, so they are drawn last and lie on top.
    curves.forEach((curve, row) => drawCurve(svg, curve, row, x.at, y.at));
  }
  svg.append(make("circle", { id: "plot-mark", r: 9, visibility: "hidden" }));
  box.replaceChildren(svg);
}

function drawAxes(svg, plot, width, height, x, y) {
  const bottom = height - MARGIN.bottom, right = width - MARGIN.right;
  for (const value of x.ticks) {
    svg.append(make("line", { class: "grid", x1: x.at(value), x2: x.at(value), y1: MARGIN.top, y2: bottom }));
    svg.append(make("text", { x: x.at(value), y: bottom + 18, "text-anchor": "middle" }, String(value)));
  }
  for (const value of y.ticks) {
    svg.append(make("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y.at(value), y2: y.at(value) }));
    svg.append(make("text", { x: MARGIN.left - 8, y: y.at(value) + 4, "text-anchor": "end" }, String(value)));
  }
  svg.append(make("text", { x: 4, y: 14 }, titleOf(plot.y)));
  svg.append(make("text", { x: right, y: height - 6, "text-anchor": "end" }, titleOf(plot.x)));
}

function drawCurve(svg, curve, row, x, y) {
  const at = curve.points.map((point) => [x(point[0]), y(point[1])]);
  const group = make("g", { class: curve.published ? "published" : "" });
  group.append(make("path", { class: "curve", d: `M${at.map((point) => point.join(",")).join("L")}`, ...LINE_OF(curve.style) }));
  at.forEach(([left, top], column) => {
    if (curve.marked) group.append(make("path", { transform: `translate(${left},${top})`, ...MARKER_OF(curve.style) }));
    plotState.points.push({ left, top, row, column, curve, values: curve.points[column] });
  });
  svg.prepend(group);
  svg.prepend(...svg.querySelectorAll(".grid")); // The grid stays behind all curves.
}

/** Mark a point and tell its values; the output is a live region, so that screen readers say them too. */
function choosePoint(point) {
  plotState.chosen = point;
  const mark = byId("plot-mark");
  mark.setAttribute("visibility", point ? "visible" : "hidden");
  if (!point) return;
  mark.setAttribute("cx", point.left);
  mark.setAttribute("cy", point.top);
  const { x, y } = plotNow(), [across, up] = point.values;
  byId("plot-value").textContent = `${point.curve.name}: ${tell(x, across)}, ${tell(y, up)}`;
}

function nearestPoint(left, top, among = plotState.points) {
  const distance = (point) => Math.hypot(point.left - left, point.top - top);
  return among.reduce((best, point) => (!best || distance(point) < distance(best) ? point : best), null);
}

function readPointer(event) {
  const box = byId("plot").getBoundingClientRect();
  const left = event.clientX - box.left, top = event.clientY - box.top, point = nearestPoint(left, top);
  if (point && Math.hypot(point.left - left, point.top - top) <= NEAR) choosePoint(point);
}

function readKey(event) {
  const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key] || 0, across = { ArrowUp: -1, ArrowDown: 1 }[event.key] || 0;
  if (!plotState.points.length || !(along || across)) return;
  event.preventDefault();
  const now = plotState.chosen;
  if (!now) return choosePoint(plotState.points[0]);
  const rows = shownCurves().length, row = (now.row + across + rows) % rows;
  const among = plotState.points.filter((point) => point.row === row);
  const column = Math.max(0, Math.min(among.length - 1, now.column + along));
  choosePoint(across ? nearestPoint(now.left, now.top, among) : among[column]);
}

function redrawPlot() {
  for (const [name, label] of plotState.labels) label.hidden = !plotNow().curves.some((curve) => curve.name === name);
  byId("plot-more").hidden = !byId("plot-more").querySelector("label:not([hidden])");
  drawPlot();
  choosePoint(null);
}

function startPlot() {
  DATA.plots.forEach((plot, number) => {
    const input = make("input", { type: "radio", name: "plot-metric", value: number });
    input.checked = number === 0;
    input.addEventListener("change", () => { plotState.number = number; redrawPlot(); });
    byId("plot-metric").append(make("label", {}, input, plot.title));
  });
  const curves = new Map(DATA.plots.flatMap((plot) => plot.curves).map((curve) => [curve.name, curve]));
  for (const curve of curves.values()) {
    const input = make("input", { type: "checkbox" });
    input.checked = curve.drawn;
    if (!curve.drawn) plotState.hidden.add(curve.name);
    input.addEventListener("change", () => {
      plotState.hidden[input.checked ? "delete" : "add"](curve.name);
      redrawPlot();
    });
    const sample = make("svg", { width: 34, height: 14, viewBox: "-17 -7 34 14", "aria-hidden": "true" },
      make("path", { class: "curve", d: "M-17,0H17", ...LINE_OF(curve.style) }));
    if (curve.marked) sample.append(make("path", MARKER_OF(curve.style)));
    plotState.labels.set(curve.name, make("label", {}, input, sample, curve.name));
  }
  for (const [name, label] of plotState.labels) byId(curves.get(name).drawn ? "plot-curves" : "plot-more").append(label);
  byId("plot-curves").append(byId("plot-more"));
  byId("plot").addEventListener("pointermove", readPointer);
  byId("plot").addEventListener("pointerdown", readPointer);
  byId("plot").addEventListener("keydown", readKey);
  new ResizeObserver(redrawPlot).observe(byId("plot"));
  redrawPlot();
}

if (DATA.plots.length) startPlot();
