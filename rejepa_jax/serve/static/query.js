/** The strip that says what is searched with: uploads, a point on the map, + and - examples. */

import { button, byId, describe, element, icon, place, thumbnail } from "./dom.js";

/**
 * Keeps uploads by name; a second file of the same name gets another one.
 * @param {FileList} files
 * @param {Map<string, File>} kept
 * @returns {string[]} names
 */
export function keepFiles(files, kept) {
  return [...files].map((file) => {
    let { name } = file;
    while (kept.has(name)) name = `${name} (again)`;
    kept.set(name, file);
    return name;
  });
}

/**
 * @param {import("./state.js").State} state
 * @param {Object} known
 * @param {Map<string, Object>} known.items images seen so far, by id, for their thumbnails
 * @param {Map<string, File>} known.files   uploads, by name
 * @param {Set<string>} known.pending       ids marked since the last search
 * @param {function(Object): void} change   takes the part of the state that is to be replaced
 */
export function showExamples(state, known, change) {
  const without = (list, value) => () => change({ [list]: state[list].filter((other) => other !== value) });
  const tiles = [
    ...state.images.map((name) => upload(name, known.files.get(name), without("images", name))),
    ...state.positive.map((id) => example("plus", id, known, without("positive", id))),
    ...state.negative.map((id) => example("minus", id, known, without("negative", id))),
  ];
  const forget = () => change({ point: null });
  if (state.point) tiles.unshift(tile("point", icon("pin"), `near ${place(...state.point)}`, forget));
  byId("examples").replaceChildren(...tiles);
  byId("query").hidden = !tiles.length;
  byId("mode").hidden = !state.images.some((name) => known.files.has(name));
  byId("grid").checked = state.mode === "grid";
}

/** @param {string} words said of the picture; shown beside it where the picture cannot speak */
function tile(kind, picture, words, remove) {
  return element(
    "li", { class: `example ${kind}`, title: words },
    element("span", { class: "example-picture" }, picture),
    element("span", { class: "example-words" }, words),
    button({ class: "quiet", "aria-label": `Remove ${words}`, title: "Remove", onclick: remove }, icon("close")),
  );
}

function example(kind, id, known, remove) {
  const item = known.items.get(id);
  const sign = element("span", { class: "sign" }, icon(kind));
  const words = `${kind === "plus" ? "More like" : "Less like"} ${item ? describe(item) : id}`;
  const classes = [kind, item ? "pictured" : "", known.pending.has(id) ? "pending" : ""].join(" ");
  return tile(classes, element("span", {}, item ? thumbnail(item) : icon("image"), sign), words, remove);
}

/** A preview where the browser can draw the file; it cannot draw most GeoTIFFs. */
function upload(name, file, remove) {
  if (!file) return tile("lost", icon("image"), `${name} (not in the link)`, remove);
  const preview = element("img", { src: URL.createObjectURL(file), alt: `uploaded image ${name}` });
  preview.addEventListener("load", () => URL.revokeObjectURL(preview.src), { once: true });
  preview.addEventListener("error", () => preview.replaceWith(icon("image")), { once: true });
  return tile("upload", preview, name, remove);
}
