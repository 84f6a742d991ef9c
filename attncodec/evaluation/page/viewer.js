"use strict";
// The viewer of pictures: two versions on one stage, one divider, one zoom. All state is in `view`, and `showView`
// brings the page in line with it.

const ZOOM_MAX = 32;
const PIXELATED_FROM = 3; // From this scale on, single pixels are what one looks for.
const GRIP = 24; // pixels from the divider in which a drag moves it and not the picture
const RAMP = [[0, 32, 76], [49, 68, 107], [102, 105, 112], [149, 143, 120], [202, 185, 105], [255, 233, 69]]; // cividis

const view = { picture: 0, comparison: 0, left: 0, right: 1, mode: "slider", divider: 50, gain: 8, zoom: 1, x: 0, y: 0 };
const pointers = new Map();
let drag = null; // "divider", "picture" or "pinch"

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const picture = () => DATA.pictures[view.picture];
const comparison = () => picture().comparisons[view.comparison];
const versions = () => [{ codec: "original", src: picture().src }, ...comparison().versions];
const withBits = () => comparison().versions.find((version) => version.bits);
const fitScale = () => {
  const { width, height } = byId("stage").getBoundingClientRect();
  return Math.min(width / picture().width, height / picture().height);
};

function describe(version) {
  if (!version.figures) return "original";
  const figure = version.figures[0] === "-" ? "" : `, ${version.figures[0]} dB`; // the first metric is PSNR
  return `${version.codec}, ${version.setting}: ${version.bytes.toLocaleString("en")} bytes${figure}`;
}

function fillSelect(id, names, chosen) {
  byId(id).replaceChildren(...names.map((name, number) => make("option", { value: number }, name)));
  byId(id).value = chosen;
}

/** Take another picture or comparison. What is chosen otherwise stays, as far as it is there. */
function choosePicture() {
  view.comparison = Math.min(view.comparison, picture().comparisons.length - 1);
  const count = versions().length;
  view.left = Math.min(view.left, count - 1);
  view.right = Math.min(view.right, count - 1);
  fillSelect("comparison", picture().comparisons.map((found) => found.title), view.comparison);
  fillSelect("left", versions().map((version) => version.codec), view.left);
  fillSelect("right", versions().map((version) => version.codec), view.right);
  // The box has the shape of the picture, and no more height than the screen shows beside the controls. A picture that
  // is much higher or wider than that stands in the middle of a box that can be handled.
  const ratio = picture().width / picture().height;
  byId("stage").style.aspectRatio = `${picture().width} / ${picture().height}`;
  for (const id of ["stage", "sides"]) byId(id).style.maxWidth = `max(12rem, ${75 * ratio}vh)`;
  drawBits();
  showVersions();
  showPlaces();
  fit();
}

function fit() {
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  showView();
}

/** Zoom by a factor, and keep the place at (left, top) of the stage where it is. */
function zoomBy(factor, left = byId("stage").clientWidth / 2, top = byId("stage").clientHeight / 2) {
  const zoom = clamp(view.zoom * factor, 1, ZOOM_MAX), ratio = zoom / view.zoom;
  Object.assign(view, { zoom, x: left - (left - view.x) * ratio, y: top - (top - view.y) * ratio });
  showView();
}

function moveBy(dx, dy) {
  view.x += dx;
  view.y += dy;
  showView();
}

/** Keep an edge of the picture where the stage has no empty place, or else the picture in the middle. */
const inside = (edge, room) => (room > 0 ? room / 2 : clamp(edge, room, 0));

function setDivider(percent) {
  view.divider = clamp(percent, 0, 100);
  showView();
}

