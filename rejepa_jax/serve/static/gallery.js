/** The hits as cards: what is shown of each, marks, and moving among them with the keyboard. */

import { button, byId, day, describe, element, icon, place, thumbnail } from "./dom.js";

/**
 * @typedef {Object} GalleryEvents
 * @property {function(Object): void} more             find more like this hit
 * @property {function(Object, number): void} mark     1 or -1: a mark is wanted, or to be taken back
 * @property {function(?number): void} attend          row of the hit looked at, null for none
 */

let cards = new Map();

/**
 * @param {Object[]} hits with `mark` (1, -1, 0) and `cosine` (the score as text)
 * @param {GalleryEvents} on
 */
export function showHits(hits, on) {
  cards = new Map(hits.map((hit) => [hit.row, card(hit, on)]));
  byId("hits").replaceChildren(...cards.values());
  makeCurrent(byId("hits").firstElementChild);
}

function card(hit, on) {
  const name = `Hit ${hit.rank}, score ${hit.cosine}: ${describe(hit)}. Find more like this`;
  const open = button({ class: "thumb", title: "Find more like this", "aria-label": name }, thumbnail(hit));
  open.addEventListener("click", () => on.more(hit));
  const node = element(
    "li",
    {
      class: "card", "data-row": hit.row,
      onpointerenter: () => on.attend(hit.row), onpointerleave: () => on.attend(null),
      onfocusin: ({ target }) => { makeCurrent(node); if (target.matches(":focus-visible")) on.attend(hit.row); },
      onfocusout: () => on.attend(null),
      onkeydown: (event) => cardKey(event, node, hit, on),
    },
    element(
      "div", { class: "picture" }, open,
      element("span", { class: "rank", "aria-hidden": "true" }, String(hit.rank)),
      element("span", { class: "score", title: "Cosine of the two descriptors" }, hit.cosine), marks(hit, on),
    ),
    facts(hit),
  );
  showMark(node, hit.mark);
  return node;
}

function marks(hit, on) {
  const sign = (value, name, words) => button({
    class: name, "data-mark": value, "aria-label": `${words} hit ${hit.rank}`, title: `${words} this`,
    onclick: () => on.mark(hit, value),
  }, icon(name));
  return element("div", { class: "marks" }, sign(1, "plus", "More like"), sign(-1, "minus", "Less like"));
}

function facts(hit) {
  const where = hit.lon === null || hit.lon === undefined ? hit.place : place(hit.lon, hit.lat);
  return element(
    "div", { class: "facts" },
    element("p", { class: "labels", title: hit.labels.join(", ") }, hit.labels.join(" · ") || "no labels"),
    element("p", { class: "when" }, [day(hit.datetime), hit.sensor].filter(Boolean).join(" · ")),
    element("p", { class: "where" }, where || "place unknown"),
    element("p", { class: "id", title: hit.id }, hit.id),
  );
}

function showMark(node, mark) {
  node.classList.toggle("is-plus", mark === 1);
  node.classList.toggle("is-minus", mark === -1);
  for (const button of node.querySelectorAll("[data-mark]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.mark) === mark));
  }
}

/** Brings the marks of all cards up to date without drawing them anew (focus stays where it is). */
export function showMarks(hits) {
  for (const hit of hits) if (cards.has(hit.row)) showMark(cards.get(hit.row), hit.mark);
}

/** Shows which card belongs to the hit under the pointer on the map. */
export function highlight(row) {
  for (const [other, node] of cards) node.classList.toggle("linked", other === row);
}

/** Moves the keyboard to a hit's card, so that it is seen. */
export function focusCard(row) {
  const open = cards.get(row)?.querySelector(".thumb");
  open?.focus({ preventScroll: true });
  cards.get(row)?.scrollIntoView({ block: "nearest" });
}

/** Scrolls to the best hit; moves the keyboard there too, if the button that it was on is gone. */
export function returnToBest(hadFocus) {
  byId("results").scrollTop = 0;
  if (scrollY > 0) byId("results").scrollIntoView();
  const [best] = cards.values();
  const isLost = hadFocus && document.activeElement === document.body;
  if (isLost) best?.querySelector(".thumb").focus({ preventScroll: true });
}

/** Hides the hits below a score. @returns {number} how many are left */
export function hideBelow(hits, score) {
  const visible = hits.filter((hit) => score === null || hit.score >= score);
  for (const hit of hits) cards.get(hit.row).hidden = !visible.includes(hit);
  return visible.length;
}

/** Only one card takes part in the tab order; the arrow keys reach the others. */
function makeCurrent(current) {
  for (const node of cards.values()) {
    for (const button of node.querySelectorAll("button")) button.tabIndex = node === current ? 0 : -1;
  }
}

function cardKey(event, node, hit, on) {
  if (event.key === "+" || event.key === "=") on.mark(hit, 1);
  else if (event.key === "-") on.mark(hit, -1);
  else {
    const next = neighbour(node, event.key);
    if (!next) return;
    next.querySelector(".thumb").focus();
  }
  event.preventDefault();
}

/** The card that a key leads to; up and down keep the column. */
function neighbour(node, key) {
  const all = [...cards.values()].filter((other) => !other.hidden);
  const columns = all.filter((other) => other.offsetTop === all[0].offsetTop).length;
  const position = all.indexOf(node);
  const next = {
    ArrowRight: position + 1, ArrowLeft: position - 1, ArrowDown: position + columns,
    ArrowUp: position - columns, Home: 0, End: all.length - 1,
  };
  return all[next[key]] ?? null;
}
