// Lanes: layers are columns, the thread in focus runs through the middle, its neighbours around it, the rest as flows.
import { html, svg, nothing } from "lit-html";
import { scalePoint, scaleLinear } from "d3-scale";
import { linkHorizontal } from "d3-shape";
import { EVENTS } from "./atlas.js";

const ROW = 58, TOP = 46, FLOW = 96;
const curve = linkHorizontal().x((d) => d[0]).y((d) => d[1]);
const short = (text, n) => (text.length > n ? `${text.slice(0, n - 1)}…` : text);

/** How sure a link is, as opacity: full at q = 0, faint at the largest rate of the file. */
const evidence = (q, most) => (q === null || q === undefined ? 0.35 : 0.35 + 0.6 * (1 - Math.min(1, q / most)));

export function lanes({ atlas, threads, focus, census }, { width }, act) {
  if (focus === undefined) return html`<p class="sx-empty">Choose a feature from the list, or search for a token.</p>`;
  const t = threads.of[focus], near = atlas.neighbours(threads, t);
  const rows = [t, ...near.map((n) => n.t)];
  const height = TOP + rows.length * ROW + FLOW;
  const narrow = width < 640, step = Math.max(narrow ? 84 : 110, width / atlas.layers.length);
  const w = step * atlas.layers.length;
  const x = scalePoint(atlas.layers.map((_, i) => i), [step / 2, w - step / 2]);
  const thick = scaleLinear([0, 1], [1, 14]).clamp(true);
  const y = (r) => TOP + r * ROW + ROW / 2;
  const row = new Map(rows.map((id, r) => [id, r]));
  const at = (m) => [x(atlas.lineages.layer[m]), y(row.get(threads.of[m]))];
  const drawn = [];
  for (const [r, id] of rows.entries()) {
    for (let m = threads.start[id] + 1; m < threads.end[id]; m++) {
      const similarity = atlas.lineages.similarity[m], q = atlas.lineages.q[m];
      drawn.push(svg`<path class="sx-link" d=${curve({ source: at(m - 1), target: at(m) })}
        stroke="currentColor" fill="none" stroke-width=${thick(similarity).toFixed(1)}
        stroke-opacity=${(evidence(q, atlas.meta.rate) * (r ? 0.5 : 1)).toFixed(2)}
        ><title>${atlas.name(m - 1)} to ${atlas.name(m)}: similarity ${similarity.toFixed(2)}, q ${q.toPrecision(2)}</title></path>`);
    }
  }
  const others = near.flatMap((n) => n.links).map((l) => svg`<path class="sx-other" d=${curve({ source: at(l.from), target: at(l.to) })}
      stroke="currentColor" fill="none" stroke-dasharray=${l.why === "not taken" ? "2 5" : "9 3"} stroke-width=${thick(l.similarity / 2).toFixed(1)} stroke-opacity="0.55"
      ><title>${atlas.name(l.from)} and ${atlas.name(l.to)}: ${l.why === "not taken" ? `similarity ${l.similarity.toFixed(2)}, above the threshold, not taken` : EVENTS[l.why].about}</title></path>`);
  const nodes = rows.flatMap((id, r) => {
    const out = [];
    for (let m = threads.start[id]; m < threads.end[id]; m++) out.push(node(atlas, m, at(m), r === 0, m === focus, act, step));
    return out;
  });
  const beside = new Map(); // how many glyphs stand on each side of a member already
  const glyphs = atlas.happenings(threads, t).map((h) => {
    const side = h.event === "birth" || h.event === "merge" ? -1 : 1, place = side * (h.m + 1), nth = beside.get(place) ?? 0;
    beside.set(place, nth + 1);
    return glyph(h, at(h.m), side * (20 + 15 * nth));
  });
  return html`<div class="sx-scroll" role="region" tabindex="0" aria-label="Lanes"><svg class="sx-lanes" role="group" width=${w} height=${height} viewBox="0 0 ${w} ${height}"
      font-family="system-ui, sans-serif" font-size="12"
      aria-label="Lineage of ${atlas.name(focus)} and its neighbours over the layers ${atlas.layers[0]} to ${atlas.layers.at(-1)}">
    ${atlas.layers.map((layer, i) => svg`<g><line x1=${x(i)} x2=${x(i)} y1=${TOP - 8} y2=${height - FLOW} stroke="currentColor" stroke-opacity="0.15"></line>
      <text x=${x(i)} y="24" text-anchor="middle" fill="currentColor" font-weight="600">layer ${layer}</text></g>`)}
    ${drawn}${others}${nodes}${glyphs}${flows(atlas, census, x, height, step)}
  </svg></div>
  <p class="sx-key">Link width: similarity. Opacity: evidence (smaller q, darker). Dotted: above the threshold, not taken by the
    optimum. Dashed: split or merge. ${Object.values(EVENTS).map((e) => html`<span class="sx-glyphkey">${e.glyph} ${e.text}</span> `)}</p>
  ${near.length ? nothing : html`<p class="sx-soft">No other latent comes above the threshold for any member of this lineage.</p>`}`;
}