function showView() {
  const stage = byId("stage"), slider = view.mode === "slider", difference = view.mode === "difference";
  const base = fitScale(), factor = base * view.zoom;
  view.x = inside(view.x, stage.clientWidth - picture().width * factor);
  view.y = inside(view.y, stage.clientHeight - picture().height * factor);
  stage.classList.toggle("enlarged", view.zoom > 1);
  stage.classList.toggle("coarse", factor >= PIXELATED_FROM);
  stage.classList.toggle("difference", difference);
  stage.style.touchAction = view.zoom > 1 ? "none" : "pan-y"; // A finger scrolls the page until it has a picture to move.
  const shown = versions(), transform = `translate(${view.x}px, ${view.y}px) scale(${factor})`;
  const bits = view.mode === "bits" && withBits();
  for (const [side, version] of [["left", bits || shown[view.left]], ["right", shown[view.right]]]) {
    const image = byId(`image-${side}`);
    if (image.getAttribute("src") !== version.src) image.src = version.src;
    image.style.transform = transform;
    byId(`caption-${side}`).textContent = describe(version);
  }
  byId("image-right").hidden = byId("caption-right").hidden = view.mode === "bits";
  // The part is cut in the coordinates of the picture, because the transform moves it as well.
  const cut = (stage.clientWidth * view.divider / 100 - view.x) / factor;
  byId("image-right").style.clipPath = slider ? `inset(0 0 0 ${clamp(cut, 0, picture().width)}px)` : "none";
  byId("layers").style.filter = difference ? `brightness(${view.gain})` : "none";
  byId("handle").hidden = byId("divider-label").hidden = !slider;
  byId("handle").style.left = `${view.divider}%`;
  byId("gain-label").hidden = !difference;
  byId("bits").hidden = byId("bits-scale").hidden = !bits;
  byId("bits").style.transform = `translate(${view.x}px, ${view.y}px) scale(${factor * 16})`;
  byId("divider").value = view.divider;
  byId("gain-value").textContent = view.gain;
  byId("zoom-value").textContent = `${Math.round(factor * 100)} %`;
}

/** Draw a pixel for each place of the latents; the transform makes it as large as the 16 x 16 pixels it stands for. */
function drawBits() {
  const bits = withBits()?.bits, canvas = byId("bits");
  byId("mode").querySelector("[value=bits]").disabled = !bits;
  if (!bits) return;
  const most = Math.max(1, ...bits.map((row) => Math.max(...row)));
  Object.assign(canvas, { width: bits[0].length, height: bits.length });
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  bits.flat().forEach((value, number) => {
    const at = (value / most) * (RAMP.length - 1), below = Math.min(Math.floor(at), RAMP.length - 2);
    const colour = RAMP[below].map((part, channel) => part + (RAMP[below + 1][channel] - part) * (at - below));
    image.data.set([...colour, 255], 4 * number);
  });
  context.putImageData(image, 0, 0);
  byId("bits-most").textContent = `${most} bits for 16 × 16 pixels`;
  byId("bits-value").textContent = "";
}

function readBits(left, top) {
  const size = 16 * fitScale() * view.zoom;
  const column = Math.floor((left - view.x) / size), row = Math.floor((top - view.y) / size);
  const value = withBits()?.bits[row]?.[column];
  if (value !== undefined) byId("bits-value").textContent = `at ${16 * column}, ${16 * row}: ${value} bits`;
}

function showVersions() {
  const row = (tag, cells) => make("tr", {}, ...cells.map((cell, column) =>
    make(column && tag === "td" ? "td" : "th", { ...(column > 1 && { class: "number" }), ...(tag === "th" ? { scope: "col" } : !column && { scope: "row" }) }, cell)));
  const rows = comparison().versions.map((version) =>
    row("td", [version.codec, version.setting, version.bytes.toLocaleString("en"), version.bpp, ...version.figures]));
  const head = row("th", ["Codec", "Setting", "Bytes", "Bits per pixel", ...DATA.metrics]);
  byId("versions-caption").textContent = `${picture().name}, ${picture().width} × ${picture().height} pixels`;
  const missing = comparison().missing;
  byId("missing").textContent = missing.length ? `Left out, because no file of it is as asked: ${missing.join(", ")}.` : "";
  byId("versions").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

/** Show each place in all versions, cut from the pictures that the page has already. */
function showPlaces() {
  byId("places").replaceChildren(...comparison().places.map(([left, top, side], number) => {
    const button = make("button", { type: "button" }, `Enlarge place ${number + 1}`);
    button.addEventListener("click", () => lookAt(left, top, side));
    const crops = versions().map((version) => crop(version, left, top, side));
    return make("div", {}, button, make("div", { class: "crops" }, ...crops));
  }));
}

function crop(version, left, top, side) {
  const canvas = make("canvas", { width: side, height: side, role: "img", "aria-label": `${version.codec}, at ${left}, ${top}` });
  const image = new Image();
  image.onload = () => canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, side, side);
  image.src = version.src;
  return make("figure", {}, canvas, make("figcaption", {}, version.codec));
}

