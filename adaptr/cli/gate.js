const PALETTE = ["b", "a", "both", "sum"];
const colours = () => (data.experts.length <= PALETTE.length ? data.experts.map((_, i) => colour(PALETTE[i])) : undefined);
const scale = () => ({ domain: data.experts, ...(colours() ? { range: colours() } : { scheme: "tableau20" }) });
const mean = (values) => values.reduce((s, v) => s + v, 0) / values.length;
const labels = data.tokens.map((token, i) => `${i + 1} ${token.replace(/\s/g, "\u2423")}`);
const layerOf = (site) => (site.layer == null ? "other" : String(site.layer));
const layers = [...new Set(data.sites.map(layerOf))].sort((x, y) => (x === "other") - (y === "other") || x - y);
const has = (s, e) => !data.absent[s].includes(data.experts[e]);

function about() {
  at("name").textContent = data.gate;
  at("about").textContent = `${data.method}: ${data.experts.length} experts at ${data.sites.length} layers, ${data.tokens.length} tokens`;
  data.experts.forEach((expert, e) => {
    const tile = element("div", "", "tile");
    tile.append(element("strong", number(mean(data.values.flatMap((site) => site.map((w) => w[e]))))), element("span", expert));
    at("tiles").append(tile);
  });
  for (const expert of data.experts) at("expert").append(element("option", expert));
  for (const module of ["all modules", ...new Set(data.sites.map((site) => site.module))]) at("module").append(element("option", module));
}

function tokens() {
  const values = data.tokens.flatMap((_, t) => data.experts.map((expert, e) => ({ token: labels[t], expert, weight: mean(data.values.map((site) => site[t][e])) })));
  draw("tokens", {
    data: { values }, width: { step: Math.max(18, Math.min(60, 900 / labels.length)) }, height: 220, mark: { type: "bar", stroke: colour("card"), strokeWidth: 1 },
    encoding: {
      x: { field: "token", type: "nominal", sort: labels, title: null, axis: { labelAngle: -40, labelLimit: 90 } },
      y: { field: "weight", type: "quantitative", title: "weight", stack: "zero" },
      color: { field: "expert", type: "nominal", title: null, scale: scale(), legend: { orient: "top" } },
      tooltip: [{ field: "token" }, { field: "expert" }, { field: "weight", format: ".4g" }],
    },
  });
}

function heat() {
  const e = data.experts.indexOf(at("expert").value), module = at("module").value;
  const chosen = data.sites.map((site, s) => [site, s]).filter(([site, s]) => has(s, e) && (module === "all modules" || site.module === module));
  const values = layers.flatMap((layer) => {
    const here = chosen.filter(([site]) => layerOf(site) === layer);
    return here.length ? labels.map((token, t) => ({ layer, token, weight: mean(here.map(([, s]) => data.values[s][t][e])) })) : [];
  });
  draw("heat", {
    data: { values }, width: { step: Math.max(16, Math.min(46, 900 / labels.length)) }, height: { step: 16 }, mark: { type: "rect", cornerRadius: 2 },
    encoding: {
      x: { field: "token", type: "nominal", sort: labels, title: null, axis: { labelAngle: -40, labelLimit: 90, ticks: false, domain: false } },
      y: { field: "layer", type: "nominal", sort: layers, title: "layer", axis: { ticks: false, domain: false } },
      color: { field: "weight", type: "quantitative", title: null, scale: { range: [colour("mark"), colours()?.[e] ?? colour("b")], interpolate: "lab", zero: true }, legend: { format: ".2~g", gradientThickness: 12 } },
      tooltip: [{ field: "layer" }, { field: "token" }, { field: "weight", format: ".4g" }],
    },
  });
}

function byLayer() {
  const values = layers.flatMap((layer) => data.experts.flatMap((expert, e) => {
    const here = data.sites.map((site, s) => [site, s]).filter(([site, s]) => layerOf(site) === layer && has(s, e));
    return here.length ? [{ layer, expert, weight: mean(here.flatMap(([, s]) => data.values[s].map((w) => w[e]))) }] : [];
  }));
  draw("layers", {
    data: { values }, width: "container", height: 220, autosize: { type: "fit", contains: "padding" }, mark: { type: "line", point: { size: 28, filled: true }, strokeWidth: 2 },
    encoding: {
      x: { field: "layer", type: "ordinal", sort: layers, title: "layer", axis: { labelAngle: 0, labelOverlap: true } },
      y: { field: "weight", type: "quantitative", title: "weight" },
      color: { field: "expert", type: "nominal", title: null, scale: scale(), legend: { orient: "top" } },
      tooltip: [{ field: "layer" }, { field: "expert" }, { field: "weight", format: ".4g" }],
    },
  });
}

function all() {
  tokens();
  heat();
  byLayer();
}
about();
all();
for (const id of ["expert", "module"]) at(id).addEventListener("change", heat);
dark.addEventListener("change", all);
