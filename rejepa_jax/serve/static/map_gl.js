/** The map drawn by MapLibre (WebGL); `map_canvas.js` has the same interface and needs no WebGL. */

import { isInside } from "./dom.js";
import { collection, feature, NOTHING, pointAt, rectangle } from "./geojson.js";
import { mapStyle } from "./map_style.js";

const LIBRARY = new URL("vendor/maplibre-gl/maplibre-gl.mjs", import.meta.url);
const NEAR = 4; // pixels around the pointer that count as on it

/**
 * @param {HTMLElement} container
 * @param {import("./base_map.js").BaseMap} base
 * @param {import("./map.js").MapEvents} on
 * @returns {Promise<import("./map.js").MapView>}
 */
export async function createGlMap(container, base, on) {
  const library = await import(LIBRARY);
  const data = { items: NOTHING, hits: NOTHING, feet: NOTHING, box: NOTHING, point: NOTHING };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let row = -1;
  const map = new library.Map({
    container, style: mapStyle(container, base, data, row), attributionControl: false,
    center: [10, 25], zoom: 0.6, maxZoom: 15, fadeDuration: still ? 0 : 200,
    dragRotate: false, pitchWithRotate: false, touchPitch: false,
  });
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  map.addControl(new library.ScaleControl({ maxWidth: 90 }), "bottom-left");
  const canvas = map.getCanvas();
  canvas.setAttribute("aria-label", "Map of the images. Arrow keys move it, plus and minus zoom.");
  await new Promise((resolve) => map.once("load", resolve));

  function show(name, value) {
    data[name] = value;
    map.getSource(name).setData(value);
  }

  function under({ x, y }) {
    const square = [[x - NEAR, y - NEAR], [x + NEAR, y + NEAR]];
    return map.queryRenderedFeatures(square, { layers: ["hits", "items"] })[0]?.properties ?? null;
  }

  map.on("click", (event) => on.click(event.lngLat.wrap().toArray(), under(event.point)));
  map.on("mouseout", () => on.hover(null));
  map.on("mousemove", (event) => {
    const found = under(event.point);
    canvas.style.cursor = found ? "pointer" : "";
    on.hover(found?.rank ? found.row : null);
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => map.setStyle(mapStyle(container, base, data, row)));

  return {
    showItems: (items) => show("items", items),
    showHits(hits) {
      const dot = ({ lon, lat, row: of, rank, mark }) => pointAt([lon, lat], { row: of, rank, mark });
      show("hits", collection(hits.map(dot)));
      show("feet", collection(hits.filter((hit) => hit.bbox).map((hit) => feature(rectangle(hit.bbox)))));
    },
    showBox: (bbox) => show("box", bbox ? collection([feature(rectangle(bbox))]) : NOTHING),
    showPoint: (at) => show("point", at ? collection([pointAt(at)]) : NOTHING),
    highlight(of) {
      row = of ?? -1;
      for (const layer of ["halo", "halo-rank"]) map.setFilter(layer, ["==", ["get", "row"], row]);
    },
    fit([west, south, east, north]) {
      const corners = [[west, south], [east, north]];
      map.fitBounds(corners, { padding: 56, maxZoom: 9, duration: still ? 0 : 900 });
    },
    contains: ([lon, lat]) => [-360, 0, 360].some((turn) => isInside(map.project([lon + turn, lat]), container)),
    lonLatAt: (x, y) => map.unproject([x, y]).wrap().toArray(),
    zoomBy: (steps) => map.easeTo({ zoom: map.getZoom() + steps, duration: still ? 0 : 250 }),
  };
}