function lookAt(left, top, side) {
  const stage = byId("stage"), base = fitScale();
  view.zoom = clamp(stage.clientHeight / (side * base) / 1.5, 1, ZOOM_MAX);
  const factor = base * view.zoom;
  view.x = stage.clientWidth / 2 - (left + side / 2) * factor;
  view.y = stage.clientHeight / 2 - (top + side / 2) * factor;
  showView();
  stage.scrollIntoView({ block: "nearest" });
  stage.focus();
}

function placeOf(event) {
  const box = byId("stage").getBoundingClientRect();
  return { left: event.clientX - box.left, top: event.clientY - box.top };
}

function pointerDown(event) {
  const at = placeOf(event), stage = byId("stage");
  pointers.set(event.pointerId, at);
  stage.setPointerCapture(event.pointerId);
  const near = Math.abs(at.left - stage.clientWidth * view.divider / 100) <= GRIP;
  const divides = view.mode === "slider" && (near || view.zoom === 1);
  drag = pointers.size > 1 ? "pinch" : divides ? "divider" : "picture";
  if (drag === "divider") setDivider(100 * at.left / stage.clientWidth);
}

function pointerMove(event) {
  const at = placeOf(event), before = pointers.get(event.pointerId);
  if (view.mode === "bits") readBits(at.left, at.top);
  if (!before) return;
  if (drag === "divider") setDivider(100 * at.left / byId("stage").clientWidth);
  if (drag === "picture") moveBy(at.left - before.left, at.top - before.top);
  if (drag === "pinch") pinch(event.pointerId, before, at);
  pointers.set(event.pointerId, at);
}

/** Zoom by what a finger adds to its distance from another one, around the middle between the two. */
function pinch(id, before, at) {
  const [, other] = [...pointers].find(([key]) => key !== id) || [];
  if (!other) return;
  const distance = (place) => Math.max(1, Math.hypot(place.left - other.left, place.top - other.top));
  zoomBy(distance(at) / distance(before), (at.left + other.left) / 2, (at.top + other.top) / 2);
}

function pointerUp(event) {
  pointers.delete(event.pointerId);
  drag = pointers.size ? "picture" : null; // The finger that is left moves the picture.
}

function readWheel(event) {
  if (!event.ctrlKey) return; // The wheel alone scrolls the page. A pinch on a touchpad comes with Ctrl.
  event.preventDefault();
  const at = placeOf(event);
  zoomBy(2 ** (-event.deltaY / 200), at.left, at.top);
}

function readStageKey(event) {
  const step = 40, enlarged = view.zoom > 1;
  const across = (sign) => (enlarged ? moveBy(sign * step, 0) : setDivider(view.divider - sign * 2));
  const keys = {
    "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: fit,
    ArrowLeft: () => across(1), ArrowRight: () => across(-1),
    ...(enlarged && { ArrowUp: () => moveBy(0, step), ArrowDown: () => moveBy(0, -step) }),
  };
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return; // Those are the browser's.
  event.preventDefault();
  keys[event.key]();
}

function startViewer() {
  const stage = byId("stage"), on = (id, kind, act) => byId(id).addEventListener(kind, act);
  fillSelect("picture", DATA.pictures.map((found) => found.name), 0);
  for (const id of ["picture", "comparison"]) on(id, "change", (event) => { view[id] = Number(event.target.value); choosePicture(); });
  for (const id of ["left", "right"]) on(id, "change", (event) => { view[id] = Number(event.target.value); showView(); });
  for (const id of ["divider", "gain"]) on(id, "input", (event) => { view[id] = Number(event.target.value); showView(); });
  on("mode", "change", (event) => { view.mode = event.target.value; showView(); });
  on("zoom-in", "click", () => zoomBy(1.5));
  on("zoom-out", "click", () => zoomBy(1 / 1.5));
  on("zoom-fit", "click", fit);
  on("stage", "pointerdown", pointerDown);
  on("stage", "pointermove", pointerMove);
  for (const kind of ["pointerup", "pointercancel"]) on("stage", kind, pointerUp);
  on("stage", "dblclick", (event) => { const at = placeOf(event); view.zoom > 1 ? fit() : zoomBy(4, at.left, at.top); });
  on("stage", "keydown", readStageKey);
  stage.addEventListener("wheel", readWheel, { passive: false });
  new ResizeObserver(showView).observe(stage);
  choosePicture();
}

if (DATA.pictures.length) startViewer();
