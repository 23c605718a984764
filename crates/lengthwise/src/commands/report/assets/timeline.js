// The plan of the chosen step: groups as blocks over ranks and predicted time, and what the ranks measured.

/** What can be chosen: runs that have plans, then plans of their own. */
function planSources() {
  const runs = data.runs.map((run, index) => ({ index, name: run.name, plans: run.plans })).filter(({ plans }) => plans.length);
  const own = data.plans.map((plan, at) => ({ index: data.runs.length + at, name: `plan ${plan.name}`, plans: [plan] }));
  return [...runs, ...own];
}

/** The plan of a run whose step is the nearest to a point of its series. */
function nearestPlan(run, point) {
  const { plan } = data.runs[run].series;
  const known = plan.map((at, place) => [at, Math.abs(place - point)]).filter(([at]) => at !== null);
  return known.length ? known.reduce((a, b) => (b[1] < a[1] ? b : a))[0] : 0;
}

function chosenPlan() {
  const source = planSources().find(({ index }) => index === chosen.run) ?? planSources()[0];
  return source && { source, plan: source.plans[Math.min(chosen.plan, source.plans.length - 1)] };
}

function planControls({ source, plan }) {
  const controls = element("div", { class: "controls" });
  const sources = planSources();
  if (sources.length > 1) {
    const select = element("select", { "aria-label": "run" }, ...sources.map(({ index, name }) => element("option", { value: index }, name)));
    select.value = source.index;
    select.addEventListener("change", () => choose(Number(select.value), chosen.plan));
    controls.append(select);
  }
  const at = source.plans.indexOf(plan);
  if (source.plans.length > 1) {
    const slider = element("input", { type: "range", min: 0, max: source.plans.length - 1, "aria-label": "step", "aria-valuetext": plan.name });
    slider.value = at;
    slider.addEventListener("input", () => choose(source.index, Number(slider.value)));
    const button = (text, label, to) => {
      const made = element("button", { type: "button", "aria-label": label }, text);
      made.disabled = to < 0 || to >= source.plans.length;
      made.addEventListener("click", () => choose(source.index, to));
      return made;
    };
    controls.append(button("‹", "step before", at - 1), slider, button("›", "next step", at + 1));
  }
  controls.append(element("output", {}, plan.name));
  return controls;
}

function planFacts(plan) {
  const groups = plan.micro_batches.reduce((sum, microBatch) => sum + microBatch.groups.reduce((all, { groups: number }) => all + number, 0), 0);
  const facts = [
    `${counted(plan.micro_batches.length, "micro-batch").replace("batchs", "batches")}, ${counted(groups, "group")}`,
    `predicted ${seconds(plan.predicted_s)}`,
  ];
  if (plan.measured_s !== null) facts.push(`measured ${seconds(plan.measured_s)}`);
  if (plan.lower_bound_s !== null) {
    const planned = plan.planned_s === plan.predicted_s ? "" : `, planned as ${seconds(plan.planned_s)}`;
    facts.push(`no plan takes less than ${seconds(plan.lower_bound_s)}${planned}`);
  }
  return element("p", { class: "facts" }, facts.join(" · "));
}

function ranksText(ranks) {
  return ranks.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
}

function groupRows(group, makespan) {
  return [
    ["ranks", ranksText(group.ranks)],
    ["sequences", count(group.sequences)],
    ["tokens", group.tokens === null ? null : count(group.tokens)],
    ["longest", group.longest === null ? null : `${count(group.longest)} tokens`],
    [group.groups > 1 ? "predicted at most" : "predicted", exactSeconds(group.predicted_s)],
    ["then waits", exactSeconds(Math.max(makespan - group.predicted_s, 0))],
    ["memory", group.memory_bytes === null ? null : `${bytes(group.memory_bytes)} a device`],
  ].filter(([, value]) => value !== null);
}

