"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLOURS = ["#3b86c8", "#dd6b20", "#2f9468", "#b060c8", "#c8506e", "#8a6d3b", "#1a97a5", "#6b7f2a"];
const SHAPES = ["circle", "square", "diamond", "triangle"];
const FIRST_ROWS = 6;
const at = (name) => data.settings.indexOf(name);
const state = { x: data.first[0], y: data.first[1], only: data.settings.map(() => new Set()), rows: [], last: null };

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "polyline", "polygon", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// A line is what differs in the ratio alone; its colour and shape are its masker's and inpainter's.
const lineOf = (one) => one.set.filter((_, index) => index !== at("ratio")).join(" | ");
const varies = data.settings.map((_, index) => new Set(data.candidates.map((one) => one.set[index])).size > 1);
const nameOf = (one, ratio = true) => one.set
  .map((value, index) => data.settings[index] === "ratio" ? (ratio ? `ratio ${value}` : "")
    : data.settings[index] === "masker" ? value
    : !varies[index] ? "" : ["inpainter", "data", "recognizer"].includes(data.settings[index]) ? value : `${data.settings[index]} ${value}`)
  .filter(Boolean).join(", ");
const lines = [...new Set(data.candidates.map(lineOf))];
const styleOf = (one) => {
  const index = lines.indexOf(lineOf(one));
  return { colour: COLOURS[index % COLOURS.length], shape: SHAPES[Math.floor(index / COLOURS.length) % SHAPES.length] };
};

// Frontier, as in veil.report.frontier
const gain = (one, axis) => (one.figures[axis][0] - data.axes[axis].worst) / (data.axes[axis].best - data.axes[axis].worst);
function undominated(points) {
  return points.map((p) => !points.some((q) => q[0] >= p[0] && q[1] >= p[1] && (q[0] > p[0] || q[1] > p[1])));
}
function hypervolume(points) {
  let area = 0, reached = 0;
  for (const [x, y] of [...points].sort((p, q) => q[0] - p[0] || q[1] - p[1])) {
    area += x * Math.max(y - reached, 0);
    reached = Math.max(reached, y);
  }
  return area;
}
const passes = (one) => state.only.every((values, index) => !values.size || values.has(one.set[index]));
const passing = () => data.candidates.filter(passes);
function frontier() {
  const both = data.first.length ? passing().filter((one) => one.figures[state.x] && one.figures[state.y]) : [];
  const points = both.map((one) => [gain(one, state.x), gain(one, state.y)]);
  const best = undominated(points);
  return { both, points, front: both.filter((_, index) => best[index]), volume: hypervolume(points) };
}

// Charts
function ticks(low, high) {
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((by) => by * power).find((by) => by >= raw);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found;
}
const short = (axis, value) => axis.share ? `${+(100 * value).toFixed(1)} %` : `${+value.toPrecision(4)}`;
function reach(values) {
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}
const heading = (axis) => `${axis.name}, ${axis.best > axis.worst ? "higher" : "lower"} is better`;

