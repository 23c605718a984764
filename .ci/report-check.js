// Tries a report out as a reader would, and tells the page around it what is wrong.
// The window's width is told behind the address's #.
const tryOut = () => {
  const problems = [];
  const expect = (holds, what) => holds || problems.push(what);
  const tooltip = document.getElementById("tooltip");
  const press = (target, key) => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  try {
    const asked = Number(location.hash.slice(1));
    expect(window.innerWidth === asked, `the window is ${window.innerWidth} wide, not ${asked}`);
    const charts = [...document.querySelectorAll("[data-chart]")];
    const names = charts.map((chart) => chart.dataset.chart);
    for (const name of ["comparison", "times", "agreement", "loss", "shares", "plan", "lengths", "trace"]) {
      expect(names.includes(name), `${name} is missing`);
    }
    for (const name of names) {
      const all = () => [...document.querySelectorAll(`[data-chart="${name}"] svg`)];
      expect(all().length > 0, `${name} is empty`);
      all().forEach((_, at) => {
        const drawing = all()[at];
        const box = drawing.getBoundingClientRect();
        expect(box.width > 200 && box.height > 60, `${name} is ${box.width} x ${box.height}`);
        const texts = [...drawing.querySelectorAll("text")].filter((text) => text.textContent);
        expect(texts.length > 2, `${name} has no texts`);
        expect(!/NaN|undefined|null|Infinity/.test(drawing.outerHTML), `${name} has a figure that is none`);
        const room = document.documentElement.clientWidth + 1;
        const wide = texts.find((text) => text.getBoundingClientRect().right > room || text.getBoundingClientRect().left < -1);
        expect(!wide, `${name} has a text that is cut: ${wide?.textContent}`);
        const marks = drawing.querySelectorAll(".mark");
        expect(marks.length > 0, `${name} has no marks`);
        expect(drawing.querySelectorAll(".mark[tabindex='0']").length === 1, `${name} is not one stop of the tab key`);
        if (marks.length === 0) return;
        marks[0].focus();
        expect(!tooltip.hidden && tooltip.textContent.length > 4, `${name} tells nothing`);
        const told = tooltip.getBoundingClientRect();
        expect(told.left >= 0 && told.right <= room, `the tooltip of ${name} is cut`);
        press(marks[0], "ArrowRight");
        expect(document.activeElement === marks[Math.min(1, marks.length - 1)], `${name} does not know arrows`);
        press(document.activeElement, "End");
        expect(document.activeElement === marks[marks.length - 1], `${name} does not know End`);
        press(document.activeElement, "Escape");
        expect(tooltip.hidden, `${name} does not know Escape`);
      });
    }
    const step = () => document.querySelector('[data-chart="plan"] output').textContent;
    const before = step();
    const columns = [...document.querySelectorAll('[data-chart="times"] .column')];
    const other = columns.find((column) => !column.getAttribute("aria-label").startsWith(`${before},`));
    other.focus();
    press(other, "Enter");
    expect(step() !== before, "no other step can be chosen");
    expect(document.activeElement.classList.contains("column"), "who chooses a step loses their place");
    const slider = document.querySelector('[data-chart="plan"] input');
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
    const select = document.querySelector('[data-chart="plan"] select');
    select.value = [...select.options].at(-1).value;
    select.dispatchEvent(new Event("change"));
    expect(step().startsWith("plan"), "the plan of a file can't be chosen");
    const page = document.documentElement;
    expect(page.scrollWidth <= page.clientWidth, `the page is ${page.scrollWidth} wide, the window ${page.clientWidth}`);
    for (const details of document.querySelectorAll("details")) details.open = true;
    expect(page.scrollWidth <= page.clientWidth, "an open table is wider than the page");
    for (const table of document.querySelectorAll("details table")) expect(table.rows.length > 1, "a table is empty");
  } catch (error) {
    problems.push(`${error}`);
  }
  parent.postMessage(problems.join("; ") || "ok", "*");
};
// Once the page has taken the window's width.
setTimeout(tryOut, 500);
