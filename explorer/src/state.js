// The state of the view, kept in the address: copy the link, get the view; back and forward work.

export const DEFAULTS = {
  view: "lanes", focus: "", rate: "", chance: "", find: "", event: "", least: "2", sort: "length", down: "1", pins: "",
};

/** The address bar as a store; `memory` keeps the state beside it (a notebook has no address of its own). */
export function store(memory = false) {
  let state = { ...DEFAULTS, ...(memory ? {} : read()) };
  const listeners = new Set();
  const tell = () => listeners.forEach((f) => f(state));
  if (!memory) window.addEventListener("popstate", () => { state = { ...DEFAULTS, ...read() }; tell(); });
  if (!memory) window.addEventListener("hashchange", () => { state = { ...DEFAULTS, ...read() }; tell(); });
  return {
    get: () => state,
    subscribe: (f) => listeners.add(f),
    /** Change some fields; `keep` replaces the entry of the history (a slider on its way) instead of adding one. */
    set(change, keep = false) {
      const next = { ...state, ...change };
      if (Object.keys(next).every((k) => next[k] === state[k])) return;
      state = next;
      if (!memory) history[keep ? "replaceState" : "pushState"](null, "", write(state));
      tell();
    },
  };
}

function read() {
  const asked = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries([...asked].filter(([k]) => k in DEFAULTS));
}

function write(state) {
  const changed = Object.entries(state).filter(([k, v]) => v !== DEFAULTS[k] && v !== "");
  return `#${String(new URLSearchParams(changed)).replaceAll("%2F", "/").replaceAll("%2C", ",")}`; // as people write them
}
