const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const percent = (x) => (x == null ? "" : (100 * x).toFixed(100 * Math.abs(x) < 10 ? 1 : 0) + "%");
const number = (x) => (x == null ? "" : Math.abs(x) >= 1000 || (x && Math.abs(x) < 0.001) ? x.toExponential(2) : +x.toPrecision(4) + "");
const signed = (x) => (x == null ? "" : (x > 0 ? "+" : "") + x.toFixed(3));

const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function theme() {
  const ink = colour("ink"), soft = colour("soft"), line = colour("line");
  const font = getComputedStyle(document.body).fontFamily;
  return {
    background: null, font, view: { stroke: null }, padding: 4,
    axis: { labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, labelLimit: 260 },
    legend: { labelColor: soft, titleColor: soft, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500 },
    text: { color: ink },
  };
}
const draw = (id, spec) => window.vegaEmbed(at(id), { ...spec, config: theme() }, { actions: false, renderer: "svg", tooltip: { theme: dark.matches ? "dark" : "light" } });

function element(tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

