// How lengths are spread, and the degrees that sequences of each length ran at.

/** All degrees of the report, increasing. */
const DEGREES = (() => {
  const found = new Set();
  const ofPlan = (plan) => plan.micro_batches.forEach((microBatch) => microBatch.groups.forEach((group) => found.add(group.degree)));
  data.runs.forEach((run) => {
    run.plans.forEach(ofPlan);
    run.lengths.forEach((bin) => bin.degrees.forEach(({ degree }) => found.add(degree)));
  });
  data.plans.forEach(ofPlan);
  return [...found].sort((a, b) => a - b);
})();

/** The class of a degree's colour: evenly spread over eight. */
function degreeClass(degree) {
  const at = DEGREES.indexOf(degree);
  const place = DEGREES.length > 1 ? Math.round((at / (DEGREES.length - 1)) * 7) : 3;
  return `degree-${place}`;
}

function degreeLegend(degrees) {
  return legend(degrees.map((degree) => [degreeClass(degree), counted(degree, "rank")]));
}

function drawLengths(holder) {
  const run = data.runs[chosen.run]?.lengths.length ? data.runs[chosen.run] : data.runs.find(({ lengths }) => lengths.length);
  const bins = run.lengths;
  const panels = element("div", { class: "panels" });
  holder.append(panels);
  const shown = [["sequences", "share of sequences", element("div")], ["tokens", "share of tokens", element("div")]];
  // Both, before their width counts.
  panels.append(...shown.map(([, , panel]) => panel));
  for (const [key, name, panel] of shown) {
    const of = (bin) => bin.degrees.reduce((sum, entry) => sum + entry[key], 0);
    const total = bins.reduce((sum, bin) => sum + of(bin), 0) || 1;
    const most = bins.map((bin) => of(bin) / total).reduce((a, b) => Math.max(a, b), 0);
    const stride = Math.ceil(bins.length / Math.max(2, Math.floor(panel.clientWidth / 52)));
    const chart = frame(panel, {
      height: 250,
      label: `${name} by length`,
      x: {
        domain: [0, bins.length],
        title: "tokens of a sequence, at least",
        ticks: bins.map((_, at) => at).filter((at) => at % stride === 0),
        format: (at) => shortLength(bins[at].from),
      },
      y: { domain: [0, most * 1.08], title: data.runs.length > 1 ? `${name} (${run.name})` : name, format: (part) => `${+(part * 100).toFixed(1)} %` },
    });
    const marks = bins.map((bin, at) => {
      const x = chart.x(at + 0.06);
      const width = chart.x(0.88) - chart.x(0);
      const column = shape("g", {}, shape("rect", { class: "reach", x, width, y: chart.plot.top, height: chart.plot.bottom - chart.plot.top }));
      let from = 0;
      for (const entry of bin.degrees) {
        const to = from + entry[key] / total;
        column.append(shape("rect", { class: `bar ${degreeClass(entry.degree)}`, x, width, y: chart.y(to), height: Math.max(chart.y(from) - chart.y(to), 0) }));
        from = to;
      }
      chart.drawing.append(column);
      return {
        element: column,
        title: `${count(bin.from)} to ${count(bin.to)} tokens`,
        rows: [
          [name, percent(of(bin) / total)],
          ["all", `${count(of(bin))} ${key}`],
          ...bin.degrees.map((entry) => [`on ${counted(entry.degree, "rank")}`, `${count(entry[key])} ${key}`]),
        ],
      };
    });
    interact(chart.drawing, marks);
  }
  const used = DEGREES.filter((degree) => bins.some((bin) => bin.degrees.some((entry) => entry.degree === degree)));
  holder.append(degreeLegend(used));
}
