// What a view shows at a state: computed from the file at hand, or asked of the local server, which sends no more than that.
import { Atlas } from "./atlas.js";
import { order } from "./list.js";
import { search } from "./search.js";

/** Layers after which half of the threads that begin in the first layer are gone (interpolated), or null. */
export function halfLife(layers, lineages, threads) {
  const n = layers.length, alive = new Array(n).fill(0);
  for (let t = 0; t < threads.count; t++) {
    if (lineages.layer[threads.start[t]] !== 0) continue;
    for (let d = 0; d <= lineages.layer[threads.end[t] - 1]; d++) alive[d] += threads.weight(t);
  }
  alive[0] += lineages.alone[0]; // latents that are in the file as a number only: they end where they begin
  for (let d = 1; d < n; d++) {
    if (alive[d] <= alive[0] / 2) return d - 1 + (alive[d - 1] - alive[0] / 2) / (alive[d - 1] - alive[d]);
  }
  return null;
}

/** Where a latent stands in an atlas, by its name "14/1091"; undefined where it does not. */
function find(atlas, name) {
  const [layer, latent] = name.split("/").map(Number);
  return name ? atlas.member(atlas.layerIndex(layer), latent) : undefined;
}

/**
 * A file with all that there is. `view` gives what a page shows at a state: the atlas that the lanes are drawn from, its
 * threads and the member in focus, counts of the suite and of chance, the lineages that pass the filters.
 */
export class Local {
  constructor(atlas) {
    this.atlas = atlas;
    this.about = { meta: atlas.meta, layers: atlas.layers, chance: Boolean(atlas.chance) };
    this.waits = false;
  }

  card(x, latent) { return this.atlas.card(x, latent); }

  counts(rate, chance) {
    const lineages = chance ? this.atlas.chance : this.atlas.lineages, threads = this.atlas.threads(rate, chance);
    return { census: threads.census, half: halfLife(this.atlas.layers, lineages, threads) };
  }

  /** For each thread, how many words of the search its best member matches; null without a search. */
  hits(threads, text) {
    if (!text) return null;
    if (this.found?.text !== text) this.found = { text, members: search(this.atlas, text) };
    const out = new Uint8Array(threads.count), { members } = this.found;
    for (let m = 0; m < members.length; m++) if (members[m] > out[threads.of[m]]) out[threads.of[m]] = members[m];
    return out;
  }

  listed(now) {
    const threads = this.atlas.threads(now.rate), key = [now.rate, now.event, now.least, now.sort, now.down, now.find].join();
    if (this.key !== key) { this.key = key; this.all = order(this.atlas, threads, now, this.hits(threads, now.find)); }
    return this.all;
  }

  view(now) {
    const { atlas } = this, threads = atlas.threads(now.rate), all = this.listed(now), focus = find(atlas, now.focus);
    const place = focus === undefined ? -1 : all.indexOf(threads.of[focus]);
    const named = (i) => all.length ? atlas.row(threads, all[Math.max(0, Math.min(all.length - 1, i))]).name : null;
    return {
      atlas, threads, focus, find: now.find, place, total: all.length, beside: { [-1]: () => named(place - 1), 1: () => named(place + 1) },
      lost: Boolean(now.focus) && focus === undefined, row: (i) => atlas.row(threads, all[i]), ...this.counts(now.rate),
      chance: atlas.chance && this.counts(now.rate, true), pinned: now.pins.map((name) => [name, find(atlas, name)]).filter(([, m]) => m !== undefined).map(([name, m]) => ({ name, label: atlas.label(m) })),
    };
  }

  async table(now) {
    const threads = this.atlas.threads(now.rate);
    return this.listed(now).map((t) => ({ ...this.atlas.row(threads, t), members: Array.from({ length: threads.end[t] - threads.start[t] }, (_, i) => this.atlas.name(threads.start[t] + i)) }));
  }
}

/** What the local server of `saematch explore --serve` answers; null for what it does not have. */
async function ask(path) {
  const answer = await fetch(path).catch(() => { throw new Error("the local server does not answer; start saematch explore --serve again"); });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`the local server says: ${await answer.text()}`);
  return answer.json();
}

const BLOCK = 100; // rows of the list that are asked for at a time

/** The local server: each view is one question, its answer a small atlas around the focus, counts, and some rows. */
export class Served {
  constructor(about, read) {
    this.about = about;
    this.read = read;
    this.shown = null;
    this.waits = false; // is the last answer one to an earlier question?
  }

  async card(x, latent) {
    const packed = await ask(`cards/${x}/${latent}.json`);
    return packed && this.read(packed).get(latent);
  }

  question(now, from, to) {
    const { rate, find: words, event, least, sort, focus } = now, down = now.down ? "1" : "0", chance = now.chance ? "1" : "0";
    return new URLSearchParams({ rate, find: words, event, least, sort, down, chance, focus, pins: now.pins.join(), from, to });
  }

  /** The last answer; where the state asks for another one, `changed` is called when it is there. */
  view(now, [first, last], changed) {
    const from = BLOCK * Math.floor(first / BLOCK), to = BLOCK * Math.ceil((last + 1) / BLOCK);
    const path = `view.json?${this.question(now, from, to)}`;
    if (path !== this.asked) {
      this.asked = path;
      this.waits = true;
      const answer = (shown) => { if (path === this.asked) { this.shown = shown; this.waits = false; changed(); } };
      ask(path).then((raw) => answer(this.answered(raw, now)), (error) => answer(error));
    }
    return this.shown;
  }

  answered(raw, { rate, find: words }) {
    const { meta, layers } = this.about, atlas = new Atlas({ ...raw.atlas, meta, layers }, (x, latent) => this.card(x, latent));
    return { ...raw, find: words, atlas, threads: atlas.threads(rate), focus: find(atlas, raw.focus), row: (i) => raw.rows[i - raw.from], beside: { [-1]: () => raw.before, 1: () => raw.after } };
  }

  async table(now) { return (await ask(`table.json?${this.question(now, 0, 0)}`)).rows; }
}
