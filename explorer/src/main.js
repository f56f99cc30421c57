// The explorer of lineages: one view, mounted in a page of its own or in a notebook.
import { html, render, nothing } from "lit-html";
import { csvFormat } from "d3-dsv";
import { Atlas, EVENTS, unpack } from "./atlas.js";
import { store } from "./state.js";
import { lanes, strangers } from "./lanes.js";
import { card } from "./card.js";
import { list, windowed } from "./list.js";
import { summary } from "./summary.js";
import { Local, Served } from "./view.js";
import { save, picture, copied } from "./save.js";
import "./style.css";

const VIEWS = { lanes: "Lanes", list: "List", summary: "Summary" };
const HELP = [["← →", "along the lineage"], ["↑ ↓", "through the list"], ["/", "search"], ["1 2 3", "lanes, list, summary"], ["c", "what chance draws"], ["p", "pin the lineage"], ["l", "copy the link to this view"], ["?", "this help"], ["Esc", "close, leave the search"]];

/** Draw the explorer into an element. `source` is a `Local` or a `Served`; `memory` keeps the state out of the address; `told` hears what is selected. */
export function mount(element, source, { memory = false, told = () => {} } = {}) {
  const state = store(memory), { meta, layers, chance: strange } = source.about;
  element.classList.add("sx");
  let help = false, virtual = null, dispose = null, scheduled = false, note = "";
  const contents = new Map();

  function read() {
    const s = state.get(), most = meta.rate;
    const rate = s.rate === "" || !(Number(s.rate) >= 0) ? most : Math.min(most, Number(s.rate));
    return { ...s, rate, chance: s.chance === "1" && strange, least: Math.max(1, Number(s.least) || 1), down: s.down === "1", pins: s.pins.split(",").filter(Boolean) };
  }

  /** What is to be shown: null while a server is asked for the first time, an Error where it has none. */
  function seen(now) {
    const rows = virtual?.getVirtualItems() ?? [], range = rows.length ? [rows[0].index, rows.at(-1).index] : [0, 0];
    const shown = source.view(now, range, draw);
    if (virtual && shown?.total !== undefined && virtual.options.count !== shown.total) virtual.setOptions({ ...virtual.options, count: shown.total });
    return shown;
  }

  const act = {
    focus(name, keep) { if (name) state.set({ focus: name }, keep); },
    sort(key) {
      const s = state.get();
      state.set(s.sort === key ? { down: s.down === "1" ? "0" : "1" } : { sort: key, down: key === "label" || key === "q" || key === "p" || key === "first" ? "0" : "1" });
    },
    pin(name) {
      const pins = new Set(read().pins);
      if (!pins.delete(name)) pins.add(name);
      state.set({ pins: [...pins].join(",") });
    },
  };

  /** The card of a member: undefined while it is read, null where there is none. */
  function content(atlas, m) {
    const name = atlas.name(m);
    if (!contents.has(name)) {
      contents.set(name, undefined);
      source.card(atlas.lineages.layer[m], atlas.lineages.latent[m]).then((found) => contents.set(name, found), (error) => contents.set(name, error)).then(draw);
    }
    return contents.get(name);
  }

  function cards({ atlas, threads, focus: m }) {
    if (m === undefined) return nothing;
    const t = threads.of[m], partner = m + 1 < threads.end[t] ? m + 1 : m > threads.start[t] ? m - 1 : null;
    return html`<div class="sx-cards">${card(atlas, m, content(atlas, m), "selected")}${partner === null
      ? html`<section class="sx-card"><p class="sx-empty">Alone at this rate: no partner in another layer.</p></section>`
      : card(atlas, partner, content(atlas, partner), partner > m ? "next in the lineage" : "before it in the lineage")}</div>`;
  }

  /** The member in focus, or undefined: nothing is there yet, is chosen, or chance is shown. */
  function chosen() {
    const now = read(), shown = seen(now);
    return now.chance || !shown || shown instanceof Error || shown.focus === undefined ? undefined : shown;
  }
  function step(by) {
    const shown = chosen();
    if (!shown) return;
    const t = shown.threads.of[shown.focus], m = shown.focus + by;
    if (m >= shown.threads.start[t] && m < shown.threads.end[t]) act.focus(shown.atlas.name(m), true);
  }
  function walk(by) {
    const now = read(), shown = seen(now);
    if (!now.chance && shown?.beside) act.focus(shown.beside[by](), true);
  }

  /** The address, which holds the state, to the clipboard; a sentence says for some seconds whether it is there. */
  async function link() {
    note = (await copied(location.href)) ? "The link to this view is copied." : "This browser does not let a page copy: take the link from the address bar.";
    draw();
    const now = note;
    setTimeout(() => { if (note === now) { note = ""; draw(); } }, 4000);
  }

  function keys(event) {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.key === "Escape") {
      event.preventDefault(); // else the browser would empty the field, and the search would go on
      help = false;
      if (typing) event.target.blur();
      draw();
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const does = {
      ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => walk(1), ArrowUp: () => walk(-1),
      "/": () => element.querySelector(".sx-find").focus(), "?": () => { help = !help; draw(); },
      1: () => state.set({ view: "lanes" }), 2: () => state.set({ view: "list" }), 3: () => state.set({ view: "summary" }),
      c: () => strange && state.set({ chance: state.get().chance === "1" ? "" : "1" }),
      p: () => { const shown = chosen(); if (shown) act.pin(shown.atlas.name(shown.focus)); },
      l: () => memory || link(),
    }[event.key];
    if (does) { event.preventDefault(); does(); }
  }

  /** The lineages that pass the filters, to be taken along. */
  async function table(now) {
    return (await source.table(now)).map((r) => ({ label: r.label, first: r.first, last: r.last, length: r.length, weakest: r.weakest, q: r.q, p: r.p, frequency: r.frequency, events: r.events.join(" "), members: r.members.join(" ") }));
  }

  function draw() { if (!scheduled) { scheduled = true; requestAnimationFrame(() => { scheduled = false; paint(); }); } }

  function paint() {
    const now = read(), shown = seen(now);
    if (shown === null || shown instanceof Error) {
      render(shown ? html`<p class="sx-warn" role="alert">This page cannot be shown: ${shown.message}.</p>` : html`<p class="sx-empty" role="status">Reading the lineages…</p>`, element);
      return;
    }
    if (!state.get().focus && !memory && !now.chance && !source.waits && shown.total && shown.row(0)) state.set({ focus: shown.row(0).name }, true);
    const most = meta.rate, width = element.clientWidth - 24, own = !now.chance && shown.focus !== undefined && shown.atlas.name(shown.focus);
    const census = now.chance ? shown.chance.census : shown.census, whole = (n) => Math.round(n).toLocaleString("en"), lost = shown.lost && !now.chance;
    const view = lost ? html`<p class="sx-empty">There is no latent ${now.focus} here: the layers are ${layers.join(", ")}, and latents that are alone are not shown.</p>` : {
      lanes: () => (now.chance ? strangers(shown, { rate: now.rate, width }) : lanes(shown, { width }, act)),
      list: () => (now.chance ? html`<p class="sx-empty">Chance has no labels: see the lanes and the summary, or switch chance off.</p>` : list(shown, virtual, now, act)),
      summary: () => summary(source.about, shown, now.rate),
    }[now.view in VIEWS ? now.view : "lanes"]();
    render(html`
      <header class="sx-head"><h1>${meta.title}</h1><p class="sx-soft">${meta.about}</p></header>
      <div class="sx-bar" role="search">
        <label>Search <input class="sx-find" type="search" placeholder="token, label, 14/1091, layer 16" .value=${state.get().find}
          @input=${(e) => state.set({ find: e.target.value, ...(now.view === "summary" ? { view: "list" } : {}) }, true)}></label>
        <label>q ≤ <input class="sx-rate" type="range" min="0" max=${most} step=${most / 50} .value=${String(now.rate)} aria-valuetext="false discovery rate at most ${now.rate}"
          @input=${(e) => state.set({ rate: Number(e.target.value) === most ? "" : e.target.value }, true)}> <output>${now.rate.toPrecision(2)}</output></label>
        <label>at least <input class="sx-least" type="number" min="1" max=${layers.length} .value=${String(now.least)} @input=${(e) => state.set({ least: e.target.value }, true)}> layers</label>
        <label>with <select @change=${(e) => state.set({ event: e.target.value })}><option value="">any event</option>${Object.entries(EVENTS).map(([k, v]) => html`<option value=${k} ?selected=${k === now.event}>${v.glyph} ${v.text}</option>`)}</select></label>
        ${strange ? html`<label class="sx-chance"><input type="checkbox" role="switch" .checked=${now.chance} @change=${(e) => state.set({ chance: e.target.checked ? "1" : "" })}> what chance would draw</label>` : nothing}
        <button @click=${() => { help = !help; draw(); }} aria-expanded=${help}>?</button>
      </div>
      <p class="sx-count" role="status" data-shown=${shown.find}>${whole(census.alive.reduce((a, b) => a + b, 0))} latents${now.chance ? " (strangers)" : ""}, <b>${whole(census.links)}</b> links${now.chance ? nothing : html`; <b>${whole(shown.total)}</b> ${shown.total === 1 ? "lineage" : "lineages"} listed`}${shown.find && !now.chance ? html` for “${shown.find}”` : nothing}</p>
      <nav class="sx-tabs" aria-label="Views">${Object.entries(VIEWS).map(([k, name]) => html`<button aria-current=${now.view === k ? "page" : "false"} @click=${() => state.set({ view: k })}>${name}</button>`)}
        <span class="sx-space"></span>
        ${own ? html`<button @click=${() => act.pin(own)} aria-pressed=${now.pins.includes(own)}>${now.pins.includes(own) ? "unpin" : "pin"}</button>` : nothing}
        ${memory ? nothing : html`<span class="sx-soft" role="status">${note}</span><button @click=${link}>copy link</button>`}
        <button @click=${async () => save("lineages.csv", csvFormat(await table(now)), "text/csv")}>CSV</button>
        <button @click=${async () => save("lineages.json", JSON.stringify({ meta, rate: now.rate, lineages: await table(now) }, null, 1), "application/json")}>JSON</button>
        <button @click=${() => picture(element, "svg")}>SVG</button><button @click=${() => picture(element, "png")}>PNG</button></nav>
      ${shown.pinned.length ? html`<p class="sx-pins">Pinned: ${shown.pinned.map(({ name, label }) => html`<button @click=${() => act.focus(name)}>${name} ${label}</button> `)}</p>` : nothing}
      ${help ? html`<dl class="sx-help">${HELP.filter(([k]) => !memory || k !== "l").map(([k, does]) => html`<dt><kbd>${k}</kbd></dt><dd>${does}</dd>`)}</dl>` : nothing}
      <div class="sx-main sx-view-${now.view}" tabindex="-1" aria-busy=${source.waits}>${view}</div>
      ${now.view === "summary" || now.chance || lost ? nothing : cards(shown)}
      <footer class="sx-soft">${meta.left_out || nothing}</footer>`, element);
    watch(shown.total);
    told(shown.focus === undefined || now.chance ? null : selection(shown));
  }

  function selection({ atlas, threads, focus }) {
    const t = threads.of[focus], latent = (m) => [atlas.layers[atlas.lineages.layer[m]], atlas.lineages.latent[m]];
    return { latent: latent(focus), lineage: threads.lineage[t], members: Array.from({ length: threads.end[t] - threads.start[t] }, (_, i) => latent(threads.start[t] + i)) };
  }

  /** The list needs its scroller: the virtualizer begins when the view is there and ends when it goes. */
  function watch(total) {
    const scroller = element.querySelector(".sx-view-list");
    if (scroller && !virtual) {
      virtual = windowed(() => element.querySelector(".sx-view-list"), total, draw);
      dispose = virtual._didMount();
      virtual._willUpdate();
      draw();
    } else if (!scroller && virtual) { dispose?.(); virtual = null; } else virtual?._willUpdate();
  }

  const target = memory ? element : document;
  if (memory) element.tabIndex = 0;
  target.addEventListener("keydown", keys);
  const resized = new ResizeObserver(draw);
  resized.observe(element);
  state.subscribe(draw);
  paint();
  return () => { target.removeEventListener("keydown", keys); resized.disconnect(); dispose?.(); };
}

