/** Small pieces of GeoJSON. Positions are [lon, lat] in degrees. */

export const feature = (geometry, properties = {}) => ({ type: "Feature", properties, geometry });
export const collection = (features) => ({ type: "FeatureCollection", features });
export const pointAt = (position, properties) => feature({ type: "Point", coordinates: position }, properties);
export const NOTHING = collection([]);

/** @param {number[]} bbox [west, south, east, north]; west > east crosses the date line */
export function rectangle([west, south, east, north]) {
  const right = east < west ? east + 360 : east;
  const ring = [[west, south], [right, south], [right, north], [west, north], [west, south]];
  return { type: "Polygon", coordinates: [ring] };
}

/**
 * [west, south, east, north] around positions, null for none. Of the two ways round the Earth it is
 * the shorter one; across the date line, east is beyond 180.
 */
export function boundsOf(positions) {
  if (!positions.length) return null;
  const ends = (values) => [Math.min(...values), Math.max(...values)];
  const lons = positions.map(([lon]) => lon);
  const [south, north] = ends(positions.map(([, lat]) => lat));
  const [one, other] = [ends(lons), ends(lons.map((lon) => (lon + 360) % 360))];
  const [west, east] = one[1] - one[0] <= other[1] - other[0] ? one : other;
  return [west, south, east, north];
}
