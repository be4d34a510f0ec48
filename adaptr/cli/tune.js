const SIDES = ["chosen by", "held out"];
const measured = data.trials.filter((trial) => trial.loss != null);
const fit = { width: "container", autosize: { type: "fit-x", contains: "padding" } };
const tooltip = [{ field: "number", title: "trial" }, { field: "loss" }, { field: "said", title: "with" }];
const loss = (more) => ({ field: "loss", type: "quantitative", title: "loss", scale: { zero: false }, axis: { tickCount: 6 }, ...more });

function about() {
  at("out").textContent = data.out;
  at("about").textContent = data.about;
  for (const model of data.models) {
    const tile = element("div", "", "tile"), value = model.held[0] ?? model.tuned;
    tile.append(element("strong", number(value)), element("span", `${model.held[0] == null ? "loss" : "held out"}, ${model.name}`));
    at("tiles").append(tile);
  }
  for (const name of data.names) at("value").append(element("option", name));
  at("value-card").hidden = !data.names.length;
  const head = element("thead", ""), line = element("tr", ""), body = element("tbody", "");
  for (const column of ["trial", "loss", "with"]) line.append(element("th", column, column === "with" ? "text" : ""));
  head.append(line);
  for (const trial of data.trials) {
    const row = element("tr", "", trial.number === data.best ? "chosen" : "");
    row.append(element("td", trial.number), element("td", number(trial.loss)), element("td", trial.said, "text"));
    body.append(row);
  }
  at("trials").append(head, body);
  for (const note of data.notes) at("notes").append(element("li", note));
  at("notes-card").hidden = !data.notes.length;
}

function course() {
  let least = Infinity;
  const values = measured.map((trial) => ({ ...trial, least: (least = Math.min(least, trial.loss)), kind: trial.called ? "first" : "drawn", best: trial.number === data.best }));
  const x = { field: "number", type: "quantitative", title: "trial", scale: { nice: false, domain: [0.5, data.trials.length + 0.5] }, axis: { tickMinStep: 1, grid: false, format: "d" } };
  draw("course", {
    ...fit, height: 260, data: { values }, encoding: { x },
    layer: [
      { mark: { type: "line", interpolate: "step-after", strokeWidth: 2, color: colour("both") }, encoding: { y: { ...loss(), field: "least" } } },
      { mark: { type: "point", filled: true, size: 60, opacity: 1 }, encoding: { y: loss(), tooltip, color: { field: "kind", type: "nominal", title: null, scale: { domain: ["first", "drawn"], range: [colour("a"), colour("b")] }, legend: { orient: "top" } } } },
      { mark: { type: "point", size: 220, strokeWidth: 2, color: colour("ink") }, transform: [{ filter: "datum.best" }], encoding: { y: loss() } },
      { mark: { type: "text", align: "left", dx: 8, dy: -6, fontSize: 11, color: colour("soft") }, transform: [{ filter: "datum.called" }], encoding: { y: loss(), text: { field: "called" } } },
    ],
  });
}

function tried() {
  const name = at("value").value;
  const values = measured.filter((trial) => trial.values[name] != null).map((trial) => ({ ...trial, value: trial.values[name], best: trial.number === data.best }));
  const numbers = values.every((one) => typeof one.value === "number");
  const x = { field: "value", type: numbers ? "quantitative" : "nominal", title: name, axis: { labelAngle: 0, grid: false } };
  draw("values", {
    ...fit, height: 240, data: { values }, encoding: { x, y: loss() },
    layer: [
      { mark: { type: "point", filled: true, size: 70, opacity: 1 }, encoding: { tooltip, color: { field: "number", type: "quantitative", title: "trial", scale: { range: [colour("line"), colour("sum"), colour("b")] }, legend: { format: "d", tickCount: 4 } } } },
      { mark: { type: "point", size: 220, strokeWidth: 2, color: colour("ink") }, transform: [{ filter: "datum.best" }] },
    ],
  });
}

function models() {
  const order = data.models.map((model) => model.name);
  const values = data.models.flatMap((model) => [
    { model: model.name, side: SIDES[0], value: model.tuned, low: null, high: null },
    { model: model.name, side: SIDES[1], value: model.held[0], low: model.held[1], high: model.held[2] },
  ]).filter((one) => one.value != null);
  const x = { type: "quantitative", title: "loss", scale: { zero: false }, axis: { tickCount: 8 } };
  draw("models", {
    ...fit, height: { step: 20 }, data: { values },
    encoding: {
      y: { field: "model", type: "nominal", sort: order, title: null, axis: { ticks: false, domain: false, labelPadding: 8 } },
      yOffset: { field: "side", type: "nominal", sort: SIDES },
      color: { field: "side", type: "nominal", title: null, sort: SIDES, scale: { domain: SIDES, range: [colour("sum"), colour("b")] }, legend: { orient: "top" } },
      tooltip: [{ field: "model" }, { field: "side" }, { field: "value", title: "loss" }, { field: "low" }, { field: "high" }],
    },
    layer: [
      { mark: { type: "rule", strokeWidth: 2 }, transform: [{ filter: "datum.low != null" }], encoding: { x: { ...x, field: "low" }, x2: { field: "high" } } },
      { mark: { type: "point", filled: true, size: 90, opacity: 1 }, encoding: { x: { ...x, field: "value" } } },
    ],
  });
}

function all() {
  course();
  if (data.names.length) tried();
  models();
}
about();
all();
at("value").addEventListener("change", tried);
dark.addEventListener("change", all);