function node(atlas, m, [px, py], mine, focused, act, step) {
  const label = atlas.label(m) || "no label", f = atlas.frequency(m);
  const shown = short(label, Math.floor(step / (mine ? 8 : 7))), number = atlas.lineages.latent[m];
  const says = `${shown} ${number}: layer ${atlas.layers[atlas.lineages.layer[m]]}, latent ${number}, ${label}` + (f === null ? "" : `, active on ${(100 * f).toPrecision(2)} % of tokens`);
  return svg`<g class="sx-node ${mine ? "sx-mine" : ""} ${focused ? "sx-focus" : ""}" role="button" tabindex="0" data-member=${m}
      aria-label=${says} aria-pressed=${focused ? "true" : "false"}
      @click=${() => act.focus(atlas.name(m))} @keydown=${(e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); act.focus(atlas.name(m)); } }}>
    <title>${says}</title>
    <circle cx=${px} cy=${py} r=${focused ? 9 : mine ? 7 : 5} stroke="currentColor" stroke-width="2" fill="currentColor" fill-opacity=${focused ? 1 : 0.25}></circle>
    <text x=${px} y=${py - 13} text-anchor="middle" fill="currentColor" font-weight=${mine ? 600 : 400}>${shown}</text>
    <text x=${px} y=${py + 22} text-anchor="middle" fill="currentColor" fill-opacity="0.75" font-size="11">${number}</text>
  </g>`;
}

function glyph(happening, [px, py], away) {
  const e = EVENTS[happening.event];
  return svg`<text class="sx-glyph" x=${px + away} y=${py + 5} text-anchor="middle" font-size="16" fill="currentColor">${e.glyph}<title>${e.text}: ${e.about}</title></text>`;
}

/** Everything else, aggregated: how many threads go on, begin and end in each layer. */
function flows(atlas, census, x, height, step) {
  const said = (n) => Math.round(n).toLocaleString("en");
  const most = Math.max(...census.alive), tall = scaleLinear([0, most], [0, FLOW - 44]), base = height - 24, bar = step * 0.28;
  return svg`<g class="sx-flows">${atlas.layers.map((layer, i) => {
    const alive = census.alive[i], born = census.born[i], on = alive - census.ended[i];
    const h = tall(alive), hb = tall(born), ho = tall(on);
    return svg`<g><title>layer ${layer}: ${said(alive)} latents, ${said(born)} of them begin here, ${said(alive - on)} end here</title>
      ${i + 1 < atlas.layers.length ? svg`<path d=${ribbon(x(i) + bar / 2, base - ho, base, x(i + 1) - bar / 2, base - tall(census.alive[i + 1] - census.born[i + 1]), base)} fill="currentColor" fill-opacity="0.12"></path>` : nothing}
      <rect x=${x(i) - bar / 2} y=${base - h} width=${bar} height=${h} fill="currentColor" fill-opacity="0.25"></rect>
      <rect x=${x(i) - bar / 2} y=${base - h} width=${bar} height=${hb} fill="currentColor" fill-opacity="0.25"></rect>
      <text x=${x(i)} y=${height - 8} text-anchor="middle" font-size="11" fill="currentColor" fill-opacity="0.8">${i ? `${said(born)} born` : said(alive)}</text></g>`;
  })}</g>`;
}

