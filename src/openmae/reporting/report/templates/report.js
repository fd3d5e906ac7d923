"use strict";
(() => {
  const root = document.documentElement;
  const specifications = JSON.parse(document.getElementById("charts").textContent);
  const views = {};
  const titles = { samples: "samples seen", epoch: "epochs", share: "share of the training, %" };
  let axis = "samples";
  root.classList.add("js");

  /* The specification with another figure on the axis. */
  function onAxis(part) {
    if (Array.isArray(part)) return part.map((one) => (one === "samples" ? axis : onAxis(one)));
    if (part === null || typeof part !== "object") return part;
    const changed = {};
    for (const [key, value] of Object.entries(part)) {
      if (key === "values" || key === "datasets" || key === "tooltip") changed[key] = value;
      else if (key === "field" && value === "samples") changed[key] = axis;
      else if (key === "title" && value === titles.samples) changed[key] = titles[axis];
      else changed[key] = onAxis(value);
    }
    return changed;
  }

  /* A legend beside which there is no room is a list. */
  function narrow(part, columns) {
    if (part === null || typeof part !== "object") return;
    if (part.legend) part.legend.columns = Math.min(part.legend.columns, columns);
    Object.values(part).forEach((one) => narrow(one, columns));
  }

  function fitted(name, width) {
    const specification = structuredClone(specifications[name]);
    if (width < 480) narrow(specification, name === "curves" ? 1 : 2);
    if (name !== "curves") return { ...specification, width: Math.max(200, width - 10), height: Math.min(520, Math.max(300, width * 0.6)) };
    for (const chart of specification.vconcat) chart.width = Math.max(160, width - 78);
    return onAxis(specification);
  }

  async function draw(name) {
    const place = document.getElementById("chart-" + name);
    if (!place) return;
    const width = place.clientWidth;
    views[name]?.finalize();
    const drawn = await window.vegaEmbed(place, fitted(name, width), {
      actions: false, renderer: "svg", ast: true, defaultStyle: false, tooltip: explain,
      config: { background: null, view: { stroke: null }, font: "system-ui, sans-serif",
                axis: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: 500 }, legend: { labelFontSize: 12, titleFontSize: 12 } },
    });
    views[name] = drawn;
    place.dataset.width = width;
  }

  /* What a point stands for, beside the pointer. Names are text: nothing is read as HTML. */
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  function explain(_, event, item, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    const point = item.datum.datum ?? item.datum;
    const number = (one, digits) => one.toLocaleString("en", { maximumSignificantDigits: digits });
    const lines = point.image
      ? [point.class, point.name]
      : [`${point.line}: ${number(point.value, 4)}`,
         ...(point.samples === undefined ? [] : [`${number(point.samples, 12)} samples`]),
         ...(point.epoch === undefined ? [] : [`epoch ${number(point.epoch, 4)}`])];
    tip.replaceChildren(...lines.map((words) => Object.assign(document.createElement("p"), { textContent: words })));
    if (point.image) tip.prepend(Object.assign(new Image(), { src: point.image, alt: "" }));
    const right = event.clientX + 16 + tip.offsetWidth > document.documentElement.clientWidth;
    tip.style.left = Math.max(4, right ? event.clientX - 12 - tip.offsetWidth : event.clientX + 16) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 4)) + "px";
  }

  const all = () => Promise.all(Object.keys(specifications).map(draw));
  let waiting = 0;
  const watch = new ResizeObserver(() => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const name of Object.keys(specifications)) {
        const place = document.getElementById("chart-" + name);
        if (place && Number(place.dataset.width) !== place.clientWidth) draw(name);
      }
    }, 150);
  });

  /* The part of the axis that is shown, through the signal that Vega-Lite makes for the selection "zoom". */
  const signal = () => "zoom_" + axis;
  function shown() {
    const view = views.curves.view;
    const now = view.signal(signal());
    return now && now.length === 2 ? now : extent();
  }
  function extent() {
    const found = [Infinity, -Infinity];
    const visit = (part) => {
      if (Array.isArray(part)) part.forEach(visit);
      else if (part && typeof part === "object") {
        if (typeof part.value === "number" && typeof part[axis] === "number") {
          found[0] = Math.min(found[0], part[axis]);
          found[1] = Math.max(found[1], part[axis]);
        } else Object.values(part).forEach(visit);
      }
    };
    visit(specifications.curves);
    return found;
  }
  function show(range) {
    views.curves.view.signal(signal(), range).runAsync();
  }
  for (const button of document.querySelectorAll("[data-zoom], [data-move]")) {
    button.addEventListener("click", () => {
      if (!views.curves) return;
      if (button.dataset.zoom === "reset") return show(null);
      const [low, high] = shown();
      const middle = (low + high) / 2, half = (high - low) / 2;
      if (button.dataset.zoom) return show([middle - half * button.dataset.zoom, middle + half * button.dataset.zoom]);
      const by = (high - low) * button.dataset.move;
      show([low + by, high + by]);
    });
  }
  document.getElementById("axis")?.addEventListener("change", (event) => {
    axis = event.target.value;
    draw("curves");
  });

  /* 0 is the original, 50 the masked image, 100 the reconstruction; between them one is wiped over the other. */
  const wipe = document.getElementById("wipe");
  function wiped() {
    const value = Number(wipe.value);
    const masked = Math.min(100, 2 * value), made = Math.max(0, 2 * value - 100);
    for (const one of document.querySelectorAll(".wipe")) {
      one.style.setProperty("--to-masked", masked + "%");
      one.style.setProperty("--to-made", made + "%");
      one.style.setProperty("--edge", (value === 0 || value === 50 || value === 100 ? -10 : value < 50 ? masked : made) + "%");
    }
    wipe.setAttribute("aria-valuetext", value <= 0 ? "original" : value < 50 ? `masked over ${masked} % of the original` :
      value === 50 ? "masked" : value < 100 ? `reconstruction over ${made} % of the masked image` : "reconstruction");
  }
  wipe?.addEventListener("input", wiped);
  if (wipe) wiped();

  const time = document.getElementById("time");
  time?.addEventListener("input", () => {
    const steps = JSON.parse(time.dataset.steps), place = Number(time.value);
    document.getElementById("step").textContent = steps[place].toLocaleString("en");
    time.setAttribute("aria-valuetext", "step " + steps[place]);
    for (const one of document.querySelectorAll(".wipe")) {
      one.querySelectorAll(".made").forEach((picture, number) => picture.classList.toggle("now", number === place));
    }
  });

  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  all().then(() => {
    for (const place of document.querySelectorAll(".chart")) watch.observe(place);
    root.dataset.ready = "yes";
  });
})();
