"use strict";
// Draws the figures, keeps their theme that of the page, and filters the measurements.
(() => {
  const { figures, templates } = JSON.parse(document.getElementById("data").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  // A mouse zooms and finds buttons where it hovers; fingers scroll the page. No button of plotly's that uploads.
  const mouse = matchMedia("(hover: hover) and (pointer: fine)").matches;
  const dragmode = mouse ? "zoom" : false;
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: mouse && "hover",
    modeBarButtons: [["toImage", "resetScale2d"]],
  };
  let chosen = null; // "light" or "dark" once the reader has said so

  const theme = () => chosen || (system.matches ? "dark" : "light");
  const themed = (layout) => ({ ...layout, dragmode, template: templates[theme()] });

  const draw = (plot) => {
    const figure = figures[plot.dataset.figure];
    return Plotly.react(plot, figure.data, themed(structuredClone(figure.layout)), config);
  };
  const drawAll = () => Promise.all(plots.map(draw));

  const applyTheme = () => {
    if (chosen) document.documentElement.dataset.theme = chosen;
    button.textContent = theme() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${button.textContent.toLowerCase()} theme`);
    return drawAll();
  };
  button.addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    applyTheme();
  });
  system.addEventListener("change", applyTheme);
  button.hidden = false;

  // On paper: light, and as wide as an A4 page.
  addEventListener("beforeprint", () => {
    for (const plot of plots) {
      const layout = structuredClone(figures[plot.dataset.figure].layout);
      Plotly.relayout(plot, { template: templates.light, width: 660, height: layout.height });
    }
  });
  addEventListener("afterprint", () => drawAll().then(() => plots.forEach(Plotly.Plots.resize)));

  const table = document.getElementById("measurements");
  if (table) {
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.textContent.toLowerCase() }));
    const query = document.getElementById("query");
    const problems = document.getElementById("problems");
    const filter = () => {
      const words = query.value.toLowerCase().split(/\s+/);
      let found = 0;
      for (const { row, text } of rows) {
        const fits = words.every((word) => text.includes(word)) && (!problems.checked || row.classList.contains("problem"));
        row.hidden = !fits;
        found += fits;
      }
      document.getElementById("found").textContent = `${found} of ${rows.length}`;
    };
    query.addEventListener("input", filter);
    problems.addEventListener("input", filter);
    document.querySelector(".filter").hidden = false;
  }

  applyTheme().then(() => { document.documentElement.dataset.ready = "true"; });
})();
