/** What the page says: what is searched, how many were found, what went wrong, where to start. */

import { readItem } from "./api.js";
import { announce, button, byId, count, decimals, describe, element, plural, thumbnail } from "./dom.js";

const SAMPLES = 12;

/** @param {string} view "welcome", "waiting", "hits", "none" or "error"; style.css shows one of them */
export function showView(view) {
  byId("results").dataset.view = view;
  byId("hits").setAttribute("aria-busy", String(view === "waiting"));
}

export function showNotice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

export function showError(error) {
  showView("error");
  byId("error-text").textContent = error.message;
}

/** @param {Object} info answer of /api/info */
export function showAbout(info) {
  const { index, query, limits } = info;
  const recall = index.recall_at_10 === null ? "" : `, recall@10 ${index.recall_at_10.toFixed(3)}`;
  const facts = {
    Images: count(info.rows), Descriptor: `${info.dim} numbers (${info.encoder})`, Index: index.kind + recall,
    Fingerprint: info.fingerprint.slice(0, 10), Version: info.version,
  };
  const fact = ([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text));
  byId("about").replaceChildren(...Object.entries(facts).map(fact));
  byId("name").textContent = info.name;
  document.title = `${info.name} · look-alikes`;
  const bands = query.bands.length > 4 ? "" : ` (${query.bands.join(", ")})`;
  const kind = `${plural(query.bands.length, "band")}${bands} of ${query.sensor}, ${query.dtype}`;
  byId("wanted").textContent = `${query.formats.join(", ")} with ${kind}`;
  for (const option of byId("k").options) option.disabled = Number(option.value) > limits.max_k;
}

/** Says that there is another version, and whether what is shown is of an older one. */
export function showUpdate(info, answer) {
  showAbout(info);
  const advice = answer?.version === info.version ? "" : " Search again to see it as it is now.";
  announce(`The collection has been updated.${advice}`);
}

/**
 * @param {Object} answer  of /api/search
 * @param {number} visible how many of its hits score enough
 */
export function showCounts({ hits, searched, allowed, took_ms: took }, visible) {
  const part = visible < hits.length ? `${visible} of ` : "";
  byId("heading").textContent = `${part}${count(hits.length)} most alike`;
  const filtered = allowed < searched ? ` (${count(allowed)} after filters)` : "";
  const time = `in ${Math.max(1, Math.round(took))} ms`;
  byId("searched").textContent = `of ${plural(searched, "image")}${filtered}, ${time}`;
}

/** Shows the hit under the pointer on the map, whose card may be out of sight. */
export function showPeek(hit) {
  byId("peek").replaceChildren(...(hit ? [thumbnail(hit), element("span", {}, describe(hit))] : []));
}

/**
 * The slider spans the scores there are, so that it is of use wherever they lie.
 * @param {number[]} scores
 * @param {?number} least hits below it are hidden
 */
export function showScores(scores, least) {
  const digits = decimals(scores);
  const step = 10 ** -digits;
  const low = Math.floor(Math.min(...scores, least ?? Infinity) / step) * step;
  const high = Math.ceil(Math.max(...scores, low + step) / step) * step;
  if (scores.length) Object.assign(byId("score"), { min: low, max: high, step: "any", value: least ?? low });
  byId("score-value").textContent = least === null ? "any" : `≥ ${least.toFixed(digits)}`;
}

/**
 * Images to start from, spread evenly over the collection.
 * @param {Object} info   answer of /api/info
 * @param {?Object} items GeoJSON points; null when images have no places
 * @param {function(Object): void} choose
 */
export async function showSamples(info, items, choose) {
  if (!info.has_thumbnails) return;
  const spread = (list) => list.filter((_, i) => i % Math.ceil(list.length / SAMPLES) === 0);
  const all = items ? items.features.map((item) => item.properties.row) : [...Array(info.rows).keys()];
  const { version } = items ?? info;
  const read = spread(all).map((row) => readItem(row, version));
  const answers = await Promise.allSettled(read); // a row may have been deleted
  const samples = answers.filter(({ value }) => value);
  const sample = ({ value: item }) => {
    const attributes = { class: "thumb", title: "Find more like this", onclick: () => choose(item) };
    return element("li", {}, button(attributes, thumbnail(item)));
  };
  byId("samples").replaceChildren(...samples.map(sample));
  byId("samples-title").hidden = !samples.length;
}
