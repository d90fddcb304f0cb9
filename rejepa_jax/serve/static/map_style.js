/** What MapLibre draws, from the bottom to the top, in the colours of style.css. */

/**
 * @param {HTMLElement} container its colours decide, so that light and dark are settled in one place
 * @param {import("./base_map.js").BaseMap} base
 * @param {Object<string, Object>} data GeoJSON of items, hits, feet (outlines of hits), box and point
 * @param {number} row of the highlighted hit
 */
export function mapStyle(container, base, data, row) {
  const colour = (name) => getComputedStyle(container).getPropertyValue(`--${name}`).trim();
  const sources = Object.fromEntries(
    Object.entries({ ...base, ...data }).map(([name, value]) => [name, { type: "geojson", data: value }]),
  );
  // No `glyphs`: MapLibre then writes with the machine's own fonts.
  return { version: 8, sources, layers: [...baseLayers(colour), ...dataLayers(colour), ...hitLayers(colour, row)] };
}

function layer(id, type, source, paint, more = {}) {
  return { id, type, source, paint, ...more };
}

function baseLayers(colour) {
  const land = { "fill-color": colour("land"), "fill-outline-color": colour("border") };
  const ink = { "text-color": colour("map-text"), "text-halo-color": colour("land"), "text-halo-width": 1.2 };
  const layout = {
    "text-field": ["get", "name"], "text-font": ["sans-serif"], "text-size": 11.5,
    "text-letter-spacing": 0.06, "text-max-width": 7, "symbol-sort-key": ["-", 0, ["get", "size"]],
  };
  return [
    { id: "water", type: "background", paint: { "background-color": colour("water") } },
    layer("land", "fill", "land", land),
    layer("names", "symbol", "names", ink, { layout, minzoom: 1.5 }),
  ];
}

function dataLayers(colour) {
  const accent = colour("accent");
  const radius = ["interpolate", ["linear"], ["zoom"], 1, 1.7, 5, 2.8, 9, 4.5];
  const dot = { "circle-radius": radius, "circle-color": colour("item"), "circle-opacity": 0.65 };
  const edge = { "line-color": accent, "line-width": 1.6, "line-dasharray": [3, 2] };
  const core = {
    "circle-radius": 5, "circle-color": accent,
    "circle-stroke-color": colour("surface"), "circle-stroke-width": 2,
  };
  return [
    layer("items", "circle", "items", dot),
    layer("box", "fill", "box", { "fill-color": accent, "fill-opacity": 0.08 }),
    layer("box-edge", "line", "box", edge),
    layer("feet", "line", "feet", { "line-color": colour("hit"), "line-width": 1.5 }, { minzoom: 8 }),
    layer("point-ring", "circle", "point", { "circle-radius": 14, "circle-color": accent, "circle-opacity": 0.2 }),
    layer("point", "circle", "point", core),
  ];
}

/** Discs with ranks, the best on top; the highlighted one larger and over all. */
function hitLayers(colour, row) {
  const fill = ["match", ["get", "mark"], 1, colour("plus"), -1, colour("minus"), colour("hit")];
  const disc = (radius, edge, width) => ({
    "circle-radius": radius, "circle-color": fill,
    "circle-stroke-color": colour(edge), "circle-stroke-width": width,
  });
  const onTop = { "circle-sort-key": ["-", 0, ["get", "rank"]] };
  const rank = {
    "text-field": ["to-string", ["get", "rank"]], "text-font": ["sans-bold"], "text-size": 11,
    "symbol-sort-key": ["get", "rank"],
  };
  const ink = { "text-color": colour("on-hit") };
  const filter = ["==", ["get", "row"], row];
  return [
    layer("hits", "circle", "hits", disc(10, "surface", 1.5), { layout: onTop }),
    layer("ranks", "symbol", "hits", ink, { layout: rank }),
    layer("halo", "circle", "hits", disc(14, "ink", 2.5), { filter }),
    layer("halo-rank", "symbol", "hits", ink, { layout: rank, filter }),
  ];
}