function ribbon(x0, a0, b0, x1, a1, b1) {
  const m = (x0 + x1) / 2;
  return `M${x0},${a0}C${m},${a0} ${m},${a1} ${x1},${a1}L${x1},${b1}C${m},${b1} ${m},${b0} ${x0},${b0}Z`;
}

/** What chance draws: the longest threads of the null suites under the same rate, no names, and the same flows. */
export function strangers({ atlas, chance }, { rate, width }) {
  const threads = atlas.threads(rate, true), { layer, similarity, q } = atlas.chance, long = (t) => threads.end[t] - threads.start[t];
  const rows = [...Array(threads.count).keys()].filter((t) => long(t) > 1).sort((a, b) => long(b) - long(a)).slice(0, 8);
  const height = TOP + Math.max(1, rows.length) * 34 + FLOW, y = (r) => TOP + r * 34 + 17;
  const step = Math.max(width < 640 ? 84 : 110, width / atlas.layers.length), w = step * atlas.layers.length;
  const x = scalePoint(atlas.layers.map((_, i) => i), [step / 2, w - step / 2]), thick = scaleLinear([0, 1], [1, 14]).clamp(true);
  const many = Math.round(chance.census.length.slice(2).reduce((a, b) => a + b, 0)), few = (n) => (n >= 10 ? Math.round(n) : Number(n.toPrecision(2)));
  return html`<p class="sx-soft">${many === 0 ? "The same method finds no lineage" : many === 1 ? "The same method finds one lineage" : `The same method finds ${many.toLocaleString("en")} lineages`} of two layers or more among strangers at q ≤ ${rate.toPrecision(2)}${many ? ", the longest first" : ""}.
      A world of strangers may be smaller than the suite: then each of its lineages stands for several, and is counted as often.</p>
  <div class="sx-scroll" role="region" tabindex="0" aria-label="Lanes"><svg class="sx-lanes" role="img" width=${w} height=${height} viewBox="0 0 ${w} ${height}" font-family="system-ui, sans-serif" font-size="12" aria-label="Lineages that chance draws">
    ${atlas.layers.map((l, i) => svg`<text x=${x(i)} y="24" text-anchor="middle" fill="currentColor" font-weight="600">layer ${l}</text>`)}
    ${rows.map((t, r) => { const out = []; for (let m = threads.start[t]; m < threads.end[t]; m++) {
      if (m > threads.start[t]) out.push(svg`<path d="M${x(layer[m - 1])},${y(r)}L${x(layer[m])},${y(r)}" stroke="currentColor" fill="none" stroke-width=${thick(similarity[m]).toFixed(1)} stroke-opacity=${evidence(q[m], atlas.meta.rate).toFixed(2)}><title>similarity ${similarity[m].toFixed(2)}</title></path>`);
      out.push(svg`<circle cx=${x(layer[m])} cy=${y(r)} r="5" fill="currentColor" fill-opacity="0.3" stroke="currentColor"></circle>`);
    } out.push(svg`<text x=${x(layer[threads.end[t] - 1]) + 12} y=${y(r) + 4} fill="currentColor">stands for ${few(threads.weight(t))}</text>`); return out; })}
    ${flows(atlas, chance.census, x, height, step)}</svg></div>`;
}
