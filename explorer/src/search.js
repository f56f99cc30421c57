// Search by token, label, id or layer: "is are was", "14/1091", "layer 16 is", "1091".

const escape = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** A word of a label: whole, or its beginning where three letters or more are given. */
const pattern = (word) => new RegExp(`(?:^|[\\s,;·"“”'|])${escape(word)}${word.length > 2 ? "" : "(?=$|[\\s,;·\"“”'|])"}`, "iu");

/** How many words of the query each member matches: a map from member to count, for members that match at least one. */
export function search(atlas, query) {
  const text = query.trim(), out = new Map(), { layer, latent, label } = atlas.lineages;
  const id = text.match(/^(\d+)\s*[/:]\s*(\d+)$/);
  if (id) {
    const m = atlas.member(atlas.layerIndex(Number(id[1])), Number(id[2]));
    return m === undefined ? out : out.set(m, 1);
  }
  const asked = text.match(/(?:^|\s)layer[: ]?(\d+)/i), x = asked ? atlas.layerIndex(Number(asked[1])) : null;
  const words = text.replace(/(?:^|\s)layer[: ]?\d+/i, "").split(/\s+/).filter(Boolean), tests = words.map(pattern);
  for (let m = 0; m < layer.length; m++) {
    if (x !== null && layer[m] !== x) continue;
    const n = tests.filter((r, i) => r.test(label[m] ?? "") || words[i] === String(latent[m])).length;
    if (n || !words.length) out.set(m, n);
  }
  return out;
}
