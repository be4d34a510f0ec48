// name: [title, what it means, how it is written, colours (of style variables), domain, format in a cell]
const FIGURES = {
  cosine: ["cosine", "1: the same direction, 0: unrelated, -1: opposite.", signed, ["a", "mark", "b"], [-1, 1], "+.2f"],
  on_a: ["b on a", "What b adds on the inputs that a reads, relative to what a does there.", percent, ["mark", "a"], null, ".0%"],
  on_b: ["a on b", "What a adds on the inputs that b reads, relative to what b does there.", percent, ["mark", "b"], null, ".0%"],
  conflicts: ["opposite signs", "Share of sampled entries with opposite signs; 50% is chance.", percent, ["sum", "mark", "a"], [0, 1], ".0%"],
  overlap_in: ["overlap of inputs", "Mean squared cosine of the principal angles between the row spaces.", percent, ["mark", "both"], null, ".0%"],
  overlap_out: ["overlap of outputs", "Mean squared cosine of the principal angles between the column spaces.", percent, ["mark", "both"], null, ".0%"],
  cut: ["loss at one rank", "Relative error of the sum, cut to the rank of one of them.", percent, ["mark", "a"], null, ".0%"],
  norm_a: ["|a|", "Frobenius norm of a's change.", number, ["mark", "a"], null, ".2~g"],
  norm_b: ["|b|", "Frobenius norm of b's change.", number, ["mark", "b"], null, ".2~g"],
  relative_a: ["|a| / |W|", "Size of a's change beside the weight.", percent, ["mark", "a"], null, ".1%"],
  relative_b: ["|b| / |W|", "Size of b's change beside the weight.", percent, ["mark", "b"], null, ".1%"],
  effective_a: ["effective rank of a", "exp of the entropy of the singular values.", number, ["mark", "a"], null, ".2~g"],
  effective_b: ["effective rank of b", "exp of the entropy of the singular values.", number, ["mark", "b"], null, ".2~g"],
  effective_sum: ["effective rank of the sum", "exp of the entropy of the singular values.", number, ["mark", "sum"], null, ".2~g"],
  intruders_a: ["intruders of a", "Leading singular vectors of W + D that are near none of W's.", number, ["mark", "a"], null, "d"],
  intruders_b: ["intruders of b", "Leading singular vectors of W + D that are near none of W's.", number, ["mark", "b"], null, "d"],
};
const zero = (name) => /^(norm|relative|intruders)_/.test(name);
const known = Object.keys(FIGURES).filter((name) => data.targets.some((t) => t[name] != null && (t[name] !== 0 || !zero(name))));
let chosen = data.targets[0]?.path;

function tiles() {
  const shared = data.targets.filter((t) => t.cosine != null);
  const size = (name) => Math.sqrt(data.targets.reduce((s, t) => s + t[name] ** 2, 0));
  const a = size("norm_a"), b = size("norm_b");
  const inner = shared.reduce((s, t) => s + t.cosine * t.norm_a * t.norm_b, 0);
  const worst = (name) => shared.reduce((m, t) => Math.max(m, t[name] ?? 0), 0);
  const shown = [["targets", `${data.targets.length}`], ["|a|", number(a)], ["|b|", number(b)]];
  if (shared.length) shown.push(["cosine of all", signed(inner / (a * b))], ["b on a, at most", percent(worst("on_a"))], ["a on b, at most", percent(worst("on_b"))]);
  for (const [name, value] of shown) {
    const tile = element("div", "", "tile");
    tile.append(element("strong", value), element("span", name));
    at("tiles").append(tile);
  }
}

function heat() {
  const name = at("figure").value, [title, meaning, told, colours, domain, format] = FIGURES[name];
  at("meaning").textContent = meaning;
  const values = data.targets.map((t) => ({ path: t.path, layer: t.layer == null ? "other" : String(t.layer), module: t.module, value: t[name], told: told(t[name]), state: t.state, a: number(t.norm_a), b: number(t.norm_b), cosine: signed(t.cosine) }));
  const order = [...new Set(data.targets.map((t) => t.module))];
  const layers = [...new Set(values.map((v) => v.layer))].sort((x, y) => (x === "other") - (y === "other") || x - y);
  const cell = Math.max(16, Math.min(46, Math.floor((at("heat").clientWidth - 330) / layers.length)));
  const text = cell >= 34 && values.length <= 260;
  const color = { field: "value", type: "quantitative", title: null, scale: { range: colours.map(colour), interpolate: "lab", ...(domain ? { domain: [domain[0], (domain[0] + domain[1]) / 2, domain[1]] } : { zero: true }) }, legend: { format, gradientLength: Math.max(90, 22 * order.length), gradientThickness: 12 } };
  const layer = [{ mark: { type: "rect", cornerRadius: 3, cursor: "pointer", stroke: colour("card"), strokeWidth: 2 }, encoding: { color, tooltip: [["path", "target"], ["told", title], ["state", "state"], ["a", "|a|"], ["b", "|b|"], ["cosine", "cosine"]].map(([field, title]) => ({ field, title })) } }];
  if (text) layer.push({ mark: { type: "text", fontSize: 10 }, encoding: { text: { field: "value", format }, color: { condition: { test: "luminance(scale('color', datum.value)) < 0.32", value: "#fff" }, value: "#141a22" } } });
  draw("heat", {
    data: { values: values.filter((v) => v.value != null) }, width: { step: cell }, height: { step: 26 },
    encoding: {
      x: { field: "layer", type: "nominal", sort: layers, title: "layer", axis: { labelAngle: 0, labelOverlap: true, ticks: false, domain: false } },
      y: { field: "module", type: "nominal", sort: order, title: null, axis: { ticks: false, domain: false, labelPadding: 8 } },
    },
    layer: layer,
  }).then((made) => made.view.addEventListener("click", (_, item) => item?.datum?.path && choose(item.datum.path)));
}

