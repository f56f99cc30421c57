// The summary: births, deaths, lengths and half-life, beside what chance draws under the same settings.
import { html, svg, nothing } from "lit-html";
import { scaleBand, scaleLinear } from "d3-scale";
import { max } from "d3-array";

export function summary({ layers }, shown, rate) {
  const real = shown.census, chance = shown.chance?.census, n = layers.length;
  const life = (h) => (h === null ? `more than ${n - 1} layers` : `${h.toFixed(1)} layers`);
  const lengths = real.length.map((v, i) => ({ name: String(i), real: v, chance: chance ? chance.length[i] : 0 })).slice(2);
  const share = (c) => layers.map((_, i) => ({ born: i ? c.born[i] / c.alive[i] : null, ended: i < n - 1 ? c.ended[i] / c.alive[i] : null }));
  const r = share(real), z = chance && share(chance);
  const row = (name, key) => html`<tr><th scope="row">${name}</th>${r.map((v) => html`<td>${v[key] === null ? "" : `${(100 * v[key]).toFixed(0)} %`}</td>`)}</tr>
    ${z ? html`<tr class="sx-soft"><th scope="row">… by chance</th>${z.map((v) => html`<td>${v[key] === null ? "" : `${(100 * v[key]).toFixed(0)} %`}</td>`)}</tr>` : nothing}`;
  return html`<div class="sx-summary"><p class="sx-lead"><b>${real.links.toLocaleString("en")}</b> links at q ≤ ${rate.toPrecision(2)}${chance ? html`; the same method on strangers draws <b>${Math.round(chance.links).toLocaleString("en")}</b>` : nothing}.
      Half of the features of layer ${layers[0]} are still found after <b>${life(shown.half)}</b>${chance ? html` (by chance ${life(shown.chance.half)})` : nothing}.</p>
    <h2>Lineages by length${chance ? ", beside chance" : nothing}</h2>${bars(lengths, chance)}
    <h2>Births and deaths by layer</h2><div class="sx-scroll" role="region" tabindex="0" aria-label="Births and deaths by layer"><table class="sx-table sx-small"><thead><tr><th scope="col">layer</th>${layers.map((l) => html`<th scope="col">${l}</th>`)}</tr></thead>
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