// Axes of a chart in px; a figure's better end is to the right and at the top.
function canvas(place, across, up, format, titles, marks = ticks(Math.min(...across), Math.max(...across))) {
  const width = Math.max(place.clientWidth, 280), height = Math.min(420, Math.max(280, width * 0.68));
  const box = { left: 58, right: width - 14, top: 14, bottom: height - 46 };
  const scale = ([from, to], start, end) => (value) => start + ((value - from) / (to - from)) * (end - start);
  const x = scale(across, box.left, box.right), y = scale(up, box.bottom, box.top);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${titles[1]}, against ${titles[0]}` });
  for (const value of marks) {
    svg.append(make("line", { class: "grid", x1: x(value), x2: x(value), y1: box.top, y2: box.bottom }),
      make("text", { class: "faint", x: x(value), y: box.bottom + 16, "text-anchor": "middle" }, format[0](value)));
  }
  for (const value of ticks(Math.min(...up), Math.max(...up))) {
    svg.append(make("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
      make("text", { class: "faint", x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, format[1](value)));
  }
  svg.append(make("text", { x: box.right, y: height - 10, "text-anchor": "end" }, titles[0]),
    make("text", { x: box.left + 6, y: box.top + 4 }, titles[1]));
  place.replaceChildren(svg);
  return { svg, x, y, box, place };
}
function marker(shape, x, y, size, attributes) {
  const corners = {
    square: [[-1, -1], [1, -1], [1, 1], [-1, 1]], diamond: [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
    triangle: [[0, -1.3], [1.2, 0.9], [-1.2, 0.9]],
  }[shape];
  if (!corners) return make("path", { d: `M${x - size},${y}a${size},${size} 0 1,0 ${2 * size},0a${size},${size} 0 1,0 ${-2 * size},0`, ...attributes });
  return make("polygon", { points: corners.map(([i, j]) => `${x + i * size},${y + j * size}`).join(" "), ...attributes });
}
function tip(place, node, text) {
  const show = () => {
    hide();
    const mark = make("div", { class: "tip" }, text), box = node.getBoundingClientRect(), own = place.getBoundingClientRect();
    place.append(mark);
    mark.style.left = `${Math.max(0, Math.min(box.left - own.left + 12, own.width - mark.offsetWidth))}px`;
    mark.style.top = `${box.top - own.top + 14}px`;
  };
  const hide = () => place.querySelectorAll(".tip").forEach((old) => old.remove());
  for (const event of ["mouseenter", "focus"]) node.addEventListener(event, show);
  for (const event of ["mouseleave", "blur"]) node.addEventListener(event, hide);
}
const words = (one, axis) => one.figures[axis] ? `${data.axes[axis].name} ${one.figures[axis][3]} (${one.figures[axis][4]})` : `${data.axes[axis].name} absent`;

function drawFrontier() {
  const place = $("scatter");
  if (!data.first.length) return place.replaceChildren(make("p", { class: "absent" }, "Absent: it needs a figure of privacy and one of utility."));
  const { both, front, volume } = frontier(), [across, up] = [data.axes[state.x], data.axes[state.y]];
  $("volume").textContent = `${front.length} of ${both.length} are not dominated; the others are grey. Hypervolume ${volume.toFixed(3)}, 1 is the best. Bars: 95 % intervals.`;
  if (!both.length) return place.replaceChildren(make("p", { class: "absent" }, "No config is left that has both figures."));
  const span = (axis, index) => {
    const ends = reach(both.flatMap((one) => front.includes(one) && front.length < 40 ? one.figures[index].slice(0, 3) : [one.figures[index][0]]));
    return axis.best > axis.worst ? ends : ends.reverse();
  };
  const chart = canvas(place, span(across, state.x), span(up, state.y), [(v) => short(across, v), (v) => short(up, v)],
    [`${heading(across)} →`, `↑ ${heading(up)}`]);
  const where = (one) => [chart.x(one.figures[state.x][0]), chart.y(one.figures[state.y][0])];
  const stairs = front.map(where).sort((p, q) => p[0] - q[0]);
  if (stairs.length > 1) {
    const path = stairs.map(([x, y], i) => i ? `V${y}H${x}` : `M${x},${y}`).join("");
    chart.svg.append(make("path", { class: "front", d: path }));
  }
  const grey = both.filter((one) => !front.includes(one));
  for (const one of [...grey, ...front]) {
    const best = front.includes(one), [x, y] = where(one), { colour, shape } = styleOf(one), number = data.candidates.indexOf(one);
    if (best && front.length < 40) {
      const [, left, right] = one.figures[state.x], [, low, high] = one.figures[state.y];
      chart.svg.append(make("path", { d: `M${chart.x(left)},${y}H${chart.x(right)}M${x},${chart.y(low)}V${chart.y(high)}`, stroke: colour, opacity: 0.55 }));
    }
    const picked = state.rows.includes(number) && number === state.last;
    const dot = marker(shape, x, y, best ? 6 : 4.5, {
      class: `point${best ? "" : " dominated"}${picked ? " picked" : ""}`, fill: best ? colour : null, "data-at": number, role: "button",
      tabindex: best ? 0 : -1, "aria-label": `${nameOf(one)}: ${words(one, state.x)}; ${words(one, state.y)}. Show its faces`,
      onclick: () => pick(number), onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), pick(number)),
    });
    tip(place, dot, [nameOf(one), words(one, state.x), words(one, state.y)].join("\n"));
    chart.svg.append(dot);
    if (best && front.length <= 15) chart.svg.append(make("text", { x: x + 9, y: y - 7 }, one.ratio === null ? "" : `${one.ratio}`));
  }
  legend($("legend"), front);
}
function legend(place, shown) {
  const ones = lines.map((line) => shown.find((one) => lineOf(one) === line)).filter(Boolean).slice(0, 24);
  place.replaceChildren(...ones.map((one) => {
    const { colour, shape } = styleOf(one);
    return make("li", {}, make("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, marker(shape, 0, 0, 5, { fill: colour })), nameOf(one, false));
  }));
}

function drawCurves() {
  const shown = passing().filter((one) => one.ratio !== null), ratios = new Set(shown.map((one) => one.ratio));
  $("by-ratio").hidden = ratios.size < 2 || !data.first.length;
  if ($("by-ratio").hidden) return;
  const front = new Set(frontier().front.map(lineOf)), few = new Set(shown.map(lineOf)).size <= 8;
  legend($("curve-legend"), shown.filter((one) => few || front.has(lineOf(one))));
  for (const [id, index] of [["curve-x", state.x], ["curve-y", state.y]]) {
    const axis = data.axes[index], there = shown.filter((one) => one.figures[index]);
    if (!there.length) { $(id).replaceChildren(); continue; }
    const ends = reach(there.flatMap((one) => few ? one.figures[index].slice(0, 3) : [one.figures[index][0]]));
    const chart = canvas($(id), reach([...ratios]), axis.best > axis.worst ? ends : ends.reverse(),
      [(v) => `${+v.toPrecision(3)}`, (v) => short(axis, v)], ["ratio", `↑ ${heading(axis)}`], ratios.size <= 10 ? [...ratios] : undefined);
    for (const line of [...lines].sort((p, q) => front.has(p) - front.has(q))) {
      const along = there.filter((one) => lineOf(one) === line).sort((p, q) => p.ratio - q.ratio);
      if (!along.length) continue;
      const { colour, shape } = styleOf(along[0]), clear = few || front.has(line);
      const spot = (one, part = 0) => [chart.x(one.ratio), chart.y(one.figures[index][part])];
      if (few) {
        const band = [...along.map((one) => spot(one, 1)), ...[...along].reverse().map((one) => spot(one, 2))];
        chart.svg.append(make("polygon", { points: band.join(" "), fill: colour, opacity: 0.1 }));
      }
      const label = make("title", {}, nameOf(along[0], false));
      chart.svg.append(make("polyline", { points: along.map((one) => spot(one)).join(" "), fill: "none", stroke: clear ? colour : "#8a8f96", "stroke-width": clear ? 2 : 1, opacity: clear ? 1 : 0.5 }, label));
      if (clear) for (const one of along) {
        const dot = marker(shape, ...spot(one), 4, { fill: colour, class: "point", onclick: () => pick(data.candidates.indexOf(one)) });
        tip($(id), dot, `${nameOf(one)}\n${words(one, index)}`);
        chart.svg.append(dot);
      }
    }
  }
}

// Faces
function pick(number) {
  state.last = number;
  state.rows = [number, ...state.rows.filter((other) => other !== number)];
  drawFrontier();
  drawFaces();
  const row = $("rows").firstElementChild;
  if (row) row.scrollIntoView({ block: "nearest" });
}
function tile(faces, place, one) {
  const person = faces.who[place], count = faces.who.length, [named, tried] = faces.named[place];
  const shift = `object-position: ${count > 1 ? (100 * place) / (count - 1) : 0}% 0`;
  const other = faces.strips[$("other").value];
  const result = faces.hidden[place]
    ? make("span", { class: "blank" }, "nearly equals the original, which is not shown")
    : make("img", { src: faces.strips.result, style: shift, alt: `Repainted face of person ${person}, ${nameOf(one)}` });
  const over = other ? make("img", { src: other, style: shift, alt: `${$("other").value} of person ${person}` }) : null;
  if (over && faces.hidden[place]) over.style.clipPath = "inset(0 calc(100% - var(--cut, 0%)) 0 0)";
  return make("figure", {}, make("div", { class: "pair" }, result, over),
    make("figcaption", {}, `person ${person}`, make("br"),
      tried ? make("span", { class: named ? "named" : "" }, named ? `named in ${named} of ${tried} attacks` : "not named") : ""));
}
function drawFaces() {
  const shown = state.rows.filter((number) => passes(data.candidates[number]));
  $("rows").replaceChildren(...shown.map((number) => {
    const one = data.candidates[number], faces = data.faces[number];
    const drop = make("button", { type: "button", "aria-label": `Take ${nameOf(one)} away`, onclick: () => {
      state.rows = state.rows.filter((other) => other !== number);
      drawFaces();
    } }, "×");
    const figures = data.first.length ? `${words(one, state.x)}; ${words(one, state.y)}` : "";
    const flags = one.flags.length ? ` ${one.flags.length} kind${one.flags.length > 1 ? "s" : ""} of flag.` : "";
    const head = make("header", {}, make("h3", {}, nameOf(one)), make("p", { title: `${one.flags.join(", ")}\n${one.runs.join("\n")}` }, `${figures}.${flags}`), drop);
    const strip = faces && faces.strips
      ? make("div", { class: "strip", style: `--people: ${faces.who.length}` }, ...faces.who.map((_, place) => tile(faces, place, one)))
      : make("p", { class: "absent" }, `No faces: ${faces ?? "the page holds those of other configs only (task.pictured)"}.`);
    return make("article", { class: `row${number === state.last ? " last" : ""}`, style: `--key: ${styleOf(one).colour}`, "data-at": number }, head, strip);
  }));
  if (!shown.length) $("rows").replaceChildren(make("p", { class: "absent" }, "No row is left: click a point, or change what is shown."));
}

// Controls
function restart() {
  const { front } = frontier(), by = (one) => -gain(one, state.x);
  const ordered = (data.first.length ? [...front].sort((p, q) => by(p) - by(q)) : passing());
  const every = Math.max(1, (ordered.length - 1) / (FIRST_ROWS - 1));
  const spread = ordered.length <= FIRST_ROWS ? ordered : Array.from({ length: FIRST_ROWS }, (_, i) => ordered[Math.round(i * every)]);
  state.rows = spread.map((one) => data.candidates.indexOf(one));
  state.last = null;
  draw();
}
function draw() {
  drawFaces();
  drawFrontier();
  drawCurves();
  for (const row of document.querySelectorAll("#all tr[data-at]")) row.hidden = !passes(data.candidates[row.dataset.at]);
}
function filters() {
  $("filters").replaceChildren(...data.settings.flatMap((name, index) => {
    const values = [...new Set(data.candidates.map((one) => one.set[index]))];
    if (values.length < 2) return [];
    values.sort((p, q) => p - q || p.localeCompare(q));
    return [make("fieldset", {}, make("legend", {}, name), ...values.map((value) => make("button", {
      type: "button", "aria-pressed": "false", onclick: (event) => {
        const chosen = state.only[index], on = !chosen.has(value);
        on ? chosen.add(value) : chosen.delete(value);
        event.currentTarget.setAttribute("aria-pressed", on);
        restart();
      } }, value)))];
  }));
}
function axesOf(id, kind) {
  const names = data.axes.map((axis, index) => [axis, index]).filter(([axis]) => axis.kind === kind);
  $(id).replaceChildren(...names.map(([axis, index]) => make("option", { value: index, title: axis.meaning }, axis.name)));
  $(id).value = state[id];
  $(id).addEventListener("change", () => { state[id] = +$(id).value; restart(); });
}

// Paired tests
function tests() {
  if (!data.pairs.length) return;
  const option = (name) => make("option", {}, name);
  const fill = (id, values) => $(id).replaceChildren(...[...new Set(values)].map(option));
  fill("figure", data.pairs.map((family) => family.figure));
  const places = () => fill("where", data.pairs.filter((family) => family.figure === $("figure").value).map((family) => family.where));
  const matrix = () => {
    const family = data.pairs.find((one) => one.figure === $("figure").value && one.where === $("where").value);
    const names = [...new Set(family.rows.flatMap(([first, second]) => [first, second]))];
    const cell = (row, column) => {
      const found = family.rows.find(([first, second]) => (first === column && second === row) || (first === row && second === column));
      if (!found) return make("td", {}, "");
      const sign = found[1] === row ? 1 : -1, difference = sign * found[2], [low, high] = sign > 0 ? [found[3], found[4]] : [-found[4], -found[3]];
      const points = (value) => (100 * value).toFixed(0).replace("-", "−");
      return make("td", {
        class: `${difference < 0 ? "less" : difference > 0 ? "more" : ""}${found[5] < 0.05 ? " holds" : ""}`,
        style: `--much: ${Math.min(60, Math.abs(difference) * 100)}`,
        title: `${row} less ${column}: ${points(difference)} points (${points(low)} to ${points(high)}), p = ${found[5].toPrecision(2)} after Holm`,
      }, points(difference));
    };
    $("matrix").replaceChildren(make("table", {},
      make("thead", {}, make("tr", {}, make("td", {}), ...names.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...names.map((row) => make("tr", {}, make("th", { scope: "row" }, row), ...names.map((column) => cell(row, column)))))));
  };
  $("figure").addEventListener("change", () => { places(); matrix(); });
  $("where").addEventListener("change", matrix);
  places();
  matrix();
}

const kinds = new Set(data.faces.flatMap((faces) => (faces && faces.strips ? Object.keys(faces.strips) : [])));
$("other").replaceChildren(...["mask", "original"].filter((kind) => kinds.has(kind)).map((kind) => make("option", {}, kind)));
$("other").addEventListener("change", drawFaces);
$("slider").addEventListener("input", () => $("look").style.setProperty("--cut", `${$("slider").value}%`));
axesOf("x", "privacy");
axesOf("y", "utility");
filters();
tests();
restart();
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