function spectra() {
  const target = data.targets.find((t) => t.path === chosen);
  if (!target) return;
  const series = [[data.a, target.spectrum_a, "a"], [data.b, target.spectrum_b, "b"], ["sum", target.spectrum_sum, "sum"]].filter((s) => s[1].length);
  if (series.length > 1 && series[0][0] === series[1][0]) [series[0][0], series[1][0]] = data.labels;
  const values = series.flatMap(([name, spectrum]) => spectrum.map((value, i) => ({ name, value, i: i + 1 })));
  draw("spectra", {
    data: { values }, width: "container", height: 240, autosize: { type: "fit", contains: "padding" },
    mark: { type: "line", point: { size: 28, filled: true }, strokeWidth: 2 },
    encoding: {
      x: { field: "i", type: "quantitative", title: "index", axis: { tickMinStep: 1, grid: false }, scale: { nice: false, domain: [1, Math.max(2, ...values.map((v) => v.i))] } },
      y: { field: "value", type: "quantitative", title: "singular value", axis: { format: ".4~g", tickCount: 6 } },
      color: { field: "name", type: "nominal", title: null, sort: null, scale: { domain: series.map((s) => s[0]), range: series.map((s) => colour(s[2])) }, legend: { orient: "top", labelLimit: 400, direction: "horizontal", offset: 8, columnPadding: 18, symbolType: "stroke", symbolStrokeWidth: 3 } },
      tooltip: [{ field: "name", title: "change" }, { field: "i", title: "index" }, { field: "value", title: "singular value", format: ".4g" }],
    },
  });
}

const COLUMNS = [["path", "target", String], ["state", "state", String], ["shape", "shape", (s) => s.join(" x ")], ["rank_a", "rank a", number], ["rank_b", "rank b", number], ...known.map((name) => [name, FIGURES[name][0], FIGURES[name][2]])];
let order = ["difference", -1];

function table() {
  const words = at("filter").value.toLowerCase(), [by, way] = order;
  const key = (t) => (Array.isArray(t[by]) ? t[by].reduce((x, y) => x * y, 1) : t[by]);
  const rows = data.targets.filter((t) => t.path.toLowerCase().includes(words)).sort((x, y) => {
    const [p, q] = [key(x), key(y)];
    if (p == null || q == null) return (p == null) - (q == null);
    return way * (typeof p === "string" ? p.localeCompare(q, "en", { numeric: true }) : p - q);
  });
  const head = document.createElement("tr");
  for (const [name, title] of COLUMNS) {
    const th = element("th", title, name === "state" ? "text" : "");
    if (name === by) th.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
    th.onclick = () => { order = [name, name === by ? -way : name === "path" ? 1 : -1]; table(); };
    head.append(th);
  }
  at("table").tHead.replaceChildren(head);
  at("table").tBodies[0].replaceChildren(...rows.map((t) => {
    const row = element("tr", "", t.path === chosen ? "chosen" : "");
    for (const [name, , told] of COLUMNS) row.append(element("td", t[name] == null ? "" : told(t[name]), name === "state" ? "text" : ""));
    row.onclick = () => choose(t.path);
    return row;
  }));
}

function plain(id, columns, rows) {
  at(`${id === "fields" ? "header" : id}-card`).hidden = !rows.length;
  const head = element("tr", "");
  head.append(...columns.map((c) => element("th", c)));
  at(id).replaceChildren(head, ...rows.map((cells) => {
    const row = element("tr", "");
    row.append(...cells.map((c) => element("td", c == null ? "" : typeof c === "number" ? number(c) : c, "text")));
    return row;
  }));
}

function choose(path) {
  chosen = path;
  at("target").value = path;
  spectra();
  table();
}

document.title = `${data.a} and ${data.b}: adaptr diff`;
at("a").textContent = `a  ${data.a}`;
at("b").textContent = `b  ${data.b}`;
at("verdict").textContent = data.verdict;
at("words").append(...data.words.map((w) => element("li", w.replaceAll("`", ""))));
at("notes").textContent = data.notes.join(" ");
at("figure").append(...known.map((name) => new Option(FIGURES[name][0], name)));
at("target").append(...data.targets.map((t) => new Option(t.path, t.path)));
plain("fields", ["field", "a", "b"], data.header);
plain("others", ["name", "what", "state", "|a - b|"], data.others);
at("figure").onchange = heat;
at("target").onchange = (event) => choose(event.target.value);
at("filter").oninput = table;
const all = () => { if (known.length) heat(); spectra(); };
dark.onchange = all;
tiles(); table(); all();
document.documentElement.dataset.drawn = "yes";
