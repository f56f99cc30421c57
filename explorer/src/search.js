// Search by token, label, id or layer: "is are was", "14/1091", "layer 16 is", "1091".

const escape = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** A word of a label: whole, or its beginning where three letters or more are given. */
const pattern = (word) => new RegExp(`(?:^|[\\s,;·"“”'|])${escape(word)}${word.length > 2 ? "" : "(?=$|[\\s,;·\"“”'|])"}`, "iu");

/** How many words of the query each member matches: one number for each member. */
export function search(atlas, query) {
  const text = query.trim(), { layer, latent, label, labels } = atlas.lineages, out = new Uint8Array(layer.length);
  const id = text.match(/^(\d+)\s*[/:]\s*(\d+)$/);
  if (id) {
    const m = atlas.member(atlas.layerIndex(Number(id[1])), Number(id[2]));
    if (m !== undefined) out[m] = 1;
    return out;
  }
  const asked = text.match(/(?:^|\s)layer[: ]?(\d+)/i), x = asked ? atlas.layerIndex(Number(asked[1])) : null;
  const words = text.replace(/(?:^|\s)layer[: ]?\d+/i, "").split(/\s+/).filter(Boolean).slice(0, 99);
  const tests = words.map(pattern), numbers = words.map((w) => (/^\d+$/.test(w) ? Number(w) : -1));
  // each label once: which of the words it has, and how many
  const hit = tests.map((r) => Uint8Array.from(labels, (l) => r.test(l))), count = new Uint8Array(labels.length);
  for (const h of hit) for (let i = 0; i < h.length; i++) count[i] += h[i];
  const only = numbers.some((n) => n >= 0);
  for (let m = 0; m < layer.length; m++) {
    if (x !== null && layer[m] !== x) continue;
    let n = words.length ? count[label[m]] ?? 0 : 1;
    if (only) for (let i = 0; i < numbers.length; i++) if (latent[m] === numbers[i] && !hit[i][label[m]]) n++;
    out[m] = n;
  }
  return out;
}
