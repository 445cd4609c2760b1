// Turning bytes into values and colours: scale, contrast, bad pixels, ticks.
// How a pattern became bytes is written in pixels.py.

export const LEVELS = 254;
export const BAD = 255;

/** What the display controls change, as it is at first. */
export function firstSettings() {
  return {
    linear: false,
    map: 0,
    stops: 0, // brightness: each stop halves the value that is drawn brightest
    floor: 0, // share of the scale, from below, that is drawn darkest
    showBad: true,
    heldTop: null, // a value while the scale is the same for every pattern
  };
}

/** The value that a byte stands for, in the unit of the pattern. */
export function decodeValue(code, { knee, top }) {
  return knee * Math.expm1((code / LEVELS) * Math.log1p(top / knee));
}

/** The value below which all but a thousandth of the good pixels lie. */
function nearlyTop(pixels) {
  const counts = new Uint32Array(256);
  for (const code of pixels.codes) counts[code] += 1;
  let left = 0.001 * (pixels.codes.length - counts[BAD]);
  let code = LEVELS;
  while (code > 1 && left >= counts[code]) left -= counts[code--];
  return decodeValue(code, pixels);
}

/** The value that this pattern is drawn brightest from. */
export function brightest(pixels, settings) {
  // On a linear scale a few bright pixels would leave all the others black.
  const top = settings.heldTop ?? (settings.linear ? nearlyTop(pixels) : pixels.top);
  return top * 2 ** -settings.stops;
}

/** The scale a pattern is drawn on: from a value to 0 (darkest) … 1, and back. */
export function makeScale(pixels, settings) {
  const top = brightest(pixels, settings);
  const { knee } = pixels;
  const { linear, floor } = settings;
  const share = linear
    ? (v) => v / top
    : (v) => Math.log1p(v / knee) / Math.log1p(top / knee);
  const back = linear
    ? (t) => t * top
    : (t) => knee * Math.expm1(t * Math.log1p(top / knee));
  const clamp = (t) => Math.min(1, Math.max(0, t));
  return {
    place: (value) => clamp((share(value) - floor) / (1 - floor)),
    value: (place) => back(floor + place * (1 - floor)),
  };
}

/** The colour of each byte as one 32-bit number, in the order that ImageData wants. */
export function makePalette(pixels, settings, tables) {
  const scale = makeScale(pixels, settings);
  const palette = new Uint32Array(256);
  for (let code = 0; code <= LEVELS; code += 1) {
    palette[code] = tableColour(
      tables,
      settings.map,
      Math.round(LEVELS * scale.place(decodeValue(code, pixels))),
    );
  }
  palette[BAD] = settings.showBad ? tableColour(tables, settings.map, BAD) : palette[0];
  return palette;
}

export function tableColour(tables, map, entry) {
  const at = 3 * (256 * map + entry);
  return (
    (0xff000000 | (tables[at + 2] << 16) | (tables[at + 1] << 8) | tables[at]) >>> 0
  );
}

/** Round values for the ticks of a scale: 0, the powers of ten, and the top. */
export function tickValues(scale, linear) {
  const [low, high] = [scale.value(0), scale.value(1)];
  const values = linear ? [0.25, 0.5, 0.75].map((place) => scale.value(place)) : [];
  for (let power = -6; !linear && power < 12; power += 1) values.push(10 ** power);
  const inside = values.filter((value) => value > low && value < high);
  const roomy = inside.filter((value) => {
    const place = scale.place(value);
    return place > 0.07 && place < 0.93;
  });
  return [low, ...roomy, high];
}

/** Give each tick room: a list in rising order without those too near to the last. */
export function thinTicks(values, scale) {
  const kept = [];
  for (const value of values) {
    const crowded = kept.length && scale.place(value) - scale.place(kept.at(-1)) < 0.06;
    if (!crowded) kept.push(value);
  }
  return kept;
}
