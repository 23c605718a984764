// Bars: runs beside each other, and where time went.

const KINDS = [
  ["compute", "compute"],
  ["exchange", "exchange"],
  ["wait", "waiting"],
];

function drawComparison(holder) {
  const runs = data.runs.map((run, index) => ({ ...run, index })).filter((run) => run.tokens_per_s !== null);
  const slowest = runs.map((run) => run.tokens_per_s).reduce((a, b) => Math.min(a, b), Infinity);
  const most = runs.map((run) => run.tokens_per_s).reduce((a, b) => Math.max(a, b), 0);
  const row = 52;
  const chart = frame(holder, {
    height: runs.length * row + 60,
    left: 8,
    top: 10,
    label: "tokens per second of each run",
    x: { domain: [0, most * 1.02], title: "tokens/s", room: 90 },
    y: { domain: [0, runs.length], hidden: true },
  });
  const marks = runs.map((run, at) => {
    const top = chart.plot.top + at * row;
    const bar = shape("rect", { class: `bar run-${run.index % 6}`, x: chart.x(0), y: top + 20, width: chart.x(run.tokens_per_s) - chart.x(0), height: 20, rx: 3 });
    const times = `${(run.tokens_per_s / slowest).toFixed(2)}×`;
    const name = run.planner && run.planner !== run.name ? `${run.name} (${run.planner})` : run.name;
    chart.drawing.append(
      bar,
      shape("text", { class: "label", x: chart.x(0), y: top + 14 }, name),
      shape("text", { class: "label strong", x: chart.plot.right, y: top + 14, "text-anchor": "end" }, `${count(run.tokens_per_s)} tokens/s · ${times}`),
    );
    return { element: bar, title: run.name, rows: [["tokens/s", digits(run.tokens_per_s)], ["to the slowest", times]] };
  });
  interact(chart.drawing, marks);
}

/** Stacked parts from left to right; returns what tells of them. */
function stack(chart, parts, top, height, title, written) {
  let from = 0;
  return parts.map((part, kind) => {
    const [key, name] = KINDS[kind];
    const bar = shape("rect", { class: `bar ${key}`, x: chart.x(from), y: top, width: Math.max(chart.x(from + part) - chart.x(from), 0), height });
    chart.drawing.append(bar);
    if (chart.x(part) - chart.x(0) > 58) {
      const middle = chart.x(from + part / 2);
      chart.drawing.append(shape("text", { class: `inside ${key}`, x: middle, y: top + height / 2 + 4, "text-anchor": "middle" }, written(part, parts)));
    }
    from += part;
    return { element: bar, title, rows: [[name, written(part, parts)]] };
  });
}

function drawShares(holder) {
  const runs = data.runs.map((run, index) => ({ run, index })).filter(({ run }) => run.series.shares.some(Boolean));
  const row = 46;
  const means = frame(holder, {
    height: runs.length * row + 52,
    left: 8,
    top: 6,
    label: "shares of time of each run",
    x: { domain: [0, 1], title: "share of the ranks' time", format: (part) => `${Math.round(part * 100)} %` },
    y: { domain: [0, 1], hidden: true },
  });
  const marks = runs.flatMap(({ run }, at) => {
    const known = run.series.shares.map((shares, point) => [shares, run.series.measured_s[point] * (run.series.steps[point][1] - run.series.steps[point][0] + 1)]);
    const total = known.filter(([shares]) => shares).reduce((sum, [, time]) => sum + time, 0) || 1;
    const mean = [0, 1, 2].map((kind) => known.reduce((sum, [shares, time]) => sum + (shares ? shares[kind] * time : 0), 0) / total);
    const top = means.plot.top + at * row;
    const title = data.runs.length > 1 ? `${run.name}, all steps` : "all steps";
    means.drawing.append(shape("text", { class: "label", x: means.x(0), y: top + 13 }, title));
    return stack(means, mean, top + 19, 20, title, (part) => percent(part));
  });
  interact(means.drawing, marks);
  const { run } = runs.find(({ index }) => index === chosen.run) ?? runs[0];
  const { shares, steps } = run.series;
  const chart = frame(holder, {
    height: 220,
    label: "shares of time by step",
    x: { domain: [0, shares.length], title: data.runs.length > 1 ? `step of ${run.name}` : "step", ticks: stepTicks(steps, holder.clientWidth), format: (at) => `${steps[Math.floor(at)][1]}` },
    y: { domain: [0, 1], title: "share of the ranks' time", format: (part) => `${Math.round(part * 100)} %`, ticks: [0, 0.25, 0.5, 0.75, 1] },
  });
  const gap = shares.length < 120 ? 0.12 : 0;
  const columns = shares.flatMap((parts, at) => {
    if (!parts) return [];
    let from = 0;
    const column = shape("g", {});
    parts.forEach((part, kind) => {
      const [low, high] = [chart.y(from), chart.y(from + part)];
      from += part;
      column.append(shape("rect", { class: `bar ${KINDS[kind][0]}`, x: chart.x(at + gap / 2), y: high, width: chart.x(1 - gap) - chart.x(0), height: Math.max(low - high, 0) }));
    });
    chart.drawing.append(column);
    return [{ element: column, title: stepName(steps[at]), rows: KINDS.map(([, name], kind) => [name, percent(parts[kind])]) }];
  });
  interact(chart.drawing, columns);
  holder.append(legend(KINDS));
}

/** Positions in the middle of columns, as many as there is room for. */
function stepTicks(steps, width) {
  const stride = Math.max(1, Math.ceil(steps.length / Math.max(2, Math.floor(width / 60))));
  return steps.map((_, at) => at + 0.5).filter((_, at) => at % stride === 0);
}
