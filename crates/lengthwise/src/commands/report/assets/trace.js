// What ranks did when, as it was traced or simulated.

const TRACED = [...KINDS, ["overhead", "overhead"]];

/** The position of the trace that is shown. */
let shownTrace = 0;

/** Shows the trace of a step, if there is one. */
function traceOf(step) {
  const at = data.traces.findIndex((trace) => trace.step === step);
  if (at >= 0) shownTrace = at;
}

function drawTrace(holder) {
  const trace = data.traces[shownTrace];
  const controls = element("div", { class: "controls" });
  if (data.traces.length > 1) {
    const select = element("select", { "aria-label": "trace" }, ...data.traces.map(({ name }, at) => element("option", { value: at }, name)));
    select.value = shownTrace;
    select.addEventListener("change", () => {
      shownTrace = Number(select.value);
      draw("trace");
    });
    controls.append(select);
  } else {
    controls.append(element("output", {}, trace.name));
  }
  holder.append(controls);
  const numRanks = trace.lanes.length;
  const row = Math.min(Math.max(320 / numRanks, 1.5), 22);
  const chart = frame(holder, {
    height: numRanks * row + 68,
    left: 64,
    label: `what ranks did in ${trace.name}`,
    x: { domain: [0, trace.end_s], title: "time since the step began (s)" },
    y: { domain: [numRanks, 0], title: "rank", ticks: rankTicks(numRanks, row), format: (at) => trace.lanes[Math.floor(at)]?.name ?? "" },
  });
  const marks = trace.lanes.map((lane, at) => {
    const bars = shape("g", {});
    const top = chart.plot.top + at * row;
    const inset = row >= 6 ? 1 : 0;
    bars.append(shape("rect", { class: "reach", x: chart.plot.left, width: chart.plot.right - chart.plot.left, y: top, height: row }));
    // One path for each kind: thousands of elements would be slow.
    TRACED.forEach(([key], kind) => {
      const drawn = lane.bars.filter((bar) => bar[2] === kind).map(([start, duration]) => {
        const [from, to] = [chart.x(start), chart.x(start + duration)];
        return `M${from.toFixed(2)} ${(top + inset).toFixed(2)}H${to.toFixed(2)}V${(top + row - inset).toFixed(2)}H${from.toFixed(2)}Z`;
      });
      if (drawn.length) bars.append(shape("path", { class: `bar ${key}`, d: drawn.join("") }));
    });
    chart.drawing.append(bars);
    const rows = TRACED.map(([, name], kind) => [name, `${exactSeconds(lane.totals[kind])} (${percent(lane.totals[kind] / trace.end_s)})`]);
    return { element: bars, title: lane.name, rows: rows.filter((_, kind) => lane.totals[kind] > 0) };
  });
  interact(chart.drawing, marks);
  if (trace.is_merged) holder.append(element("p", { class: "facts" }, "There are more events than can be drawn one by one: in each short stretch of time, they are sorted by kind."));
  if (trace.num_left_out) holder.append(element("p", { class: "facts" }, `${counted(trace.num_left_out, "rank")} more are not drawn.`));
  holder.append(legend(TRACED));
}
