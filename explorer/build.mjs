// Bundle the explorer into one ES module and one style sheet, which the Python package ships.
import { build } from "esbuild";

const out = process.argv[2] ?? "../saematch";
await build({
  entryPoints: { explorer: "src/main.js" },
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  charset: "ascii",
  loader: { ".css": "css" },
  outdir: out,
});
