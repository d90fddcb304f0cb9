/** The menu that saves the visible hits as a file. */

import { download } from "./api.js";
import { announce, button, byId, element, plural } from "./dom.js";

const FORMATS = { geojson: "GeoJSON", geoparquet: "GeoParquet", csv: "CSV", json: "JSON" };

/** @param {function(): Object[]} hits those that are to be saved, asked for at the click */
export function buildDownloads(hits) {
  const menu = byId("download");
  const choice = ([format, name]) => button({ onclick: () => save(hits(), format, menu) }, name);
  byId("formats").replaceChildren(...Object.entries(FORMATS).map(choice));
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
}

async function save(hits, format, menu) {
  menu.open = false;
  try {
    const { name, blob } = await download(hits, format);
    const link = element("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    announce(`${plural(hits.length, "hit")} saved as ${name}.`);
  } catch (error) {
    announce(error.message);
  }
}
