// A card: where a feature fires, what it promotes, and beside it the same for its partner.
import { html, nothing } from "lit-html";
import { max } from "d3-array";
import { scaleLinear } from "d3-scale";

const percent = (f) => `${(100 * f).toPrecision(2)} %`;
const visible = (token) => token.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/[\u0000-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g, "·");

export function card(atlas, m, content, heading) {
  const layer = atlas.layers[atlas.lineages.layer[m]], latent = atlas.lineages.latent[m];
  if (content === undefined) return html`<section class="sx-card" aria-busy="true"><p class="sx-soft">Reading the cards of layer ${layer}…</p></section>`;
  if (content instanceof Error) return html`<section class="sx-card" role="alert"><p class="sx-warn">${content.message}</p></section>`;
  const label = atlas.label(m) || "no label";
  const head = html`<h2><small>${heading} · layer ${layer}, latent ${latent}</small><br>${label}</h2>`;
  if (content === null) return html`<section class="sx-card">${head}<p class="sx-empty">This file holds no card for this latent.</p></section>`;
  const c = content;
  return html`<section class="sx-card" aria-label="Card of layer ${layer}, latent ${latent}">${head}
    <p class="sx-facts">Active on ${percent(c.frequency)} of tokens · mean ${c.mean.toPrecision(3)}, largest ${c.largest.toPrecision(3)} when active
      ${c.url ? html` · <a href=${c.url} rel="noreferrer">Neuronpedia</a>` : nothing}</p>
    ${c.dead ? html`<p class="sx-warn">Never active on this text.</p>` : nothing}
    ${histogram(c)}
    ${tokens("Fires on", c.tokens)}
    ${tokens("Promotes", c.promoted)}${tokens("Suppresses", c.suppressed)}
    <h3>Texts</h3>${c.contexts.map((text) => context(text, c.largest))}</section>`;
}

function tokens(title, list) {
  if (!list?.length) return nothing;
  return html`<p class="sx-tokens"><b>${title}</b> ${list.map(([token, value]) => html`<span class="sx-token" title=${String(value)}>${visible(token)}</span> `)}</p>`;
}

function histogram(c) {
  if (!c.histogram?.length) return nothing;
  const h = scaleLinear([0, max(c.histogram)], [0, 30]);
  return html`<div class="sx-histogram" role="img" aria-label="Histogram of activations from the threshold to ${c.largest.toPrecision(3)}">
    ${c.histogram.map((n) => html`<span style="height:${Math.max(n ? 1 : 0, h(n))}px" title=${n}></span>`)}</div>`;
}

/** One text; activation is shown by shade, by an underline and in the title of each active token. */
export function context(text, largest) {
  return html`<p class="sx-text"><small class="sx-quantile">${text.quantile}</small> ${text.tokens.map((token, i) => {
    const a = text.activations[i];
    if (!(a > 0)) return visible(token);
    const share = Math.min(1, a / largest);
    return html`<mark style="--a:${share.toFixed(2)}" title="activation ${a.toPrecision(3)}">${visible(token)}</mark>`;
  })}</p>`;
}
