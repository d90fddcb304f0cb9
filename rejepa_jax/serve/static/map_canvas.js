/** The map without WebGL: the same data in the same Mercator projection on a 2-D canvas. */

import { isInside } from "./dom.js";
import { listenToCanvas } from "./map_gestures.js";

const WORLD = 512; // CSS pixels of the whole world at zoom 0, as in MapLibre
const LIMIT = 85.0511; // degrees; Mercator's square ends here
const LABEL_ROOM = 55; // CSS pixels that a country has to be wide for its name
const DISC = 10; // radius of a hit

/** Degrees -> 0..1 from the date line to the date line, and from north to south; and back. */
const across = (lon) => (lon + 180) / 360;
const lonOf = (x) => (x - Math.floor(x)) * 360 - 180;
const latOf = (y) => (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;
function down(lat) {
  const angle = (Math.max(-LIMIT, Math.min(LIMIT, lat)) * Math.PI) / 180;
  return 0.5 - Math.log(Math.tan(Math.PI / 4 + angle / 2)) / (2 * Math.PI);
}

/** The rings of GeoJSON polygons in Mercator's unit square. */
function pathOf({ features }) {
  const path = new Path2D();
  for (const ring of features.flatMap(({ geometry }) => geometry.coordinates)) {
    path.moveTo(across(ring[0][0]), down(ring[0][1]));
    for (const [lon, lat] of ring) path.lineTo(across(lon), down(lat));
  }
  return path;
}

/** Same arguments and result as `createGlMap`. */
export async function createCanvasMap(container, base, on) {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  const land = pathOf(base.land);
  const view = { x: across(10), y: down(25), zoom: 0.6 }; // the middle, in the unit square
  const shown = { items: [], hits: [], box: null, point: null, row: null };
  container.append(canvas);

  const scale = () => WORLD * 2 ** view.zoom;
  const middle = () => ({ x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 });
  const colour = (name) => getComputedStyle(container).getPropertyValue(`--${name}`).trim();

  function positionOf([lon, lat]) {
    const away = across(lon) - view.x; // of all copies of the world, in the one that is nearest
    const { x, y } = middle();
    return { x: x + (away - Math.round(away)) * scale(), y: y + (down(lat) - view.y) * scale() };
  }

  function lonLatAt(x, y) {
    const from = middle();
    return [lonOf(view.x + (x - from.x) / scale()), latOf(view.y + (y - from.y) / scale())];
  }

  function drawLand(ratio) {
    const [size, { x, y }] = [scale(), middle()];
    Object.assign(pen, { fillStyle: colour("water"), lineWidth: 0.8 / size, strokeStyle: colour("border") });
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = colour("land");
    for (const copy of [-1, 0, 1]) {
      const [left, top] = [x + (copy - view.x) * size, y - view.y * size];
      pen.setTransform(size * ratio, 0, 0, size * ratio, left * ratio, top * ratio);
      pen.fill(land, "evenodd");
      pen.stroke(land);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  function write(text, position, ink, font) {
    const { x, y } = positionOf(position);
    Object.assign(pen, { font, fillStyle: colour(ink), textAlign: "center", textBaseline: "middle" });
    pen.fillText(text, x, y);
  }

  function disc(position, radius, fill, edge = "surface", width = 0) {
    const { x, y } = positionOf(position);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    Object.assign(pen, { fillStyle: colour(fill), strokeStyle: colour(edge), lineWidth: width }).fill();
    if (width) pen.stroke();
  }

  function drawHit(hit) {
    const fill = { 1: "plus", "-1": "minus" }[hit.mark] ?? "hit";
    if (hit.row === shown.row) disc([hit.lon, hit.lat], 1.4 * DISC, fill, "ink", 2.5);
    else disc([hit.lon, hit.lat], DISC, fill, "surface", 1.5);
    write(hit.rank, [hit.lon, hit.lat], "on-hit", "bold 11px system-ui");
  }

  function drawBox([west, south, east, north]) {
    const { x, y } = positionOf([west, north]);
    const width = (((east - west + 360) % 360) / 360) * scale();
    Object.assign(pen, { strokeStyle: colour("accent"), lineWidth: 1.6 }).setLineDash([5, 4]);
    pen.strokeRect(x, y, width, positionOf([west, south]).y - y);
    pen.setLineDash([]);
  }

  function draw() {
    const ratio = devicePixelRatio;
    Object.assign(canvas, { width: canvas.clientWidth * ratio, height: canvas.clientHeight * ratio });
    drawLand(ratio);
    for (const { properties, geometry } of base.names.features) {
      const isWide = (Math.sqrt(properties.size) / 360) * scale() > LABEL_ROOM;
      if (isWide) write(properties.name, geometry.coordinates, "map-text", "11.5px system-ui");
    }
    for (const { geometry } of shown.items) disc(geometry.coordinates, Math.min(4.5, 1 + 0.4 * view.zoom), "item");
    if (shown.box) drawBox(shown.box);
    if (shown.point) disc(shown.point, 6, "accent", "surface", 2);
    const isLit = (hit) => hit.row === shown.row; // over all others; then the best on top
    [...shown.hits].sort((a, b) => isLit(a) - isLit(b) || b.rank - a.rank).forEach(drawHit);
  }

  let frame = 0;
  function redraw() {
    view.x -= Math.floor(view.x);
    view.y = Math.max(0, Math.min(1, view.y));
    view.zoom = Math.max(0, Math.min(15, view.zoom));
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  }
  const set = (change) => { Object.assign(shown, change); redraw(); };

  function under(x, y) {
    const gap = (position) => Math.hypot(positionOf(position).x - x, positionOf(position).y - y);
    const hit = shown.hits.find((each) => gap([each.lon, each.lat]) <= DISC);
    return hit ?? shown.items.find(({ geometry }) => gap(geometry.coordinates) < 5)?.properties ?? null;
  }

  function moveBy(dx, dy) {
    view.x -= dx / scale();
    view.y -= dy / scale();
    redraw();
  }

  /** Zooms so that what lies at (x, y) stays there. */
  function zoomBy(steps, { x, y } = middle()) {
    const from = middle();
    moveBy(from.x - x, from.y - y);
    view.zoom += steps;
    moveBy(x - from.x, y - from.y);
  }

  listenToCanvas(canvas, { click: (x, y) => on.click(lonLatAt(x, y), under(x, y)), hover, moveBy, zoomBy });
  function hover(x, y) {
    const found = under(x, y);
    canvas.style.cursor = found ? "pointer" : "";
    on.hover(found?.rank ? found.row : null);
  }
  new ResizeObserver(redraw).observe(container);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  return {
    showItems: ({ features }) => set({ items: features }),
    showHits: (hits) => set({ hits }),
    showBox: (box) => set({ box }),
    showPoint: (point) => set({ point }),
    highlight: (row) => set({ row }),
    fit([west, south, east, north]) {
      const zoomFor = (share, room) => Math.log2(Math.max(40, room - 112) / WORLD / Math.max(share, 1e-9));
      const [wide, high] = [across(east) - across(west), down(south) - down(north)];
      view.zoom = Math.min(9, zoomFor(wide, canvas.clientWidth), zoomFor(high, canvas.clientHeight));
      Object.assign(view, { x: across(west) + wide / 2, y: down(north) + high / 2 });
      redraw();
    },
    contains: (position) => isInside(positionOf(position), canvas),
    lonLatAt, zoomBy,
  };
}
