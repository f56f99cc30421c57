// What a person takes along: tables, pictures, the link to the view.

export function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const a = Object.assign(document.createElement("a"), { href: url, download: name });
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** The drawing in view as SVG, or as PNG at twice its size. */
export async function picture(element, kind) {
  const drawing = element.querySelector(".sx-main svg");
  if (!drawing) return;
  const copy = drawing.cloneNode(true), style = getComputedStyle(drawing);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("color", style.color);
  const [w, h] = [drawing.clientWidth || drawing.width.baseVal.value, drawing.clientHeight || drawing.height.baseVal.value];
  copy.setAttribute("width", w);
  copy.setAttribute("height", h);
  copy.insertAdjacentHTML("afterbegin", `<rect width="100%" height="100%" fill="${getComputedStyle(element).backgroundColor}"/>`);
  const text = new XMLSerializer().serializeToString(copy);
  if (kind === "svg") return save("lineage.svg", text, "image/svg+xml");
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * w, height: 2 * h });
  canvas.getContext("2d").drawImage(image, 0, 0, 2 * w, 2 * h);
  canvas.toBlob((blob) => save("lineage.png", blob, "image/png"));
}

/** Text to the clipboard; whether it is there. Where the browser forbids its own way, a field is selected and copied. */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = Object.assign(document.createElement("textarea"), { value: text }), before = document.activeElement;
    field.style.position = "fixed"; // the page does not scroll to it
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    before?.focus?.();
    return done;
  }
}
