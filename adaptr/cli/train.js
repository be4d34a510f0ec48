const [STEP, LOSS, RATE, NORM, SPEED] = [0, 1, 2, 3, 4];
const COURSES = [
  ["gradient norm", NORM, "Of all gradients together, before they are clipped."],
  ["learning rate", RATE, "As the schedule had it at each step."],
  ["tokens a second", SPEED, "With everything that a step does."],
];
const LESS = ["loss", "perplexity", "error"];
const whole = (n) => n.toLocaleString("en");
const size = (n) => (n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e3).toFixed(1)} kB`);
const time = (s) => (s >= 5400 ? `${(s / 3600).toFixed(1)} h` : s >= 90 ? `${(s / 60).toFixed(1)} min` : `${s.toFixed(0)} s`);
const points = (which) => data.curves.points.filter((row) => row[which] != null).map((row) => ({ step: row[STEP], value: row[which] }));

function about() {
  at("name").textContent = data.name;
  at("about").textContent = data.about;
  const facts = data.facts, first = data.worth.find((row) => row[1] != null && row[2] != null);
  if (first) tile(`${+first[1].toPrecision(3)} \u2192 ${+first[2].toPrecision(3)}`, `${first[0]}, base and adapter`);
  tile(whole(facts.learned), `parameters learned, ${percent(facts.share)} of the base`);
  tile(whole(facts.steps), `steps, ${whole(facts.tokens)} tokens`);
  tile(size(facts.bytes), "adapter");
  tile(time(facts.seconds), "time");
  for (const note of data.notes) at("notes").append(element("li", note));
  at("notes-card").hidden = !data.notes.length;
  at("command").textContent = data.command;
  for (const [name] of COURSES.filter(([, which]) => points(which).length)) at("curve").append(element("option", name));
  for (const id of ["statistics", "recipe", "made"]) pairs(id, data[id]);
}

function tile(value, name) {
  const made = element("div", "", "tile");
  made.append(element("strong", value), element("span", name));
  at("tiles").append(made);
}

function pairs(id, rows) {
  for (const row of rows) {
    const line = element("tr", "");
    for (const cell of row) line.append(element("td", cell));
    at(id).append(line);
  }
}

function worth() {
  at("worth-card").hidden = !data.worth.length;
  at("worth-note").textContent = `On ${data.measured}${data.held ? "" : ": what was learned from is no proof of what is worth anything elsewhere"}.`;
  const head = element("tr", ""), body = element("tbody", "");
  for (const name of ["", "base", "adapter", "difference"]) head.append(element("th", name));
  for (const [name, before, after, second] of data.worth) {
    const line = element("tr", ""), change = before == null || after == null ? null : after - before;
    const better = (LESS.some((word) => name.includes(word)) ? -1 : 1) * change;
    for (const cell of [second ? `${name} of the second text` : name, number(before), number(after)]) line.append(element("td", cell));
    line.append(element("td", signed(change), better > 0 ? "better" : better < 0 ? "worse" : ""));
    body.append(line);
  }
  at("worth").append(head, body);
}

function samples() {
  at("samples-card").hidden = !data.samples.length;
  for (const one of data.samples) {
    const made = element("dl", "", "sample");
    for (const [name, kind] of [["asked", "asked"], ["wanted", "wanted"], ["base", "before"], ["adapter", "after"]]) {
      made.append(element("dt", name), element("dd", one[kind], kind));
    }
    at("samples").append(made);
  }
}

// means over a window of a thirtieth of the steps: what is left when the noise of single batches is taken off
function smoothed(values) {
  const half = Math.max(1, Math.round(values.length / 60));
  return values.map(({ step }, i) => {
    const near = values.slice(Math.max(0, i - half), i + half + 1);
    return { step, value: near.reduce((sum, one) => sum + one.value, 0) / near.length };
  });
}

const along = (max) => ({ field: "step", type: "quantitative", title: "step", scale: { domain: [0, max], nice: false }, axis: { format: "d", tickMinStep: 1 } });
const last = () => Math.max(1, ...data.curves.points.map((row) => row[STEP]));
const frame = { width: "container", height: 240, autosize: { type: "fit", contains: "padding" } };

function loss() {
  const values = points(LOSS), measured = data.curves.measured.map(([step, value]) => ({ step, value }));
  const names = measured.length ? ["training", "validation"] : ["training"];
  at("loss-note").textContent = `Of each batch (points), its running mean (line)${measured.length ? ", and of the validation data" : ""}.`;
  const y = { field: "value", type: "quantitative", title: "loss", scale: { zero: false } };
  const tooltip = [{ field: "step" }, { field: "value", format: ".4g", title: "loss" }];
  const named = (name) => ({ datum: name, type: "nominal", title: null, scale: { domain: names, range: [colour("b"), colour("a")] }, legend: names.length > 1 ? { orient: "top" } : null });
  draw("loss", {
    ...frame,
    layer: [
      { data: { values }, mark: { type: "point", filled: true, size: 16, opacity: 0.35 }, encoding: { x: along(last()), y, tooltip, color: named("training") } },
      { data: { values: smoothed(values) }, mark: { type: "line", strokeWidth: 2 }, encoding: { x: along(last()), y, color: named("training") } },
      ...(measured.length ? [{ data: { values: measured }, mark: { type: "line", strokeWidth: 2, point: { filled: true, size: 44 } }, encoding: { x: along(last()), y, tooltip, color: named("validation") } }] : []),
    ],
  });
}

function course() {
  const [name, which, note] = COURSES.find(([one]) => one === at("curve").value) ?? COURSES[0];
  at("course-note").textContent = note;
  draw("course", {
    ...frame, height: 180, data: { values: points(which) }, mark: { type: "line", strokeWidth: 1.6, color: colour("both") },
    encoding: { x: along(last()), y: { field: "value", type: "quantitative", title: name, axis: { format: "~g" } }, tooltip: [{ field: "step" }, { field: "value", format: ".4g", title: name }] },
  });
}

function moved() {
  at("moved-card").hidden = !data.moved.length;
  const layerOf = (one) => (one.layer == null ? "other" : String(one.layer));
  const order = (x, y) => (x === "other") - (y === "other") || x - y;
  const layers = [...new Set(data.moved.map(layerOf))].sort(order), modules = [...new Set(data.moved.map((one) => one.module))];
  draw("moved", {
    data: { values: data.moved.map((one) => ({ ...one, layer: layerOf(one) })) }, width: { step: Math.max(18, Math.min(44, 860 / layers.length)) }, height: { step: 22 },
    mark: { type: "rect", cornerRadius: 2 },
    encoding: {
      x: { field: "layer", type: "nominal", sort: layers, title: "layer", axis: { labelAngle: 0, ticks: false, domain: false } },
      y: { field: "module", type: "nominal", sort: modules, title: null, axis: { ticks: false, domain: false } },
      color: { field: "norm", type: "quantitative", title: null, scale: { range: [colour("mark"), colour("b")], interpolate: "lab", zero: true }, legend: { format: ".2~g", gradientThickness: 12 } },
      tooltip: [{ field: "path" }, { field: "norm", format: ".4g" }],
    },
  });
}

function all() {
  loss();
  course();
  moved();
}
about();
worth();
samples();
all();
at("curve").addEventListener("change", course);
dark.addEventListener("change", all);
