// Draws all charts, again when the page's width or the choice changes.

const CHARTS = {
  comparison: drawComparison,
  times: drawTimes,
  agreement: drawAgreement,
  loss: drawLoss,
  gradient: drawGradient,
  shares: drawShares,
  plan: drawPlan,
  lengths: drawLengths,
  trace: drawTrace,
};

/** Charts that show what is chosen. */
const OF_THE_CHOICE = ["times", "shares", "plan", "lengths", "trace"];

function draw(name) {
  const holder = document.querySelector(`[data-chart="${name}"]`);
  if (!holder) return;
  // Whoever uses the keyboard stays where they were.
  const active = holder.contains(document.activeElement) ? document.activeElement : null;
  const place = active && (active.dataset.mark !== undefined ? ["mark", active.dataset.mark] : ["label", active.getAttribute("aria-label")]);
  const drawing = active && [...holder.querySelectorAll("svg")].indexOf(active.closest("svg"));
  holder.style.minHeight = `${holder.offsetHeight}px`;
  holder.replaceChildren();
  CHARTS[name](holder);
  holder.style.minHeight = "";
  if (!place) return;
  const again =
    place[0] === "mark"
      ? holder.querySelectorAll("svg")[drawing]?.querySelector(`[data-mark="${place[1]}"]`)
      : [...holder.querySelectorAll("[aria-label]")].find((made) => made.getAttribute("aria-label") === place[1]);
  again?.focus({ preventScroll: true });
}

function choose(run, plan) {
  chosen.run = run;
  chosen.plan = plan;
  const shown = data.runs[run]?.series.steps[data.runs[run].series.plan.indexOf(plan)];
  if (shown) traceOf(shown[1]);
  OF_THE_CHOICE.forEach(draw);
}

/** The plan in which there is most to see. */
function mostGroups(plans) {
  const groups = plans.map((plan) => plan.micro_batches.reduce((sum, microBatch) => sum + microBatch.groups.length, 0));
  return Math.max(groups.indexOf(groups.reduce((a, b) => Math.max(a, b), 0)), 0);
}

function begin() {
  const first = data.runs[0];
  const asked = first.series.plan.findIndex((plan) => plan !== null && first.plans[plan].name === `step ${data.asked_step}`);
  chosen.plan = asked >= 0 ? first.series.plan[asked] : mostGroups(first.plans);
  if (!first.plans.length) chosen.run = planSources()[0]?.index ?? 0;
  const names = Object.keys(CHARTS);
  names.forEach(draw);
  let width = document.documentElement.clientWidth;
  new ResizeObserver(() => {
    const now = document.documentElement.clientWidth;
    if (now === width) return;
    width = now;
    hush();
    // Not at once: a page that grows while it is observed is reported as an error.
    requestAnimationFrame(() => names.forEach(draw));
  }).observe(document.documentElement);
  document.documentElement.dataset.drawn = document.querySelectorAll(".chart svg").length;
}

begin();
