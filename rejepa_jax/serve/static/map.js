/** The map panel: which map draws, its buttons, and drawing a box. */

import { loadBaseMap } from "./base_map.js";
import { byId } from "./dom.js";
import { createCanvasMap } from "./map_canvas.js";
import { createGlMap } from "./map_gl.js";

/**
 * @typedef {Object} MapEvents
 * @property {function(number[], ?Object): void} click [lon, lat], and the hit or image drawn there
 * @property {function(?number): void} hover           row of the hit under the pointer
 */

/**
 * What both maps can do; positions are [lon, lat], x and y are CSS pixels in the panel.
 * @typedef {Object} MapView
 * @property {function(Object): void} showItems    GeoJSON points with `id` and `row`
 * @property {function(Object[]): void} showHits   hits with lon, lat, rank, row, mark, bbox
 * @property {function(?number[]): void} showBox   [west, south, east, north]
 * @property {function(?number[]): void} showPoint
 * @property {function(?number): void} highlight   row of a hit
 * @property {function(number[]): void} fit        [west, south, east, north]
 * @property {function(number[]): boolean} contains
 * @property {function(number, number): number[]} lonLatAt
 * @property {function(number): void} zoomBy
 */

const HINT = "Click a place to search with the nearest image.";
const DRAWING_HINT = "Drag over an area. Escape to leave.";
const SMALLEST = 5; // CSS pixels of a box that is meant

function hasWebGl() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") ?? canvas.getContext("webgl"));
}

/**
 * @param {MapEvents & {box: function(number[]): void}} on
 * @returns {Promise<MapView & {drawing: function(boolean): void}>} `drawing` begins or ends a box
 */
export async function createMap(on) {
  const container = byId("map");
  const base = await loadBaseMap();
  const create = hasWebGl() ? createGlMap : createCanvasMap;
  container.dataset.drawnBy = create === createGlMap ? "webgl" : "canvas";
  const map = await create(container, base, on);
  byId("zoom-in").addEventListener("click", () => map.zoomBy(1));
  byId("zoom-out").addEventListener("click", () => map.zoomBy(-1));
  return { ...map, drawing: boxDrawing(map, on.box) };
}

/** Lets a box be dragged on a sheet laid over the map: mouse, pen and finger alike. */
function boxDrawing(map, done) {
  const sheet = byId("box-sheet");
  const outline = byId("box-outline");
  let start = null;

  function drawing(on) {
    start = null;
    sheet.hidden = !on;
    outline.hidden = true;
    byId("draw-box").setAttribute("aria-pressed", String(on));
    byId("map-hint").textContent = on ? DRAWING_HINT : HINT;
  }

  function at(event) {
    const { left, top } = sheet.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  function boxTo({ x, y }) {
    const [left, top] = [Math.min(x, start.x), Math.min(y, start.y)];
    return { left, top, width: Math.abs(x - start.x), height: Math.abs(y - start.y) };
  }

  sheet.addEventListener("pointerdown", (event) => {
    start = at(event);
    sheet.setPointerCapture(event.pointerId);
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!start) return;
    for (const [side, pixels] of Object.entries(boxTo(at(event)))) outline.style[side] = `${pixels}px`;
    outline.hidden = false;
  });
  sheet.addEventListener("pointerup", (event) => {
    if (!start) return;
    const { left, top, width, height } = boxTo(at(event));
    drawing(false);
    if (Math.min(width, height) < SMALLEST) return;
    const corners = [...map.lonLatAt(left, top + height), ...map.lonLatAt(left + width, top)];
    done(corners.map((degrees) => Number(degrees.toFixed(4))));
  });
  byId("draw-box").addEventListener("click", () => drawing(sheet.hidden));
  return drawing;
}
