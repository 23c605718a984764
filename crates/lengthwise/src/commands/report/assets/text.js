// What is shown, what is chosen, and figures and elements as they are written.

const data = JSON.parse(document.getElementById("data").textContent);

/** The run and the position in its plans that are shown; a run beyond the last is a plan of its own. */
const chosen = { run: 0, plan: 0 };

const SVG = "http://www.w3.org/2000/svg";

/** An element; texts become text, never markup. */
function element(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of a drawing. */
function shape(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

function count(number) {
  return Math.round(number).toLocaleString("en-US");
}

/** Three digits, or all before the point. */
function digits(number) {
  const size = Math.abs(number);
  if (size >= 99.95) return count(number);
  return number.toFixed(size >= 9.995 ? 1 : 2);
}

function seconds(time) {
  const size = Math.abs(time);
  if (size >= 1 || size === 0) return `${digits(time)} s`;
  return size >= 1e-3 ? `${digits(time * 1e3)} ms` : `${digits(time * 1e6)} µs`;
}

/** For tooltips: all that a clock says. */
function exactSeconds(time) {
  return `${time.toFixed(6)} s`;
}

function percent(part) {
  return `${digits(part * 100)} %`;
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.floor(Math.log2(Math.max(number, 1)) / 10), 4);
  return power === 0 ? `${number} B` : `${digits(number / 1024 ** power)} ${units[power]}`;
}

/** `64`, `2K`: a length in little room. */
function shortLength(tokens) {
  if (tokens >= 1048576) return `${tokens / 1048576}M`;
  return tokens >= 1024 ? `${tokens / 1024}K` : `${tokens}`;
}

function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** First and last step of a point. */
function stepName([first, last]) {
  return first === last ? `step ${first}` : `steps ${first} to ${last}, mean`;
}

/** A list of what colours and marks mean: [class of the key, text]. */
function legend(entries) {
  const items = entries.map(([key, text]) => element("li", {}, element("i", { class: `key ${key}` }), text));
  return element("ul", { class: "legend" }, ...items);
}
