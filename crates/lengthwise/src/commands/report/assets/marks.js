// Marks that say their exact figures: to the mouse, to touch, and to the keyboard as one stop with arrows.

const tooltip = document.getElementById("tooltip");

/** The mark that the tooltip belongs to. */
let told = null;

function tell(mark) {
  told = mark;
  const rows = mark.rows.map(([name, value]) => element("tr", {}, element("th", {}, name), element("td", {}, value)));
  tooltip.replaceChildren(element("strong", {}, mark.title), element("table", {}, ...rows));
  tooltip.hidden = false;
  const box = (mark.near ?? mark.element).getBoundingClientRect();
  const size = tooltip.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const left = Math.min(Math.max(box.left + box.width / 2 - size.width / 2, 8), Math.max(room - size.width - 8, 8));
  const above = box.top - size.height - 10;
  const top = above >= 8 ? above : Math.min(box.bottom + 10, window.innerHeight - size.height - 8);
  tooltip.style.left = `${left}px`;
  tooltip.style.top = `${Math.max(top, 8)}px`;
}

function hush() {
  told = null;
  tooltip.hidden = true;
}

/**
 * Makes marks tell of themselves. A mark has an element, a title, rows of name and value, and perhaps what happens when
 * it is picked. They are one stop of the tab key; arrows, Home and End go from mark to mark.
 */
function interact(drawing, marks) {
  if (marks.length === 0) return;
  let current = 0;
  const focus = (index) => {
    marks[current].element.setAttribute("tabindex", "-1");
    current = Math.min(Math.max(index, 0), marks.length - 1);
    marks[current].element.setAttribute("tabindex", "0");
    marks[current].element.focus({ preventScroll: true });
  };
  marks.forEach((mark, index) => {
    const label = [mark.title, ...mark.rows.map(([name, value]) => `${name} ${value}`)].join(", ");
    const { element } = mark;
    element.setAttribute("role", mark.pick ? "button" : "img");
    element.setAttribute("aria-label", label);
    element.setAttribute("tabindex", index === 0 ? "0" : "-1");
    element.dataset.mark = index;
    element.classList.add("mark");
    element.addEventListener("focus", () => tell(mark));
    element.addEventListener("blur", hush);
    element.addEventListener("pointerenter", () => tell(mark));
    element.addEventListener("pointerleave", (event) => {
      // A finger that is lifted leaves; what it touched stays told.
      if (event.pointerType !== "touch") hush();
    });
    element.addEventListener("click", () => {
      marks[current].element.setAttribute("tabindex", "-1");
      current = index;
      element.setAttribute("tabindex", "0");
      tell(mark);
      mark.pick?.();
    });
    element.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
      if (event.key in steps) focus(index + steps[event.key]);
      else if (event.key === "Home") focus(0);
      else if (event.key === "End") focus(marks.length - 1);
      else if (event.key === "Escape") hush();
      else if (event.key === "Enter" || event.key === " ") mark.pick?.();
      else return;
      event.preventDefault();
    });
  });
  drawing.setAttribute("role", "group");
}

document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest?.(".mark")) hush();
});
window.addEventListener("scroll", () => told && hush(), { passive: true });
