// Charts over steps: losses, gradient norms, and predicted beside measured time.

/** A path through points, broken where there is none. */
function path(points) {
  let pen = "M";
  let text = "";
  for (const [x, y] of points) {
    if (!Number.isFinite(y)) {
      pen = "M";
      continue;
    }
    text += `${pen}${x.toFixed(2)} ${y.toFixed(2)}`;
    pen = "L";
  }
  return text;
}

/** Everything that happened at each step, in order: [step, [[run, position], …]]. */
function bySteps() {
  const found = new Map();
  data.runs.forEach((run, index) => {
    run.series.steps.forEach(([, last], at) => {
      if (!found.has(last)) found.set(last, []);
      found.get(last).push([index, at]);
    });
  });
  return [...found.entries()].sort((a, b) => a[0] - b[0]);
}

function stepDomain() {
  const steps = data.runs.flatMap((run) => run.series.steps.map(([, last]) => last));
  const [from, to] = domain(steps, { pad: 0 });
  return from === to ? [from - 1, to + 1] : [from, to];
}

/** Columns as wide as the steps are apart, that tell of each step. */
function stepColumns(chart, rowsOf, pick) {
  const steps = bySteps();
  const edges = steps.map(([step]) => chart.x(step));
  const marks = steps.map(([, members], at) => {
    const from = at === 0 ? chart.plot.left : (edges[at - 1] + edges[at]) / 2;
    const to = at === edges.length - 1 ? chart.plot.right : (edges[at] + edges[at + 1]) / 2;
    const column = shape("rect", { class: "column", x: from, y: chart.plot.top, width: Math.max(to - from, 1), height: chart.plot.bottom - chart.plot.top });
    chart.drawing.append(column);
    const [run, position] = members[0];
    return {
      element: column,
      title: stepName(data.runs[run].series.steps[position]),
      rows: members.flatMap(([index, place]) => rowsOf(index, place)),
      pick: pick && (() => pick(members)),
    };
  });
  interact(chart.drawing, marks);
}

/** What stands before a run's figure where there are several. */
function prefixed(index, text) {
  return data.runs.length > 1 ? `${data.runs[index].name}: ${text}` : text;
}

/** The runs, if there are several, and what else is to be told apart. */
function runLegend(keyOf, more = []) {
  const runs = data.runs.length > 1 ? data.runs.map((run, index) => [`run-${index % 6} ${keyOf(index)}`, run.name]) : [];
  return legend([...runs, ...more]);
}

/** Of charts that stand beside each other where there is room. */
function pairHeight(holder) {
  return Math.min(Math.max(holder.clientWidth * 0.7, 260), 380);
}

/** A figure of each step as a line for each run, dots where there is room for them. */
function drawFigures(chart, columnOf) {
  data.runs.forEach((run, index) => {
    const points = columnOf(run).map((figure, at) => [chart.x(run.series.steps[at][1]), figure === null ? NaN : chart.y(figure)]);
    chart.drawing.append(shape("path", { class: `line run-${index % 6} dash-${index % 6}`, d: path(points) }));
    if (points.length <= 60) {
      for (const [x, y] of points.filter((point) => Number.isFinite(point[1]))) {
        chart.drawing.append(shape("circle", { class: `dot run-${index % 6}`, cx: x, cy: y, r: 2.5 }));
      }
    }
  });
}

/** The figures of all runs that are known. */
function known(columnOf) {
  return data.runs.flatMap((run) => columnOf(run).filter((figure) => figure !== null));
}

function drawLoss(holder) {
  const ofTraining = (run) => run.series.loss;
  const heldOut = (run) => run.series.validation_loss;
  const chart = frame(holder, {
    height: pairHeight(holder),
    label: "loss by step",
    x: { domain: stepDomain(), title: "step", whole: true, room: 44 },
    y: { domain: domain([...known(ofTraining), ...known(heldOut)]), title: "loss (nats per label)" },
  });
  drawFigures(chart, ofTraining);
  data.runs.forEach((run, index) => {
    const points = heldOut(run).flatMap((loss, at) => (loss === null ? [] : [[chart.x(run.series.steps[at][1]), chart.y(loss)]]));
    chart.drawing.append(shape("path", { class: `line predicted run-${index % 6}`, d: path(points) }));
    for (const [x, y] of points) {
      chart.drawing.append(shape("rect", { class: `dot run-${index % 6}`, x: x - 3.5, y: y - 3.5, width: 7, height: 7 }));
    }
  });
  stepColumns(chart, (index, at) => {
    const run = data.runs[index];
    const [loss, validation] = [ofTraining(run)[at], heldOut(run)[at]];
    const rows = [[prefixed(index, "loss"), loss === null ? "not a number" : loss.toFixed(6)]];
    return validation === null ? rows : [...rows, [prefixed(index, "validation"), validation.toFixed(6)]];
  });
  const more = known(heldOut).length ? [["ink", "training"], ["ink predicted", "validation"]] : [];
  holder.append(runLegend((index) => `dash-${index % 6}`, more));
}

