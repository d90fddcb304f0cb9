/** Mouse, finger and keyboard on the canvas map. */

const STEP = 80; // CSS pixels that an arrow key moves
const ARROWS = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
const ZOOMS = { "+": 1, "=": 1, "-": -1 };

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Object} on
 * @param {function(number, number): void} on.click  CSS pixels in the canvas
 * @param {function(number, number): void} on.hover
 * @param {function(number, number): void} on.moveBy
 * @param {function(number, {x: number, y: number}=): void} on.zoomBy
 */
export function listenToCanvas(canvas, on) {
  let last = null; // where the pressed pointer was, and whether it has moved
  Object.assign(canvas, { tabIndex: 0, className: "canvas-map" });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Map of the images. Arrow keys move it, plus and minus zoom.");

  canvas.addEventListener("pointerdown", (event) => {
    last = { x: event.offsetX, y: event.offsetY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", ({ offsetX: x, offsetY: y }) => {
    if (!last) return on.hover(x, y);
    if (!last.moved && Math.hypot(x - last.x, y - last.y) < 4) return null; // a hand trembles
    on.moveBy(x - last.x, y - last.y);
    last = { x, y, moved: true };
    return null;
  });
  canvas.addEventListener("pointerup", ({ offsetX: x, offsetY: y }) => {
    if (last && !last.moved) on.click(x, y);
    last = null;
  });
  canvas.addEventListener("pointercancel", () => { last = null; });
  canvas.addEventListener("pointerleave", () => on.hover(-1, -1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    on.zoomBy(-Math.sign(event.deltaY) * 0.4, { x: event.offsetX, y: event.offsetY });
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.key in ARROWS) on.moveBy(...ARROWS[event.key]);
    else if (event.key in ZOOMS) on.zoomBy(ZOOMS[event.key]);
    else return;
    event.preventDefault();
  });
}
