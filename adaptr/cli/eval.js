const names = data.rows.map((row) => row.name);
const metric = () => data.metrics.find((one) => one.name === at("figure").value);
const between = (v) => (v == null || v[0] == null ? "none" : number(v[0]) + (v[1] == null ? "" : ` [${number(v[1])}, ${number(v[2])}]`));
const sure = (v) => v != null && v[1] != null && (v[1] > 0 || v[2] < 0);
const height = { step: 34 };

function about() {
  at("base").textContent = data.base;
  at("about").textContent = data.about;
  const first = data.metrics[0];
  for (const row of data.rows) {
    const tile = element("div", "", "tile");
    tile.append(element("strong", between(row.values[first.name]).split(" ")[0]), element("span", `${first.name}, ${row.name}`));
    at("tiles").append(tile);
  }
  for (const one of data.metrics) at("figure").append(element("option", one.name));
  table("figures", ["", ...data.metrics.map((one) => one.name)], data.rows.map((row) => [row.name, ...data.metrics.map((one) => between(row.values[one.name]))]));
  table("adapters", ["name", "method", "weight", "digest of its weights"], data.adapters);
  for (const note of data.notes) at("notes").append(element("li", note));
  at("adapters-card").hidden = !data.adapters.length;
  at("notes-card").hidden = !data.notes.length;
}

function table(id, columns, rows) {
  const head = element("thead", ""), line = element("tr", ""), body = element("tbody", "");
  for (const column of columns) line.append(element("th", column, id === "adapters" ? "text" : ""));
  head.append(line);
  for (const row of rows) {
    const made = element("tr", "");
    for (const cell of row) made.append(element("td", cell, id === "adapters" ? "text" : ""));
    body.append(made);
  }
  at(id).append(head, body);
}

function points(side) {
  const name = metric().name;
  return data.rows.filter((row) => row[side][name] && row[side][name][0] != null).map((row) => {
    const [value, low, high] = row[side][name];
    return { model: row.name, value, low, high, said: between(row[side][name]), base: row.name === "base", sure: sure(row[side][name]) };
  });
}

const model = { field: "model", type: "nominal", sort: names, title: null, axis: { ticks: false, domain: false, labelPadding: 8 } };
const tooltip = [{ field: "model" }, { field: "said", title: "figure" }];
const whisker = { mark: { type: "rule", strokeWidth: 2 }, encoding: { x: { field: "low", type: "quantitative" }, x2: { field: "high" }, color: { value: colour("ink") } }, transform: [{ filter: "datum.low != null" }] };

function bars() {
  const { name, rising } = metric(), values = points("values");
  at("meaning").textContent = `${rising ? "More" : "Less"} is better. ${data.intervals}`;
  const text = { mark: { type: "text", align: "left", baseline: "bottom", dx: 6, dy: -3, fontSize: 11, color: colour("soft") }, encoding: { x: { field: "value", type: "quantitative" }, text: { field: "value", format: ".4~g" } } };
  draw("bars", {
    data: { values }, width: "container", height, autosize: { type: "fit-x", contains: "padding" },
    encoding: { y: model, tooltip },
    layer: [
      { mark: { type: "bar", cornerRadiusEnd: 3, height: { band: 0.6 } }, encoding: { x: { field: "value", type: "quantitative", title: name, axis: { tickCount: 8 } }, color: { field: "base", type: "nominal", scale: { domain: [true, false], range: [colour("sum"), colour("b")] }, legend: null } } },
      whisker, text,
    ],
  });
}

function gains() {
  const values = points("gain");
  at("gain-card").hidden = !values.length;
  if (!values.length) return;
  const better = (v) => (v.sure ? ((v.value > 0) === metric().rising ? "better" : "worse") : "no difference that is sure");
  for (const one of values) one.verdict = better(one);
  draw("gains", {
    data: { values }, width: "container", height, autosize: { type: "fit-x", contains: "padding" },
    encoding: { y: model, tooltip: [...tooltip, { field: "verdict" }] },
    layer: [
      { data: { values: [{}] }, mark: { type: "rule", strokeDash: [4, 4] }, encoding: { x: { datum: 0 }, y: null, tooltip: null, color: { value: colour("soft") } } },
      { ...whisker, encoding: { ...whisker.encoding, color: { value: colour("soft") } } },
      { mark: { type: "point", filled: true, size: 110, opacity: 1 }, encoding: { x: { field: "value", type: "quantitative", title: `${metric().name}, above the base`, axis: { tickCount: 8 }, scale: { zero: true } }, color: { field: "verdict", type: "nominal", title: null, scale: { domain: ["better", "worse", "no difference that is sure"], range: [colour("both"), colour("a"), colour("sum")] }, legend: { orient: "top" } } } },
    ],
  });
}

function all() {
  bars();
  gains();
}
about();
all();
at("figure").addEventListener("change", all);
dark.addEventListener("change", all);
