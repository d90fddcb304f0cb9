/** Buttons, keys and dropped files: what the user does outside map, gallery and filters. */

import { announce, byId } from "./dom.js";
import { noExamples, readQuestion } from "./state.js";

/**
 * @param {Object} on
 * @param {function(): void} on.ask                 search with the marks
 * @param {function(Object): void} on.change        replaces part of the state
 * @param {function(FileList): void} on.upload
 * @param {function(?number): void} on.setScore     null shows all
 * @param {function(): void} on.followAddress
 * @param {function(): void} on.retry
 * @param {function(): void} on.refresh             what is shown may be of an older version
 * @param {Object} on.page                          for its `state` and `map`
 */
export function listen(on) {
  const whenClicked = (id, action) => byId(id).addEventListener("click", action);
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("question").value.trim();
    if (text) on.change({ ...noExamples(), ...readQuestion(text) });
  });
  byId("files").addEventListener("change", ({ target }) => { on.upload(target.files); target.value = ""; });
  const modeOf = (box) => (box.checked ? "grid" : "resize");
  byId("grid").addEventListener("change", ({ target }) => on.change({ mode: modeOf(target) }));
  byId("k").addEventListener("change", ({ target }) => on.change({ k: Number(target.value) }));
  byId("score").addEventListener("input", ({ target }) => on.setScore(scoreOf(target)));
  whenClicked("rerank", () => on.ask());
  whenClicked("clear", () => on.change(noExamples()));
  whenClicked("show-all", () => on.setScore(null));
  whenClicked("retry", on.retry);
  whenClicked("share", () => share(on.page.state));
  whenClicked("help-open", () => byId("help").showModal());
  whenClicked("filters-toggle", () => toggleFilters(byId("filters").hidden));
  whenClicked("filters-close", () => toggleFilters(false));
  addEventListener("popstate", on.followAddress);
  addEventListener("outdated", on.refresh);
  addEventListener("error", ({ target }) => { if (isThumbnail(target)) on.refresh(); }, true);
  addEventListener("keydown", (event) => key(event, on.page.map));
  acceptDrops(on.upload);
}

/** An image that does not load gives no reason; one of an older version is not there any more. */
const isThumbnail = (target) => target instanceof HTMLImageElement && target.src.includes("/api/thumbnails/");

/** The left end of the slider hides nothing. */
function scoreOf(slider) {
  return Number(slider.value) > Number(slider.min) ? Number(Number(slider.value).toFixed(6)) : null;
}

function toggleFilters(open) {
  byId("filters").hidden = !open;
  byId("filters-toggle").setAttribute("aria-expanded", String(open));
  byId(open ? "filters-close" : "filters-toggle").focus();
}

async function share(state) {
  const note = state.images.length ? " The uploaded image is not in it." : "";
  try {
    await navigator.clipboard.writeText(location.href);
    announce(`Link copied.${note}`);
  } catch {
    announce(`The link is in the address bar.${note}`); // the clipboard needs https or localhost
  }
}

function key(event, map) {
  const isTyping = event.target.closest?.("input:not([type=checkbox], [type=range]), select");
  if (event.key === "Escape") {
    map?.drawing(false);
    byId("download").open = false;
    if (!byId("filters").hidden) toggleFilters(false);
  } else if (event.key === "/" && !isTyping) {
    event.preventDefault();
    byId("question").focus();
  } else if (event.key === "?" && !isTyping) byId("help").showModal();
}

function acceptDrops(upload) {
  const show = (on) => document.body.classList.toggle("dropping", on);
  const onFiles = (type, action) => addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    action(event);
  });
  onFiles("dragover", () => show(true));
  onFiles("dragleave", (event) => { if (!event.relatedTarget) show(false); });
  onFiles("drop", (event) => { show(false); upload(event.dataTransfer.files); });
}
