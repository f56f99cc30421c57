// The list: every lineage a row, sorted and filtered; only the rows in sight are drawn.
import { html, nothing } from "lit-html";
import { Virtualizer, elementScroll, observeElementOffset, observeElementRect } from "@tanstack/virtual-core";
import { EVENTS } from "./atlas.js";

const COLUMNS = [
  ["label", "Label", "the clearest label among the members"],
  ["first", "Layers", "first and last layer"],
  ["length", "Length", "layers in which the feature is found"],
  ["weakest", "Weakest link", "smallest similarity between neighbouring members"],
  ["q", "q", "share of false ones among the lineages of its length that are as tight"],
  ["p", "p", "share of chance lineages as long and as tight"],
  ["frequency", "Frequency", "share of tokens on which members are active"],
  ["events", "Events", "births, deaths, gaps, splits, merges"],
];

/** Threads that pass the filters, in order; `hits` (matched words of each thread) also puts better matches first. */
export function order(atlas, threads, { event, least, sort, down }, hits) {
  const c = atlas.columns(threads), out = [], sign = down ? -1 : 1, n = threads.count;
  for (let t = 0; t < n; t++) {
    if (c.length[t] >= least && (!hits || hits[t]) && (!event || atlas.has(threads, t, event))) out.push(t);
  }
  const score = hits ?? new Uint8Array(n), key = new Float64Array(n), first = new Float64Array(n);
  const rank = sort === "label" ? ranks(atlas.lineages.labels) : null, column = rank ? null : c[sort] ?? c.length;
  for (const t of out) {
    const v = rank ? rank[atlas.lineages.label[c.member[t]]] ?? NaN : column[t];
    key[t] = Number.isNaN(v) ? Infinity : sign * v; // what is not known comes last, either way
    first[t] = c.q[t] || 0;
  }
  return out.sort((s, t) => score[t] - score[s] || key[s] - key[t] || first[s] - first[t] || s - t);
}

/** The place of each label in the order of the alphabet, small and capital letters together. */
function ranks(labels) {
  const low = labels.map((l) => l.toLowerCase()), out = new Float64Array(labels.length), less = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  labels.map((_, i) => i).sort((a, b) => less(low[a], low[b]) || less(labels[a], labels[b])).forEach((i, place) => (out[i] = place));
  return out;
}

/** Which rows are in sight: the library's virtualizer, told to render again when it changes. */
export function windowed(scroller, count, changed) {
  return new Virtualizer({
    count, getScrollElement: scroller, estimateSize: () => 34, overscan: 12,
    scrollToFn: elementScroll, observeElementRect, observeElementOffset, onChange: changed,
  });
}

export function list(shown, virtual, { sort, down }, act) {
  const { total, place } = shown, seen = virtual ? virtual.getVirtualItems() : [];
  const rows = seen.length ? seen.map((v) => v.index) : Array.from({ length: Math.min(40, total) }, (_, i) => i);
  const before = seen.length ? seen[0].start : 0, high = virtual ? virtual.getTotalSize() : 34 * total;
  const after = seen.length ? high - seen.at(-1).end : 0;
  return html`<table class="sx-table" aria-rowcount=${total + 1}><thead><tr>${COLUMNS.map(([key, name, about]) => html`
      <th scope="col" aria-sort=${sort === key ? (down ? "descending" : "ascending") : "none"} class="sx-${key}">
        <button title=${about} @click=${() => act.sort(key)}>${name}${sort === key ? (down ? " ↓" : " ↑") : nothing}</button></th>`)}</tr></thead>
    <tbody><tr aria-hidden="true" style="height:${before}px"></tr>
    ${rows.filter((i) => i < total).map((i) => row(shown.row(i), i, i === place, act))}
    <tr aria-hidden="true" style="height:${after}px"></tr></tbody></table>
  ${total ? nothing : html`<p class="sx-empty">No lineage passes these filters.</p>`}`;
}

function row(r, i, current, act) {
  if (!r) return html`<tr aria-rowindex=${i + 2} aria-busy="true"><td class="sx-label sx-soft" colspan="8">…</td></tr>`;
  return html`<tr aria-rowindex=${i + 2} aria-selected=${current} @click=${() => act.focus(r.name)}>
      <td class="sx-label"><button @click=${(e) => { e.stopPropagation(); act.focus(r.name); }}>${r.label || "no label"}</button></td>
      <td>${r.first === r.last ? r.first : `${r.first}–${r.last}`}</td><td>${r.length}</td>
      <td>${number(r.weakest)}</td><td>${number(r.q)}</td>
      <td>${number(r.p)}</td><td>${r.frequency === null ? "" : `${number(100 * r.frequency)} %`}</td>
      <td>${r.events.map((e) => html`<span title=${EVENTS[e].about}>${EVENTS[e].glyph}<span class="sx-hide"> ${EVENTS[e].text}</span></span> `)}</td></tr>`;
}

const number = (v) => (v === null ? "" : v.toPrecision(2));