/** Cards of a layer as the file packs them: tokens by number, activations in 255 steps of the largest. */
function cardsOf(packed) {
  const word = (id) => packed.vocabulary[id], pairs = (list) => list.map(([id, v]) => [word(id), v]);
  return new Map(packed.cards.map((c) => [c.latent, {
    ...c, tokens: pairs(c.tokens), promoted: pairs(c.promoted), suppressed: pairs(c.suppressed),
    contexts: c.contexts.map((t) => ({ quantile: t.quantile, tokens: t.tokens.map(word), activations: t.activations.map((a) => (a / 255) * c.largest) })),
  }]));
}

/** A function that gives single cards from packets of layers, each unpacked once; `packet` gives its text or nothing. */
function fromPackets(packet) {
  const layers = new Map();
  return async (x, latent) => {
    if (!layers.has(x)) layers.set(x, packet(x) ? unpack(packet(x)).then(cardsOf) : Promise.resolve(null));
    return (await layers.get(x))?.get(latent) ?? null;
  };
}

async function page() {
  const root = document.getElementById("saematch-explorer");
  if (!root) return;
  const { served } = root.dataset;
  try {
    const source = served ? new Served(JSON.parse(served), cardsOf) : new Local(new Atlas(await unpack(document.getElementById("atlas").textContent), fromPackets((x) => document.getElementById(`cards-${x}`)?.textContent)));
    root.textContent = "";
    mount(root, source);
  } catch (error) {
    root.textContent = served ? `This page cannot be shown: ${error.message}.` : `This file is damaged: ${error.message}. Make it again with saematch explore.`;
    root.setAttribute("role", "alert");
  }
}

/** The same view as a Jupyter widget (anywidget): what is selected is a trait. */
export default {
  async render({ model, el }) {
    const raw = await unpack(model.get("atlas")), packed = model.get("cards");
    let last = "";
    return mount(el, new Local(new Atlas(raw, fromPackets((x) => packed[x]))), { memory: true, told: (s) => { const text = JSON.stringify(s); if (text === last) return; last = text; model.set("selected", s); model.save_changes(); } });
  },
};

if (typeof document !== "undefined") page();
