/**
 * The page: one state (`state.js`), one answer from the server, and the parts that show both.
 *
 * Every change goes the same way round: a part calls `change` with what is to be different, the
 * server is asked, and `show` brings all parts up to date. Marks alone wait for "Re-rank".
 */

import { readInfo, readItems, search } from "./api.js";
import { listen } from "./controls.js";
import { byId, decimals } from "./dom.js";
import { buildDownloads } from "./downloads.js";
import { buildFilters, showChips, showFilters } from "./filters.js";
import { focusCard, hideBelow, highlight, returnToBest, showHits, showMarks } from "./gallery.js";
import { boundsOf } from "./geojson.js";
import { createMap } from "./map.js";
import { keepFiles, showExamples } from "./query.js";
import { emptyState, fromHash, hasExamples, hideToken, markOf, noExamples, toHash, withMark } from "./state.js";
import {
  showAbout, showCounts, showError, showNotice, showPeek, showSamples, showScores, showUpdate, showView,
} from "./words.js";

const DOTS = 5000; // images drawn on the map as small dots
const LOST = "A link cannot carry an uploaded image. Upload it again to see the same hits.";

const page = {
  info: null, // what the server says of itself
  state: emptyState(),
  asked: emptyState(), // the state that the answer belongs to
  answer: null,
  map: null, // a MapView, or null when it is not known where images lie
  files: new Map(), // uploads by name, for as long as the page is open
  items: new Map(), // images seen so far, by id
  running: null, // AbortController of the search under way
};

// ---- asking

/** Replaces part of the state and asks anew. */
function change(patch) {
  Object.assign(page.state, patch);
  return ask();
}

/** @param {boolean} keepAddress when the state came from the address itself */
async function ask(keepAddress = false) {
  page.running?.abort();
  page.running = new AbortController();
  Object.assign(page, { asked: structuredClone(page.state), answer: null });
  const hash = toHash(page.state);
  if (!keepAddress && hash !== location.hash.slice(1)) history.pushState(null, "", `#${hash}`);
  const images = page.state.images.filter((name) => page.files.has(name));
  showNotice(images.length < page.state.images.length ? LOST : "");
  if (!hasExamples({ ...page.state, images })) return show();
  const hadFocus = document.activeElement !== document.body;
  showView("waiting");
  showQuery();
  try {
    page.answer = await search(page.state, images.map((name) => page.files.get(name)), page.running.signal);
  } catch (error) {
    return error.name === "AbortError" ? null : fail(error);
  }
  for (const hit of page.answer.hits) page.items.set(hit.id, hit);
  show();
  returnToBest(hadFocus);
  return page.answer.version === page.info.version ? null : refresh();
}

/** Says so, once, when a new version of the collection was published while the page was open. */
async function refresh() {
  const info = await readInfo().catch(() => page.info);
  if (info.version !== page.info.version) showUpdate(info, page.answer);
  page.info = info;
}

function fail(error) {
  showError(error);
  page.map?.showHits([]);
}

// ---- showing

/** The hits of the answer, with their marks and their scores as they are written. */
function hits() {
  const found = page.answer?.hits ?? [];
  const digits = decimals(found.map((hit) => hit.score));
  return found.map((hit) => ({ ...hit, mark: markOf(page.state, hit.id), cosine: hit.score.toFixed(digits) }));
}

const visible = () => hits().filter((hit) => page.state.score === null || hit.score >= page.state.score);
const onMap = () => visible().filter((hit) => hit.lon !== null);
const bounds = () => boundsOf(onMap().map((hit) => [hit.lon, hit.lat]));

/** Brings everything up to date with the state and the answer. */
function show() {
  showView(!page.answer ? "welcome" : hits().length ? "hits" : "none");
  showQuery();
  showHits(hits(), { more: moreLike, mark, attend });
  showScores(hits().map((hit) => hit.score), page.state.score);
  showVisible();
  if (page.map && !onMap().every((hit) => page.map.contains([hit.lon, hit.lat]))) page.map.fit(bounds());
}

function showQuery() {
  const { state, asked } = page;
  const before = [...asked.positive, ...asked.negative];
  const now = [...state.positive, ...state.negative];
  const pending = new Set(now.filter((id) => !before.includes(id)));
  showExamples(state, { items: page.items, files: page.files, pending }, change);
  byId("rerank").hidden = toHash(state) === toHash({ ...asked, score: state.score });
  showFilters(state);
  showChips(state, change);
  page.map?.showBox(state.bbox);
  page.map?.showPoint(state.point);
}

/** Hides the hits that score too low, on the map and in the gallery. */
function showVisible() {
  const left = hideBelow(hits(), page.state.score);
  byId("all-hidden").hidden = left > 0 || !hits().length;
  if (page.answer) showCounts(page.answer, left);
  page.map?.showHits(onMap());
}

// ---- what the user does

const moreLike = (item) => change({ ...noExamples(), positive: [item.id] });
const retry = () => (page.info ? ask(true) : location.reload());

/** Sets a mark, or takes it back; the search waits for "Re-rank". */
function mark(hit, value) {
  Object.assign(page.state, withMark(page.state, hit.id, value));
  showMarks(hits());
  showQuery();
  page.map?.showHits(onMap());
}

/** The hit that is looked at, in the gallery or on the map, is highlighted in both. */
function attend(row) {
  page.map?.highlight(row);
  highlight(row);
}

function hoverMap(row) {
  attend(row);
  showPeek(hits().find((hit) => hit.row === row));
}

function clickMap(at, found) {
  if (found) return found.rank ? focusCard(found.row) : moreLike(found);
  return change({ ...noExamples(), point: at.map((degrees) => Number(degrees.toFixed(5))) });
}

function upload(files) {
  const images = keepFiles(files, page.files);
  if (images.length) change({ ...noExamples(), images });
}

function setScore(score) {
  page.state.score = score;
  showScores(hits().map((hit) => hit.score), score);
  showVisible();
  history.replaceState(null, "", `#${toHash({ ...page.asked, score })}`);
}

/** The address was changed: by Back, Forward, or by hand. */
function followAddress() {
  page.state = fromHash(location.hash);
  return ask(true);
}

// ---- starting

async function startMap(items) {
  document.body.classList.add("has-map");
  page.map = await createMap({ click: clickMap, hover: hoverMap, box: (bbox) => change({ bbox }) });
  page.map.showItems(items);
  const home = boundsOf(items.features.map((item) => item.geometry.coordinates));
  if (home) page.map.fit(home);
  byId("fit").addEventListener("click", () => page.map.fit(bounds() ?? home));
}

async function start() {
  hideToken();
  listen({ ask, change, upload, setScore, followAddress, retry, refresh, page });
  try {
    page.info = await readInfo();
    showAbout(page.info);
    buildFilters(page.info, change);
    buildDownloads(visible);
    const items = page.info.bbox ? await readItems(DOTS) : null;
    await showSamples(page.info, items, (item) => { page.items.set(item.id, item); moreLike(item); });
    if (items) await startMap(items);
    await followAddress();
  } catch (error) {
    fail(error);
  }
  document.body.dataset.ready = "true"; // for tests
}

start();