function drawPlan(holder) {
  const shown = chosenPlan();
  if (!shown) return;
  const { plan } = shown;
  holder.append(planControls(shown), planFacts(plan));
  const allRanks = plan.micro_batches.flatMap(({ groups }) => groups.flatMap(({ ranks }) => ranks.map(([, last]) => last + 1)));
  const numRanks = allRanks.concat(plan.ranks ? [plan.ranks[0].length] : []).reduce((a, b) => Math.max(a, b), 1);
  const row = Math.min(340 / numRanks, 30);
  const most = Math.max(plan.predicted_s, plan.measured_s ?? 0) * 1.01 || 1;
  const chart = frame(holder, {
    height: numRanks * row + 72,
    left: 40,
    top: 30,
    label: "groups of the plan over ranks and predicted time",
    x: { domain: [0, most], title: "predicted time since the step began (s)" },
    y: { domain: [numRanks, 0], title: "rank", ticks: rankTicks(numRanks, row), format: (at) => `${Math.floor(at)}` },
  });
  chart.y = (rank) => chart.plot.top + rank * row;
  const hatch = shape("pattern", { id: "idle", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, shape("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 6 }));
  chart.drawing.append(shape("defs", {}, hatch));
  let start = 0;
  const marks = plan.micro_batches.flatMap((microBatch, at) => {
    const makespan = microBatch.groups.reduce((most, group) => Math.max(most, group.predicted_s), 0);
    const [from, end, next] = [chart.x(start), chart.x(start + makespan), chart.x(start + microBatch.predicted_s)];
    const height = numRanks * row;
    chart.drawing.append(
      shape("rect", { class: "idle", x: from, y: chart.plot.top, width: end - from, height, fill: "url(#idle)" }),
      shape("rect", { class: "overhead", x: end, y: chart.plot.top, width: Math.max(next - end, 0), height }),
      shape("line", { class: "border", x1: next, x2: next, y1: chart.plot.top - 8, y2: chart.plot.bottom }),
    );
    if (next - from > 90) {
      chart.drawing.append(shape("text", { class: "label", x: (from + next) / 2, y: chart.plot.top - 5, "text-anchor": "middle" }, `micro-batch ${at + 1}`));
    }
    const begun = start;
    start += microBatch.predicted_s;
    return microBatch.groups.map((group) => {
      const block = shape("g", { class: `group ${degreeClass(group.degree)}` });
      const width = Math.max(chart.x(begun + group.predicted_s) - from, 0.5);
      for (const [first, last] of group.ranks) {
        const inset = row >= 6 ? 0.75 : 0;
        block.append(shape("rect", { x: from, y: chart.y(first) + inset, width, height: Math.max((last - first + 1) * row - 2 * inset, 0.5), rx: row >= 6 ? 2 : 0 }));
      }
      const [first, last] = group.ranks[0];
      const tall = (last - first + 1) * row;
      const many = group.groups > 1 ? `${count(group.groups)} × ` : "";
      const texts = [`${many}${counted(group.degree, "rank")} · ${counted(group.sequences, "sequence")}`, ...(many ? [] : [`${group.degree} × ${group.sequences}`]), `${many}${group.degree}`];
      const text = texts.find((candidate) => candidate.length * 6.6 + 10 < width);
      if (text && tall >= 13) block.append(shape("text", { x: from + 6, y: chart.y(first) + Math.min(tall / 2, 60) + 4 }, text));
      chart.drawing.append(block);
      return { element: block, title: `micro-batch ${at + 1}, ${group.groups > 1 ? `${count(group.groups)} groups of ` : ""}degree ${group.degree}`, rows: groupRows(group, makespan) };
    });
  });
  if (plan.step_overhead_s > 0) {
    const [from, to] = [chart.x(start), chart.x(start + plan.step_overhead_s)];
    chart.drawing.append(shape("rect", { class: "overhead", x: from, y: chart.plot.top, width: to - from, height: numRanks * row }));
  }
  if (plan.measured_s !== null) {
    const x = chart.x(plan.measured_s);
    chart.drawing.append(
      shape("line", { class: "measured", x1: x, x2: x, y1: chart.plot.top - 14, y2: chart.plot.bottom }),
      shape("text", { class: "label strong", x: x - 4, y: chart.plot.top - 18, "text-anchor": "end" }, "measured"),
    );
  }
  interact(chart.drawing, marks);
  const used = DEGREES.filter((degree) => plan.micro_batches.some(({ groups }) => groups.some((group) => group.degree === degree)));
  const key = degreeLegend(used);
  key.append(...legend([["idle-key", "ranks wait"], ["overhead", "fixed costs"]]).children);
  holder.append(key);
  if (plan.ranks) drawRanks(holder, plan);
  holder.append(groupTable(plan));
}

function rankTicks(numRanks, row) {
  const stride = 2 ** Math.max(0, Math.ceil(Math.log2(15 / row)));
  return Array.from({ length: Math.ceil(numRanks / stride) }, (_, at) => at * stride + 0.5);
}

/** Measured compute, exchange and waiting of every rank. */
function drawRanks(holder, plan) {
  const numRanks = plan.ranks[0].length;
  const row = Math.min(Math.max(240 / numRanks, 1.5), 20);
  holder.append(element("h3", {}, "Measured on each rank"));
  const chart = frame(holder, {
    height: numRanks * row + 68,
    left: 40,
    label: "measured time of each rank",
    x: { domain: [0, (plan.measured_s || 1) * 1.01], title: "measured time of the step (s)" },
    y: { domain: [numRanks, 0], title: "rank", ticks: rankTicks(numRanks, row), format: (at) => `${Math.floor(at)}` },
  });
  const marks = Array.from({ length: numRanks }, (_, rank) => {
    const parts = plan.ranks.map((column) => column[rank]);
    const bars = shape("g", {});
    let from = 0;
    parts.forEach((part, kind) => {
      const inset = row >= 6 ? 1 : 0;
      bars.append(shape("rect", { class: `bar ${KINDS[kind][0]}`, x: chart.x(from), y: chart.plot.top + rank * row + inset, width: Math.max(chart.x(from + part) - chart.x(from), 0), height: row - 2 * inset }));
      from += part;
    });
    chart.drawing.append(bars);
    const total = parts.reduce((a, b) => a + b, 0) || 1;
    return { element: bars, title: `rank ${rank}`, rows: KINDS.map(([, name], kind) => [name, `${exactSeconds(parts[kind])} (${percent(parts[kind] / total)})`]) };
  });
  interact(chart.drawing, marks);
  holder.append(legend(KINDS));
}

function groupTable(plan) {
  const names = ["micro-batch", "groups", "degree", "ranks", "sequences", "tokens", "longest", "predicted s"];
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
  const rows = plan.micro_batches.flatMap(({ groups }, at) =>
    groups.map((group) => {
      const cells = [at + 1, group.groups, group.degree, ranksText(group.ranks), count(group.sequences), group.tokens === null ? "–" : count(group.tokens), group.longest === null ? "–" : count(group.longest), group.predicted_s.toFixed(6)];
      return element("tr", {}, ...cells.map((cell) => element("td", {}, `${cell}`)));
    }),
  );
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  const details = element("details", {}, element("summary", {}, `Table: groups of ${plan.name}`), element("div", { class: "scroll", tabindex: "0" }, table));
  details.open = groupTable.isOpen ?? false;
  details.addEventListener("toggle", () => (groupTable.isOpen = details.open));
  return details;
}
