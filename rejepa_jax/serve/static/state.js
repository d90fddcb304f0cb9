/**
 * What the user asks for, as one plain object, and the same in the address bar.
 *
 * The hash of the address is the permalink: whoever opens it sees the same hits. An uploaded image
 * cannot be part of an address; there is only its name, and the page says so.
 */

/**
 * @typedef {Object} State
 * @property {string[]} positive ids of images to be like
 * @property {string[]} negative ids of images not to be like
 * @property {string[]} images   names of uploaded images; the files are kept by main.js
 * @property {string} mode       "resize" or "grid": how an image larger than a patch is read
 * @property {?number[]} point   [lon, lat]: search with the image nearest to it
 * @property {number} k          how many hits
 * @property {boolean} elsewhere leave out hits of the same place as the query
 * @property {?number} score     hide hits below this score
 * @property {?number[]} bbox    [xmin, ymin, xmax, ymax]; xmin > xmax crosses the date line
 * @property {string} start      ISO date, or ""
 * @property {string} end        ISO date (inclusive), or ""
 * @property {string[]} sensors
 * @property {string[]} labels   any of these
 * @property {string[]} collections
 * @property {string[]} splits
 */

const LISTS = ["positive", "negative", "images", "sensors", "labels", "collections", "splits"];
const TEXTS = ["start", "end", "mode"];
const NUMBERS = { point: 2, bbox: 4 };

/** @returns {State} */
export function emptyState() {
  return {
    ...noExamples(), ...noFilters(), k: 24, score: null,
  };
}

export const noExamples = () => ({ positive: [], negative: [], images: [], mode: "resize", point: null });

export const noFilters = () => ({
  elsewhere: false, bbox: null, start: "", end: "", sensors: [], labels: [], collections: [], splits: [],
});

/** Whether there is anything to search with. */
export const hasExamples = (state) =>
  state.positive.length + state.negative.length + state.images.length > 0 || state.point !== null;

/** 1 for an example to be like, -1 for one not to be like, 0 for neither. */
export const markOf = (state, id) => state.positive.includes(id) - state.negative.includes(id);

/** The examples with a mark set, or taken back where it was set already. */
export function withMark(state, id, mark) {
  const [positive, negative] = [state.positive, state.negative].map((ids) => ids.filter((other) => other !== id));
  if (markOf(state, id) !== mark) (mark > 0 ? positive : negative).push(id);
  return { positive, negative };
}

/** How many filters are set. */
export function countFilters(state) {
  const lists = state.sensors.length + state.labels.length + state.collections.length + state.splits.length;
  return lists + [state.elsewhere, state.bbox, state.start, state.end].filter(Boolean).length;
}

/** The hash without its "#"; what is at its default is left out. */
export function toHash(state) {
  const start = emptyState();
  const fields = new URLSearchParams();
  for (const name of LISTS) for (const value of state[name]) fields.append(name, value);
  for (const name of TEXTS) if (state[name] !== start[name]) fields.set(name, state[name]);
  for (const name of Object.keys(NUMBERS)) if (state[name]) fields.set(name, state[name].join(","));
  if (state.k !== start.k) fields.set("k", state.k);
  if (state.elsewhere) fields.set("elsewhere", "1");
  if (state.score !== null) fields.set("score", state.score);
  return fields.toString();
}

/** Takes the token, which the server has traded for a cookie, out of the address. */
export function hideToken() {
  const address = new URL(location);
  if (!address.searchParams.has("token")) return;
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}

/** Reads a hash that anybody may have written: what it does not understand it leaves out. */
export function fromHash(hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const state = emptyState();
  for (const name of LISTS) state[name] = [...new Set(fields.getAll(name))];
  for (const name of TEXTS) state[name] = fields.get(name) ?? state[name];
  for (const [name, length] of Object.entries(NUMBERS)) state[name] = numbers(fields.get(name), length);
  if (state.mode !== "grid") state.mode = "resize";
  state.k = Math.max(0, Math.trunc(Number(fields.get("k")))) || state.k;
  state.elsewhere = fields.get("elsewhere") === "1";
  state.score = numbers(fields.get("score"), 1)?.[0] ?? null;
  return state;
}

function numbers(text, length) {
  const values = text ? text.split(",").map(Number) : [];
  return values.length === length && values.every(Number.isFinite) ? values : null;
}

/**
 * Reads what was typed into the search field: "48.1, 16.4" (latitude first, as people write it)
 * is a place, everything else the id of an image.
 */
export function readQuestion(text) {
  const match = text.trim().match(/^(-?\d+(?:\.\d+)?)\s*[,\s]\s*(-?\d+(?:\.\d+)?)$/);
  if (!match) return { positive: [text.trim()] };
  return { point: [Number(match[2]), Number(match[1])] };
}
