/** Calls to the server this page came from; the only place that knows the HTTP API. */

/** An answer that is not the one hoped for; `message` is the server's own sentence. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is it still running?");
  }
  if (response.status === 410) dispatchEvent(new Event("outdated")); // a row of another version
  if (!response.ok) throw new ApiError(await reason(response), response.status);
  return response;
}

async function reason(response) {
  const body = await response.json().catch(() => ({}));
  return body.error ?? `The server answered ${response.status} ${response.statusText}.`;
}

const post = (path, body, signal) => ask(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
});

/** What is searched: rows, index, labels, sensors, limits. */
export const readInfo = async () => (await ask("api/info")).json();

/** Up to `limit` images spread evenly over all, as GeoJSON points; rows are those of its `version`. */
export const readItems = async (limit) => (await ask(`api/items?limit=${limit}`)).json();

/** The facts of one image of a version. */
export const readItem = async (row, version) =>
  (await ask(`api/items/${row}?${new URLSearchParams({ v: version })}`)).json();

/** @param {import("./state.js").State} state */
export function requestOf(state) {
  const { bbox, start, end, sensors, labels, collections, splits } = state;
  return {
    positive: state.positive, negative: state.negative, point: state.point, k: state.k,
    filters: { bbox, start: start || null, end: end || null, sensors, labels, collections, splits },
    exclude_same_place: state.elsewhere,
  };
}

/**
 * Searches, by form if there are files to send along.
 * @param {import("./state.js").State} state
 * @param {File[]} files
 * @param {AbortSignal} signal
 */
export async function search(state, files, signal) {
  const request = requestOf(state);
  if (!files.length) return (await post("api/search", request, signal)).json();
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  form.append("request", JSON.stringify(request));
  form.append("mode", state.mode);
  return (await ask("api/search/image", { method: "POST", body: form, signal })).json();
}

/**
 * The hits as a file.
 * @returns {Promise<{name: string, blob: Blob}>}
 */
export async function download(hits, format) {
  const body = { ids: hits.map((hit) => hit.id), scores: hits.map((hit) => hit.score) };
  const response = await post(`api/download?format=${format}`, body);
  const name = response.headers.get("Content-Disposition")?.match(/filename="?([^";]+)"?/)?.[1];
  return { name: name ?? `hits.${format}`, blob: await response.blob() };
}
