// The summary: births, deaths, lengths and half-life, beside what chance draws under the same settings.
import { html, svg, nothing } from "lit-html";
import { scaleBand, scaleLinear } from "d3-scale";
import { max } from "d3-array";

/** Layers after which half of the threads that begin in the first layers are gone (interpolated), or null. */
export function halfLife(atlas, lineages, threads) {
  const n = atlas.layers.length, alive = new Array(n).fill(0);
  for (let t = 0; t < threads.count; t++) {
    const [s, e] = [threads.start[t], threads.end[t]];
    if (lineages.layer[s] !== 0) continue;
    for (let d = 0; d <= lineages.layer[e - 1]; d++) alive[d] += 1;
  }
  alive[0] += lineages.alone[0]; // latents that are in the file as a number only: they end where they begin
  for (let d = 1; d < n; d++) {
    if (alive[d] <= alive[0] / 2) return d - 1 + (alive[d - 1] - alive[0] / 2) / (alive[d - 1] - alive[d]);
  }
  return null;
}

export function summary(atlas, rate) {
  const real = atlas.threads(rate), chance = atlas.chance ? atlas.threads(rate, true) : null;
  const draws = atlas.meta.chance_draws || 1, n = atlas.layers.length;
  const half = halfLife(atlas, atlas.lineages, real), lost = chance && halfLife(atlas, atlas.chance, chance);
  const life = (h) => (h === null ? `more than ${n - 1} layers` : `${h.toFixed(1)} layers`);
  const lengths = real.census.length.map((v, i) => ({ name: String(i), real: v, chance: chance ? chance.census.length[i] / draws : 0 })).slice(2);
  const share = (c) => atlas.layers.map((layer, i) => ({ layer, born: i ? c.born[i] / c.alive[i] : null, ended: i < n - 1 ? c.ended[i] / c.alive[i] : null }));
  const r = share(real.census), z = chance && share(chance.census);
  const row = (name, key) => html`<tr><th scope="row">${name}</th>${r.map((v) => html`<td>${v[key] === null ? "" : `${(100 * v[key]).toFixed(0)} %`}</td>`)}</tr>
    ${z ? html`<tr class="sx-soft"><th scope="row">… by chance</th>${z.map((v) => html`<td>${v[key] === null ? "" : `${(100 * v[key]).toFixed(0)} %`}</td>`)}</tr>` : nothing}`;
  return html`<div class="sx-summary"><p class="sx-lead"><b>${real.census.links.toLocaleString("en")}</b> links at q ≤ ${rate.toPrecision(2)}${chance ? html`; the same method on strangers draws <b>${Math.round(chance.census.links / draws).toLocaleString("en")}</b>` : nothing}.
      Half of the features of layer ${atlas.layers[0]} are still found after <b>${life(half)}</b>${chance ? html` (by chance ${life(lost)})` : nothing}.</p>
    <h2>Lineages by length${chance ? ", beside chance" : nothing}</h2>${bars(lengths, chance)}
    <h2>Births and deaths by layer</h2><div class="sx-scroll" role="region" tabindex="0" aria-label="Births and deaths by layer"><table class="sx-table sx-small"><thead><tr><th scope="col">layer</th>${atlas.layers.map((l) => html`<th scope="col">${l}</th>`)}</tr></thead>
      <tbody>${row("born here", "born")}${row("end here", "ended")}</tbody></table></div></div>`;
}

function bars(data, chance) {
  const w = 560, h = 200, x = scaleBand(data.map((d) => d.name), [40, w]).padding(0.25);
  const y = scaleLinear([0, max(data, (d) => Math.max(d.real, d.chance)) || 1], [h - 36, 20]), half = x.bandwidth() / 2;
  const bar = (d, value, at, dim) => svg`<g><rect x=${at} y=${y(value)} width=${half} height=${h - 36 - y(value)} fill="currentColor" fill-opacity=${dim ? 0.25 : 0.8}></rect>
    <text x=${at + half / 2} y=${y(value) - 4} text-anchor="middle" font-size="11" fill="currentColor">${Math.round(value)}</text></g>`;
  return html`<svg class="sx-bars" viewBox="0 0 ${w} ${h}" width=${w} role="img" font-family="system-ui, sans-serif"
      aria-label="Number of lineages by length: ${data.map((d) => `${d.name} layers ${d.real}${chance ? `, by chance ${Math.round(d.chance)}` : ""}`).join("; ")}">
    ${data.map((d) => svg`<g>${bar(d, d.real, x(d.name))}${chance ? bar(d, d.chance, x(d.name) + half, true) : nothing}
      <text x=${x(d.name) + half} y=${h - 18} text-anchor="middle" font-size="12" fill="currentColor">${d.name} layers</text></g>`)}
    <text x=${w / 2} y=${h - 2} text-anchor="middle" font-size="11" fill="currentColor" fill-opacity="0.8">dark: this suite${chance ? "; pale: the same method on strangers" : ""}</text></svg>`;
}
