// Axes: scales, ticks, titles with units.

/** Round figures from the first at or above `from` to the last at or below `to`. */
function ticks(from, to, num) {
  const span = to - from;
  if (!(span > 0)) return [from];
  const raw = span / Math.max(num, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw * 0.999);
  const found = [];
  for (let index = Math.ceil(from / step - 1e-9); index * step <= to + step * 1e-9; index += 1) found.push(index * step || 0);
  return found;
}

/** A tick with as many decimals as neighbours need to differ. */
function tickText(value, all) {
  const step = all.length > 1 ? all[1] - all[0] : Math.abs(value) || 1;
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** A little more than the figures span, so that none lies on the edge. */
function domain(values, { zero = false, pad = 0.05 } = {}) {
  const known = values.filter((value) => Number.isFinite(value));
  if (known.length === 0) return [0, 1];
  const low = known.reduce((a, b) => Math.min(a, b));
  const high = known.reduce((a, b) => Math.max(a, b));
  const span = high - low || Math.abs(high) || 1;
  return [zero ? Math.min(0, low) : low - span * pad, high + span * pad];
}

/** A drawing as wide as its place, with axes; `x` and `y` map figures to it. */
function frame(holder, options) {
  const width = Math.max(holder.clientWidth, 260);
  const { height, left = 52, right = 14, top = 26, bottom = 42 } = options;
  const plot = { left, right: width - right, top, bottom: height - bottom };
  const scale = ([from, to], low, high) => (value) => low + ((value - from) / (to - from || 1)) * (high - low);
  const x = scale(options.x.domain, plot.left, plot.right);
  const y = scale(options.y.domain, plot.bottom, plot.top);
  const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", height, "aria-label": options.label });
  const axis = shape("g", { class: "axis", "aria-hidden": "true" });
  if (!options.y.hidden) {
    const yTicks = options.y.ticks ?? ticks(...options.y.domain, Math.max(2, Math.floor((plot.bottom - plot.top) / 45)));
    for (const value of yTicks) {
      const at = y(value);
      axis.append(
        shape("line", { class: "grid", x1: plot.left, x2: plot.right, y1: at, y2: at }),
        shape("text", { x: plot.left - 7, y: at + 4, "text-anchor": "end" }, options.y.format?.(value) ?? tickText(value, yTicks)),
      );
    }
  }
  if (!options.x.hidden) {
    const room = Math.max(2, Math.floor((plot.right - plot.left) / (options.x.room ?? 70)));
    const xTicks = options.x.ticks ?? ticks(...options.x.domain, room).filter((value) => !options.x.whole || Number.isInteger(value));
    for (const value of xTicks) {
      const at = x(value);
      axis.append(
        shape("line", { class: "tick", x1: at, x2: at, y1: plot.bottom, y2: plot.bottom + 5 }),
        shape("text", { x: at, y: plot.bottom + 18, "text-anchor": "middle" }, options.x.format?.(value) ?? tickText(value, xTicks)),
      );
    }
    axis.append(shape("line", { class: "base", x1: plot.left, x2: plot.right, y1: plot.bottom, y2: plot.bottom }));
  }
  axis.append(
    shape("text", { class: "title", x: plot.left - (options.y.hidden ? 0 : left - 4), y: 13 }, options.y.title ?? ""),
    shape("text", { class: "title", x: plot.right, y: height - 6, "text-anchor": "end" }, options.x.title ?? ""),
  );
  drawing.append(axis);
  holder.append(drawing);
  return { drawing, plot, x, y, width };
}
