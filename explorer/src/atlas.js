// What the file holds, and what follows from it at a false discovery rate: threads, counts, neighbours.

/** Bytes of base64: by the browser where it can, else letter by letter. */
function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

/** Text of a `<script type="application/gzip;base64">` element, decompressed and parsed. */
export async function unpack(base64) {
  const stream = new Blob([bytesOf(base64.trim())]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

export const EVENTS = {
  birth: { glyph: "○", text: "born", about: "the first layer in which the feature is found" },
  death: { glyph: "×", text: "ends", about: "the last layer in which it is found, before the last layer of all" },
  gap: { glyph: "…", text: "gap", about: "absent in a layer, back later" },
  split: { glyph: "≺", text: "split", about: "two latents of a later layer rebuild this one better than one does" },
  merge: { glyph: "≻", text: "merge", about: "two latents of an earlier layer rebuild this one better than one does" },
};
const BIT = Object.fromEntries(Object.keys(EVENTS).map((name, i) => [name, 1 << i]));

/**
 * Lineages at the rate that the reader chose: threads, each a range of members [start, end). The members of a lineage
 * with a larger q-value are alone. `of` gives the thread of a member, `weight` how many lineages a thread stands for.
 */
function cut(lineages, rate) {
  const { offset, layer, q_lineage: q, weight } = lineages, start = [], end = [], lineage = [];
  for (let k = 0; k + 1 < offset.length; k++) {
    const passes = q[k] !== null && q[k] <= rate;
    for (let m = offset[k]; m < offset[k + 1]; m++) if (!passes || m === offset[k]) start.push(m), end.push(passes ? offset[k + 1] : m + 1), lineage.push(k);
  }
  const of = new Int32Array(layer.length);
  start.forEach((s, t) => of.fill(t, s, end[t]));
  return { start, end, lineage, of, count: start.length, weight: weight ? (t) => weight[lineage[t]] : () => 1 };
}

/** How many threads live, begin and end in each layer, and how long they are; `alone` counts latents left out of the file. */
function census(lineages, threads, alone) {
  const n = alone.length, out = { alive: [...alone], born: [...alone], ended: [...alone], length: new Array(n + 1).fill(0), links: 0 };
  out.length[1] = alone.reduce((a, b) => a + b, 0);
  for (let t = 0; t < threads.count; t++) {
    const [s, e] = [threads.start[t], threads.end[t]], w = threads.weight(t);
    out.length[e - s] += w;
    out.links += w * (e - s - 1);
    for (let m = s; m < e; m++) out.alive[lineages.layer[m]] += w;
    out.born[lineages.layer[s]] += w;
    out.ended[lineages.layer[e - 1]] += w;
  }
  return out;
}

export class Atlas {
  /** `raw` as `saematch.studies.explorer` writes it; `card` an async function of the layer's place and the latent. */
  constructor(raw, card) {
    Object.assign(this, raw);
    this.card = card;
    this.cuts = new Map();
    const { layer, latent } = this.lineages, widest = this.layers.map(() => 0);
    for (let m = 0; m < layer.length; m++) if (latent[m] >= widest[layer[m]]) widest[layer[m]] = latent[m] + 1;
    this.index = widest.map((n) => new Int32Array(n).fill(-1));
    for (let m = 0; m < layer.length; m++) this.index[layer[m]][latent[m]] = m;
    this.nearOf = new Map();
    this.near.similarity.forEach((_, e) => this.near.pair[e].forEach((m) => push(this.nearOf, m, e)));
    this.eventsOf = new Map();
    this.events.event.forEach((_, e) => push(this.eventsOf, this.events.member[e], e));
  }

  threads(rate, chance = false) {
    const key = `${rate}/${chance}`;
    if (!this.cuts.has(key)) {
      const lineages = chance ? this.chance : this.lineages, threads = cut(lineages, rate);
      threads.census = census(lineages, threads, lineages.alone);
      this.cuts.set(key, threads);
      if (this.cuts.size > 12) this.cuts.delete(this.cuts.keys().next().value);
    }
    return this.cuts.get(key);
  }

  member(x, latent) { const m = this.index[x]?.[latent]; return m === undefined || m < 0 ? undefined : m; }
  layerIndex(layer) { return this.layers.indexOf(layer); }
  label(m) { return this.lineages.labels[this.lineages.label[m]] ?? ""; }
  frequency(m) { return this.lineages.frequency[m] ?? null; }
  name(m) { return `${this.layers[this.lineages.layer[m]]}/${this.lineages.latent[m]}`; }

  /** Columns of the list at a rate, one entry a thread, computed once. */
  columns(threads) {
    if (threads.columns) return threads.columns;
    const { layer, similarity, q_lineage: q, p, label } = this.lineages, n = threads.count, last = this.layers.length - 1;
    const blurred = this.lineages.labels.map(unclear), dim = (m) => label[m] === undefined || blurred[label[m]];
    const out = { length: new Int16Array(n), first: new Int16Array(n), weakest: new Float64Array(n), q: new Float64Array(n), p: new Float64Array(n), frequency: new Float64Array(n), member: new Int32Array(n), events: new Uint8Array(n) };
    for (let t = 0; t < n; t++) {
      const [s, e] = [threads.start[t], threads.end[t]];
      let weakest = NaN, often = 0, known = 0, best = s, bits = (layer[s] > 0 ? BIT.birth : 0) | (layer[e - 1] < last ? BIT.death : 0);
      for (let m = s; m < e; m++) {
        if (m > s) {
          if (!(weakest <= similarity[m])) weakest = similarity[m];
          if (layer[m] - layer[m - 1] > 1) bits |= BIT.gap;
        }
        const f = this.frequency(m);
        if (f !== null) (often += f), known++;
        if (dim(best) && !dim(m)) best = m;
        for (const k of this.eventsOf.get(m) ?? []) bits |= BIT[this.events.event[k]];
      }
      out.length[t] = e - s; out.first[t] = this.layers[layer[s]]; out.weakest[t] = weakest; out.q[t] = e - s > 1 ? q[threads.lineage[t]] ?? NaN : NaN;
      out.p[t] = p[threads.lineage[t]] ?? NaN; out.frequency[t] = known ? often / known : NaN; out.member[t] = best; out.events[t] = bits;
    }
    return (threads.columns = out);
  }

  /** A row of the list: what a thread is, in numbers; null where there is nothing to say. */
  row(threads, t) {
    const c = this.columns(threads), e = threads.end[t], known = (v) => (Number.isNaN(v) ? null : v);
    return {
      first: c.first[t], last: this.layers[this.lineages.layer[e - 1]], length: c.length[t], weakest: known(c.weakest[t]), q: known(c.q[t]), p: known(c.p[t]),
      frequency: known(c.frequency[t]), label: this.label(c.member[t]), name: this.name(c.member[t]), events: Object.keys(EVENTS).filter((name) => c.events[t] & BIT[name]),
    };
  }

  has(threads, t, event) { return Boolean(this.columns(threads).events[t] & BIT[event]); }

  /** Events of a thread: births, deaths and gaps as the rate cuts it, splits and merges as the file says. */
  happenings(threads, t) {
    const [s, e] = [threads.start[t], threads.end[t]], out = [], layer = this.lineages.layer;
    if (layer[s] > 0) out.push({ event: "birth", m: s, others: [] });
    for (let m = s; m < e; m++) {
      if (m > s && layer[m] - layer[m - 1] > 1) out.push({ event: "gap", m: m - 1, others: [m] });
      for (const k of this.eventsOf.get(m) ?? []) out.push({ event: this.events.event[k], m, others: this.events.others[k] });
    }
    if (layer[e - 1] < this.layers.length - 1) out.push({ event: "death", m: e - 1, others: [] });
    return out;
  }

  /** Threads beside this one: pairs above the threshold that the optimum did not take, splits and merges. */
  neighbours(threads, t, most = 8) {
    const found = new Map();
    const add = (m, from, similarity, why) => {
      const other = threads.of[m];
      if (other === t) return;
      if (!found.has(other)) found.set(other, { t: other, similarity: -1, links: [] });
      const item = found.get(other);
      item.similarity = Math.max(item.similarity, similarity);
      item.links.push({ from, to: m, similarity, why });
    };
    for (let m = threads.start[t]; m < threads.end[t]; m++) {
      for (const e of this.nearOf.get(m) ?? []) {
        const [a, b] = this.near.pair[e];
        add(a === m ? b : a, m, this.near.similarity[e], "not taken");
      }
    }
    for (const h of this.happenings(threads, t)) {
      if (h.event === "split" || h.event === "merge") for (const o of h.others) add(o, h.m, 1, h.event);
    }
    return [...found.values()].sort((a, b) => b.similarity - a.similarity).slice(0, most);
  }
}

function push(map, key, value) {
  if (map.has(key)) map.get(key).push(value);
  else map.set(key, [value]);
}

const unclear = (label) => !label || label === "unclear";
