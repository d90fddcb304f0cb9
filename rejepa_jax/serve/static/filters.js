/** The filters: a form built from what the server says it holds, and chips for those in use. */

import { button, byId, element, icon } from "./dom.js";
import { countFilters, noFilters } from "./state.js";

const GROUPS = { labels: "Labels", sensors: "Sensors", collections: "Collections", splits: "Splits" };
const EDGES = ["West", "South", "East", "North"];
const MANY = 10; // options from which on a group can be searched

/**
 * @param {Object} info   answer of /api/info
 * @param {function(Object): void} change takes the part of the state that is to be replaced
 */
export function buildFilters(info, change) {
  const parts = Object.entries(GROUPS)
    .filter(([name]) => info[name].length > 1)
    .map(([name, title]) => group(name, title, info[name]));
  byId("filter-groups").replaceChildren(...parts);
  byId("filter-dates").hidden = !info.dates;
  for (const name of ["start", "end"]) {
    if (info.dates) [byId(name).min, byId(name).max] = info.dates;
  }
  byId("filter-bbox").hidden = !info.bbox;
  byId("filter-elsewhere").hidden = !info.has_places;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("change", (event) => {
    if (!event.target.matches("[data-search]")) change(readFilters());
  });
}

function group(name, title, options) {
  const boxes = options.map((option) => element(
    "label", { class: "option" },
    element("input", { type: "checkbox", name, value: option }), element("span", {}, option),
  ));
  const words = `Find in ${title.toLowerCase()}`;
  const find = element("input", { type: "search", placeholder: words, "aria-label": words, "data-search": true });
  find.addEventListener("input", () => {
    for (const box of boxes) box.hidden = !box.textContent.toLowerCase().includes(find.value.toLowerCase());
  });
  const parts = [element("legend", {}, title), element("div", { class: "options" }, ...boxes)];
  if (options.length > MANY) parts.splice(1, 0, find);
  return element("fieldset", {}, ...parts);
}

/** The filters as the form has them; a box counts when all four edges are given. */
function readFilters() {
  const form = new FormData(byId("filters"));
  const lists = Object.fromEntries(Object.keys(GROUPS).map((name) => [name, form.getAll(name)]));
  const edges = EDGES.map((edge) => form.get(edge));
  const bbox = edges.every((edge) => edge !== "" && edge !== null) ? edges.map(Number) : null;
  return { ...lists, bbox, start: form.get("start"), end: form.get("end"), elsewhere: form.has("elsewhere") };
}

/** @param {import("./state.js").State} state */
export function showFilters(state) {
  for (const box of byId("filters").querySelectorAll("input[type=checkbox]")) {
    box.checked = box.name === "elsewhere" ? state.elsewhere : state[box.name].includes(box.value);
  }
  byId("start").value = state.start;
  byId("end").value = state.end;
  byId("k").value = String(state.k);
  byId("filter-count").textContent = countFilters(state) || "";
  EDGES.forEach((edge, i) => { byId("filters").elements[edge].value = state.bbox?.[i] ?? ""; });
}

/** One chip a filter in use; pressing it takes the filter away. */
export function showChips(state, change) {
  const item = (attributes, ...children) => element("li", {}, button(attributes, ...children));
  const chip = (text, patch) => item(
    { class: "chip", "aria-label": `Remove filter ${text}`, onclick: () => change(patch) },
    element("span", {}, text), icon("close"),
  );
  const chips = Object.keys(GROUPS).flatMap((name) => state[name].map(
    (value) => chip(value, { [name]: state[name].filter((other) => other !== value) }),
  ));
  if (state.start) chips.push(chip(`from ${state.start}`, { start: "" }));
  if (state.end) chips.push(chip(`until ${state.end}`, { end: "" }));
  if (state.bbox) chips.push(chip(`box ${state.bbox.map((edge) => edge.toFixed(1)).join(", ")}`, { bbox: null }));
  if (state.elsewhere) chips.push(chip("other places only", { elsewhere: false }));
  if (chips.length > 1) chips.push(item({ class: "link", onclick: () => change(noFilters()) }, "Clear all"));
  byId("chips").replaceChildren(...chips);
}
