// A pattern divided by its mean at each distance from the beam: fringes stand out.
// The same as `flatten_patterns` in helpers/physics, on bytes.

import { BAD, decodeValue, LEVELS } from "./colours.js";

const KNEE = 0.5;
const TOP = 4; // times the mean; what is brighter is drawn as this

const flattened = new WeakMap();

/** `middle` is the beam's place as shares of width and height. */
export function flatten(pixels, middle) {
  if (!flattened.has(pixels)) flattened.set(pixels, divide(pixels, middle));
  return flattened.get(pixels);
}

function divide(pixels, [x, y]) {
  const { codes, rows, columns, knee } = pixels;
  const values = Float64Array.from({ length: 256 }, (_, code) =>
    decodeValue(code, pixels),
  );
  const ring = Int32Array.from(codes, (_, at) => {
    const down = Math.floor(at / columns) + 0.5 - y * rows;
    const right = (at % columns) + 0.5 - x * columns;
    return Math.round(Math.hypot(down, right));
  });
  const nRings = ring.reduce((most, r) => Math.max(most, r), 0) + 1;
  const sums = new Float64Array(nRings);
  const counts = new Uint32Array(nRings);
  codes.forEach((code, at) => {
    if (code === BAD) return;
    sums[ring[at]] += values[code];
    counts[ring[at]] += 1;
  });
  const flat = Uint8Array.from(codes, (code, at) => {
    if (code === BAD) return BAD;
    // far out, where there is hardly any light, noise is not to be blown up
    const mean = sums[ring[at]] / counts[ring[at]];
    return encode((values[code] + knee) / (mean + knee));
  });
  return { ...pixels, codes: flat, knee: KNEE, top: TOP };
}

function encode(value) {
  const share = Math.log1p(Math.min(value, TOP) / KNEE) / Math.log1p(TOP / KNEE);
  return Math.round(LEVELS * share);
}
