// Bundle each widget into one script and one style sheet in ../static: `make bundle`.
// The first line of each holds a hash of all sources, which a test compares.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { build } from "esbuild";

const sources = readdirSync(".")
  .filter((name) => /\.(js|css)$/.test(name) || name === "package-lock.json")
  .sort();
const hash = createHash("sha256");
for (const name of sources) hash.update(`${name}\n${readFileSync(name, "utf8")}`);
const banner = `/* sources ${hash.digest("hex")}; made by "make bundle" */`;

await build({
  entryPoints: ["labeller.js", "gallery.js", "browser.js", "map_page.js"],
  outdir: "../static",
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  minify: true,
  banner: { js: banner, css: banner },
});
