/**
 * Building the page's elements, and saying things in words.
 *
 * Everything that comes from data (labels, ids, file names, error texts) reaches the page through
 * `element`, which makes text nodes and attributes and never parses markup.
 */

/**
 * Makes an element.
 * @param {string} tag
 * @param {Object<string, any>} attributes `on...` keys are listeners; null and false are left out.
 * @param {...(Node|string)} children Strings become text.
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children);
  return node;
}

/** A button that sends no form. */
export const button = (attributes, ...children) =>
  element("button", { type: "button", ...attributes }, ...children);

/** An icon of the sprite in index.html; decoration, so hidden from screen readers. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** @returns {HTMLElement} the element of index.html with this id */
export const byId = (id) => document.getElementById(id);

/** Whether a point, in CSS pixels from its corner, lies well inside an element. */
export function isInside({ x, y }, { clientWidth, clientHeight }, margin = 16) {
  return x > margin && y > margin && x < clientWidth - margin && y < clientHeight - margin;
}

/** Shows a short message for a few seconds; it is also read aloud (the element is a live region). */
export function announce(text) {
  const toast = byId("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => toast.classList.remove("shown"), 4000);
}

export const count = (number) => Number(number).toLocaleString("en");

/** "24 images", "1 image". */
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** As many decimals as tell scores apart: descriptors of some encoders lie close together. */
export function decimals(scores) {
  const spread = Math.max(...scores) - Math.min(...scores);
  return Math.min(6, Math.max(3, 1 - Math.floor(Math.log10(spread > 0 ? spread : 1))));
}

/** "2 Jun 2017" from an ISO time; "" stays "". Dates are those of the satellite, in UTC. */
export function day(iso) {
  const date = new Date(iso);
  if (!iso || Number.isNaN(date.getTime())) return iso || "";
  return date.toLocaleDateString("en-GB", {
    day: "numeric", month: "short", year: "numeric", timeZone: "UTC",
  });
}

/** "48.29° N, 13.50° E", to about a kilometre. */
export function place(lon, lat) {
  const north = `${Math.abs(lat).toFixed(2)}° ${lat < 0 ? "S" : "N"}`;
  return `${north}, ${Math.abs(lon).toFixed(2)}° ${lon < 0 ? "W" : "E"}`;
}

/** What an image shows, in words: the alternative text of its thumbnail. */
export function describe(item) {
  const what = item.labels?.length ? item.labels.join(", ") : "unlabelled image";
  return [what, item.sensor, day(item.datetime)].filter(Boolean).join("; ");
}

/** A thumbnail, or a quiet placeholder where there is none or it does not load. */
export function thumbnail(item) {
  const words = describe(item);
  const name = `${words} (no thumbnail)`;
  const none = element("span", { class: "no-image", role: "img", "aria-label": name }, icon("image"));
  const image = element("img", { src: item.thumbnail, alt: words, loading: "lazy" });
  image.addEventListener("error", () => image.replaceWith(none));
  return item.thumbnail ? image : none;
}
