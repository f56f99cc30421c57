// The explorer of lineages: one view, mounted in a page of its own or in a notebook.
import { html, render, nothing } from "lit-html";
import { csvFormat } from "d3-dsv";
import { Atlas, EVENTS, unpack } from "./atlas.js";
import { DEFAULTS, store } from "./state.js";
import { lanes, strangers } from "./lanes.js";
import { card } from "./card.js";
import { list, order, windowed } from "./list.js";
import { summary } from "./summary.js";
import { search } from "./search.js";
import { save, picture } from "./save.js";
import "./style.css";

const VIEWS = { lanes: "Lanes", list: "List", summary: "Summary" };
const HELP = [["← →", "along the lineage"], ["↑ ↓", "through the list"], ["/", "search"], ["1 2 3", "lanes, list, summary"], ["c", "what chance draws"], ["p", "pin the lineage"], ["?", "this help"], ["Esc", "close, leave the search"]];

/** Draw the explorer of an atlas into an element. `memory` keeps the state out of the address; `told` hears what is selected. */
export function mount(element, atlas, { memory = false, told = () => {} } = {}) {
  const state = store(memory);
  element.classList.add("sx");
  let help = false, virtual = null, dispose = null, counted = null, all = [], scheduled = false, found = { text: null };
  const contents = new Map();

  function read() {
    const s = state.get(), most = atlas.meta.rate;
    const rate = s.rate === "" || !(Number(s.rate) >= 0) ? most : Math.min(most, Number(s.rate));
    const chance = s.chance === "1" && Boolean(atlas.chance);
    const threads = atlas.threads(rate, chance);
    const [layer, latent] = s.focus.split("/").map(Number);
    const focus = chance ? undefined : s.focus ? atlas.member(atlas.layerIndex(layer), latent) : undefined;
    return { ...s, rate, chance, threads, focus, lost: Boolean(s.focus) && focus === undefined && !chance, least: Math.max(1, Number(s.least) || 1), down: s.down === "1" };
  }

  function hits(now) {
    if (!now.find || now.chance) return null;
    if (found.text !== now.find) found = { text: now.find, members: search(atlas, now.find) };
    const out = new Uint8Array(now.threads.count), { members } = found, { of } = now.threads;
    for (let m = 0; m < members.length; m++) if (members[m] > out[of[m]]) out[of[m]] = members[m];
    return out;
  }

  const act = {
    focus(m, keep) { state.set({ focus: atlas.name(m) }, keep); },
    sort(key) {
      const s = state.get();
      state.set(s.sort === key ? { down: s.down === "1" ? "0" : "1" } : { sort: key, down: key === "label" || key === "q" || key === "p" || key === "first" ? "0" : "1" });
    },
    pin(name) {
      const pins = new Set(state.get().pins.split(",").filter(Boolean));
      if (!pins.delete(name)) pins.add(name);
      state.set({ pins: [...pins].join(",") });
    },
  };

  /** The card of a member: undefined while it is read, null where there is none. */
  function content(m) {
    if (!contents.has(m)) {
      contents.set(m, undefined);
      const x = atlas.lineages.layer[m], latent = atlas.lineages.latent[m];
      atlas.card(x, latent).then((found) => contents.set(m, found), (error) => contents.set(m, error)).then(draw);
    }
    return contents.get(m);
  }

  function cards(now) {
    if (now.focus === undefined) return nothing;
    const t = now.threads.of[now.focus], m = now.focus;
    const partner = m + 1 < now.threads.end[t] ? m + 1 : m > now.threads.start[t] ? m - 1 : null;
    return html`<div class="sx-cards">${card(atlas, m, content(m), "selected")}${partner === null
      ? html`<section class="sx-card"><p class="sx-empty">Alone at this rate: no partner in another layer.</p></section>`
      : card(atlas, partner, content(partner), partner > m ? "next in the lineage" : "before it in the lineage")}</div>`;
  }

  function step(by) {
    const now = read();
    if (now.focus === undefined) return;
    const t = now.threads.of[now.focus], m = now.focus + by;
    if (m >= now.threads.start[t] && m < now.threads.end[t]) act.focus(m, true);
  }
  function walk(by) {
    const now = read();
    if (!all.length || now.chance) return;
    const i = now.focus === undefined ? -1 : all.indexOf(now.threads.of[now.focus]);
    act.focus(atlas.columns(now.threads).member[all[Math.max(0, Math.min(all.length - 1, i + by))]], true);
  }

  function keys(event) {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.key === "Escape") { help = false; if (typing) event.target.blur(); draw(); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const does = {
      ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => walk(1), ArrowUp: () => walk(-1),
      "/": () => element.querySelector(".sx-find").focus(), "?": () => { help = !help; draw(); },
      1: () => state.set({ view: "lanes" }), 2: () => state.set({ view: "list" }), 3: () => state.set({ view: "summary" }),
      c: () => atlas.chance && state.set({ chance: state.get().chance === "1" ? "" : "1" }),
      p: () => { const now = read(); if (now.focus !== undefined) act.pin(atlas.name(now.focus)); },
    }[event.key];
    if (does) { event.preventDefault(); does(); }
  }

  function table(now) {
    const name = (m) => atlas.name(m);
    const rest = (v) => (Number.isNaN(v) ? null : v);
    return all.map((t) => atlas.row(now.threads, t)).map((r) => ({ label: r.label, first: r.first, last: r.last, length: r.length, weakest: rest(r.weakest), q: rest(r.q), p: rest(r.p), frequency: rest(r.frequency), events: r.events.join(" "),
      members: Array.from({ length: r.length }, (_, i) => name(now.threads.start[r.t] + i)).join(" ") }));
  }

  function draw() { if (!scheduled) { scheduled = true; requestAnimationFrame(() => { scheduled = false; paint(); }); } }

  /** The state, and with it the lineages that pass its filters, in order. */
  function listed() {
    const now = read(), key = [now.rate, now.chance, now.find, now.event, now.least, now.sort, now.down].join();
    if (key !== counted) {
      counted = key;
      all = now.chance ? [] : order(atlas, now.threads, now, hits(now));
      virtual?.setOptions({ ...virtual.options, count: all.length });
    }
    return now;
  }

  function paint() {
    const now = listed(), most = atlas.meta.rate, lineages = now.chance ? atlas.chance : atlas.lineages;
    const pins = now.pins.split(",").filter(Boolean), own = now.focus !== undefined && atlas.name(now.focus);
    const census = now.threads.census, draws = now.chance ? atlas.meta.chance_draws || 1 : 1;
    const view = now.lost ? html`<p class="sx-empty">This file has no latent ${now.focus ?? state.get().focus}. It holds the layers ${atlas.layers.join(", ")}.</p>` : {
      lanes: () => (now.chance ? strangers(atlas, { ...now, width: element.clientWidth - 24 }) : lanes(atlas, { ...now, width: element.clientWidth - 24 }, act)),
      list: () => (now.chance ? html`<p class="sx-empty">Chance has no labels: see the lanes and the summary, or switch chance off.</p>` : list(atlas, now.threads, all, virtual, { ...now, current: now.focus === undefined ? -1 : now.threads.of[now.focus] }, act)),
      summary: () => summary(atlas, now.rate),
    }[now.view in VIEWS ? now.view : "lanes"]();
    render(html`
      <header class="sx-head"><h1>${atlas.meta.title}</h1><p class="sx-soft">${atlas.meta.about}</p></header>
      <div class="sx-bar" role="search">
        <label>Search <input class="sx-find" type="search" placeholder="token, label, 14/1091, layer 16" .value=${state.get().find}
          @input=${(e) => state.set({ find: e.target.value, ...(now.view === "summary" ? { view: "list" } : {}) }, true)}></label>
        <label>q ≤ <input class="sx-rate" type="range" min="0" max=${most} step=${most / 50} .value=${String(now.rate)} aria-valuetext="false discovery rate at most ${now.rate}"
          @input=${(e) => state.set({ rate: Number(e.target.value) === most ? "" : e.target.value }, true)}> <output>${now.rate.toPrecision(2)}</output></label>
        <label>at least <input class="sx-least" type="number" min="1" max=${atlas.layers.length} .value=${String(now.least)} @input=${(e) => state.set({ least: e.target.value }, true)}> layers</label>
        <label>with <select @change=${(e) => state.set({ event: e.target.value })}><option value="">any event</option>${Object.entries(EVENTS).map(([k, v]) => html`<option value=${k} ?selected=${k === now.event}>${v.glyph} ${v.text}</option>`)}</select></label>
        ${atlas.chance ? html`<label class="sx-chance"><input type="checkbox" role="switch" .checked=${now.chance} @change=${(e) => state.set({ chance: e.target.checked ? "1" : "" })}> what chance would draw</label>` : nothing}
        <button @click=${() => { help = !help; draw(); }} aria-expanded=${help}>?</button>
      </div>
      <p class="sx-count" role="status">${Math.round((lineages.layer.length + lineages.alone.reduce((a, b) => a + b, 0)) / draws).toLocaleString("en")} latents${now.chance ? " (strangers)" : ""}, <b>${Math.round(census.links / draws).toLocaleString("en")}</b> links${now.chance ? nothing : html`; <b>${all.length.toLocaleString("en")}</b> lineages listed`}${now.find && !now.chance ? html` for “${now.find}”` : nothing}</p>
      <nav class="sx-tabs" aria-label="Views">${Object.entries(VIEWS).map(([k, name]) => html`<button aria-current=${now.view === k ? "page" : "false"} @click=${() => state.set({ view: k })}>${name}</button>`)}
        <span class="sx-space"></span>
        ${own ? html`<button @click=${() => act.pin(own)} aria-pressed=${pins.includes(own)}>${pins.includes(own) ? "unpin" : "pin"}</button>` : nothing}
        <button @click=${() => save("lineages.csv", csvFormat(table(now)), "text/csv")}>CSV</button>
        <button @click=${() => save("lineages.json", JSON.stringify({ meta: atlas.meta, rate: now.rate, lineages: table(now) }, null, 1), "application/json")}>JSON</button>
        <button @click=${() => picture(element, "svg")}>SVG</button><button @click=${() => picture(element, "png")}>PNG</button></nav>
      ${pins.length ? html`<p class="sx-pins">Pinned: ${pins.map((name) => { const [l, i] = name.split("/").map(Number), m = atlas.member(atlas.layerIndex(l), i); return m === undefined ? nothing : html`<button @click=${() => act.focus(m)}>${name} ${atlas.label(m)}</button> `; })}</p>` : nothing}
      ${help ? html`<dl class="sx-help">${HELP.map(([k, does]) => html`<dt><kbd>${k}</kbd></dt><dd>${does}</dd>`)}</dl>` : nothing}
      <div class="sx-main sx-view-${now.view}" tabindex="-1">${view}</div>
      ${now.view === "summary" || now.chance || now.lost ? nothing : cards(now)}
      <footer class="sx-soft">${atlas.meta.left_out || nothing}</footer>`, element);
    watch(now);
    told(now.focus === undefined ? null : selection(now));
  }

  function selection(now) {
    const t = now.threads.of[now.focus], members = [];
    for (let m = now.threads.start[t]; m < now.threads.end[t]; m++) members.push([atlas.layers[atlas.lineages.layer[m]], atlas.lineages.latent[m]]);
    return { latent: [atlas.layers[atlas.lineages.layer[now.focus]], atlas.lineages.latent[now.focus]], lineage: now.threads.lineage[t], members };
  }

  /** The list needs its scroller: the virtualizer begins when the view is there and ends when it goes. */
  function watch(now) {
    const scroller = element.querySelector(".sx-view-list");
    if (scroller && !virtual) {
      virtual = windowed(() => element.querySelector(".sx-view-list"), all.length, draw);
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
  if (!state.get().focus && !memory) {
    const now = listed(), [first] = all;
    if (first !== undefined && !now.chance) state.set({ focus: atlas.name(atlas.columns(now.threads).member[first]) }, true);
  }
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

/** What a local server of `saematch explore --serve` answers; null for what it does not have. */
async function ask(path) {
  const answer = await fetch(path).catch(() => { throw new Error("the local server does not answer; start saematch explore --serve again"); });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`the local server says: ${await answer.text()}`);
  return answer.json();
}

async function page() {
  const root = document.getElementById("saematch-explorer");
  if (!root) return;
  const served = "served" in root.dataset;
  try {
    const raw = served ? await ask("atlas.json") : await unpack(document.getElementById("atlas").textContent);
    const card = served
      ? async (x, latent) => { const packed = await ask(`cards/${x}/${latent}.json`); return packed && cardsOf(packed).get(latent); }
      : fromPackets((x) => document.getElementById(`cards-${x}`)?.textContent);
    root.textContent = "";
    mount(root, new Atlas(raw, card));
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
    return mount(el, new Atlas(raw, fromPackets((x) => packed[x])), { memory: true, told: (s) => { const text = JSON.stringify(s); if (text === last) return; last = text; model.set("selected", s); model.save_changes(); } });
  },
};

if (typeof document !== "undefined") page();
