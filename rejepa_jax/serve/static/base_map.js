/** The map under the data: Natural Earth's countries, decoded from a TopoJSON file of the package. */

import { collection, feature, pointAt } from "./geojson.js";

/**
 * @typedef {Object} BaseMap
 * @property {Object} land  GeoJSON polygons, one for each piece of a country; longitudes may pass 180
 * @property {Object} names GeoJSON points with `name` and `size` (square degrees)
 */

const FILE = new URL("vendor/world-atlas/countries-50m.json", import.meta.url);

/** @returns {Promise<BaseMap>} */
export async function loadBaseMap() {
  const topology = await (await fetch(FILE)).json();
  const arcs = topology.arcs.map((arc) => decodeArc(arc, topology.transform));
  const countries = topology.objects.countries.geometries.map((shape) => ({
    name: shape.properties.name, pieces: polygons(shape, arcs),
  }));
  return {
    land: collection(countries.flatMap(({ pieces }) => pieces.map(polygon))),
    names: collection(countries.map(nameOf).filter(Boolean)),
  };
}

const polygon = (rings) => feature({ type: "Polygon", coordinates: rings });

/** TopoJSON stores each position as whole steps from the one before. */
function decodeArc(arc, { scale, translate }) {
  let [x, y] = [0, 0];
  return arc.map(([dx, dy]) => {
    x += dx;
    y += dy;
    return [x * scale[0] + translate[0], y * scale[1] + translate[1]];
  });
}

/** @returns {number[][][][]} polygons of rings of positions */
function polygons(shape, arcs) {
  const pieces = shape.type === "Polygon" ? [shape.arcs] : shape.arcs ?? [];
  return pieces.map((rings) => rings.map((indices) => ring(indices, arcs)));
}

/** A ring is a chain of arcs; `~index` means arc `index` backwards, and joints are given twice. */
function ring(indices, arcs) {
  return unroll(indices.flatMap((index, position) => {
    const points = index < 0 ? [...arcs[~index]].reverse() : arcs[index];
    return position ? points.slice(1) : points;
  }));
}

/** The file's rings lie on a sphere: one that crosses the date line goes on beyond 180° here. */
function unroll(points) {
  const flat = [points[0]];
  for (const [lon, lat] of points.slice(1)) {
    const turns = Math.round((flat.at(-1)[0] - lon) / 360);
    flat.push([lon + 360 * turns, lat]);
  }
  const [[first], [last, lat]] = [points[0], flat.at(-1)];
  if (first === last) return flat;
  const pole = Math.sign(lat) * 90; // a ring that does not close goes round a pole: Antarctica
  return [...flat, [last, pole], [first, pole], points[0]];
}

/** A country's name, at the centroid of its largest piece. */
function nameOf({ name, pieces }) {
  const [largest] = pieces.map(([outer]) => centroid(outer)).sort((a, b) => b.size - a.size);
  return largest?.size ? pointAt(largest.centre, { name, size: largest.size }) : null;
}

/** Area and centroid of a ring by the shoelace formula, in degrees. */
function centroid(points) {
  let [area, x, y] = [0, 0, 0];
  for (let i = 1; i < points.length; i += 1) {
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
    const cross = x0 * y1 - x1 * y0;
    area += cross / 2;
    x += (x0 + x1) * cross / 6;
    y += (y0 + y1) * cross / 6;
  }
  return { size: Math.abs(area), centre: [x / area, y / area] };
}