function drawGradient(holder) {
  const norms = (run) => run.series.gradient_norm;
  const chart = frame(holder, {
    height: 240,
    label: "gradient norm by step",
    x: { domain: stepDomain(), title: "step", whole: true, room: 44 },
    y: { domain: domain(known(norms), { zero: true }), title: "gradient norm" },
  });
  drawFigures(chart, norms);
  stepColumns(chart, (index, at) => {
    const norm = norms(data.runs[index])[at];
    return [[prefixed(index, "gradient norm"), norm === null ? "not known" : norm.toPrecision(6)]];
  });
  holder.append(runLegend((index) => `dash-${index % 6}`));
}

function drawTimes(holder) {
  const values = data.runs.flatMap((run) => [...run.series.measured_s, ...run.series.predicted_s]);
  const chart = frame(holder, {
    height: 280,
    label: "predicted and measured time by step",
    x: { domain: stepDomain(), title: "step", whole: true, room: 44 },
    y: { domain: domain(values, { zero: true }), title: "time of a step (s)" },
  });
  const { run: at, plan } = chosen;
  const place = data.runs[at]?.series.plan.indexOf(plan) ?? -1;
  if (place >= 0) {
    const x = chart.x(data.runs[at].series.steps[place][1]);
    chart.drawing.append(shape("line", { class: "chosen", x1: x, x2: x, y1: chart.plot.top, y2: chart.plot.bottom }));
  }
  data.runs.forEach((run, index) => {
    const points = (column) => column.map((time, point) => [chart.x(run.series.steps[point][1]), chart.y(time)]);
    chart.drawing.append(
      shape("path", { class: `line predicted run-${index % 6}`, d: path(points(run.series.predicted_s)) }),
      shape("path", { class: `line run-${index % 6}`, d: path(points(run.series.measured_s)) }),
    );
    if (run.series.steps.length === 1) {
      const [x, y] = points(run.series.measured_s)[0];
      chart.drawing.append(shape("circle", { class: `dot run-${index % 6}`, cx: x, cy: y, r: 3 }));
    }
  });
  const rows = (index, point) => {
    const { measured_s: measured, predicted_s: predicted, tokens, sequences } = data.runs[index].series;
    const off = measured[point] > 0 ? ` (${percent(predicted[point] / measured[point] - 1)})` : "";
    return [
      [prefixed(index, "measured"), exactSeconds(measured[point])],
      [prefixed(index, "predicted"), exactSeconds(predicted[point]) + off],
      [prefixed(index, "batch"), `${count(sequences[point])} sequences, ${count(tokens[point])} tokens`],
    ];
  };
  stepColumns(chart, rows, (members) => {
    const [run, point] = members.find(([index]) => index === chosen.run) ?? members[0];
    choose(run, nearestPlan(run, point));
  });
  holder.append(runLegend(() => "", [["ink", "measured"], ["ink predicted", "predicted"]]));
}

function drawAgreement(holder) {
  const values = data.runs.flatMap((run) => [...run.series.measured_s, ...run.series.predicted_s]);
  const [, most] = domain(values, { zero: true });
  const chart = frame(holder, {
    height: pairHeight(holder),
    label: "measured against predicted time of steps",
    x: { domain: [0, most], title: "predicted time of a step (s)" },
    y: { domain: [0, most], title: "measured time of a step (s)" },
  });
  chart.drawing.append(shape("line", { class: "diagonal", x1: chart.x(0), y1: chart.y(0), x2: chart.x(most), y2: chart.y(most) }));
  const marks = data.runs.flatMap((run, index) => {
    const { measured_s: measured, predicted_s: predicted, steps } = run.series;
    return steps.map((step, at) => {
      const [x, y] = [chart.x(predicted[at]), chart.y(measured[at])];
      const dot = shape("g", {}, shape("circle", { class: "reach", cx: x, cy: y, r: 10 }), symbol(index, x, y));
      chart.drawing.append(dot);
      return {
        element: dot,
        title: prefixed(index, stepName(step)),
        rows: [["predicted", exactSeconds(predicted[at])], ["measured", exactSeconds(measured[at])]],
        pick: () => choose(index, nearestPlan(index, at)),
      };
    });
  });
  interact(chart.drawing, marks);
  holder.append(runLegend((index) => `symbol-${index % 3}`));
}

/** Runs differ in form too, not in colour alone. */
function symbol(run, x, y) {
  const attributes = { class: `dot run-${run % 6}` };
  if (run % 3 === 1) return shape("rect", { ...attributes, x: x - 4, y: y - 4, width: 8, height: 8 });
  if (run % 3 === 2) return shape("path", { ...attributes, d: `M${x} ${y - 5}L${x + 5} ${y + 4}L${x - 5} ${y + 4}Z` });
  return shape("circle", { ...attributes, cx: x, cy: y, r: 4.5 });
}
