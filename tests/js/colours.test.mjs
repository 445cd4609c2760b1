import assert from "node:assert/strict";
import test from "node:test";
import {
  BAD,
  decodeValue,
  firstSettings,
  LEVELS,
  makePalette,
  makeScale,
} from "../../helpers/widgets/js/colours.js";

const PIXELS = { codes: Uint8Array.from([0, 100, LEVELS, BAD]), knee: 1, top: 1000 };
// Two colour maps: in the first, entry k is (k, 0, 0); in the second (0, k, 0).
const TABLES = new Uint8Array(2 * 3 * 256);
for (let k = 0; k < 256; k += 1) {
  TABLES[3 * k] = k;
  TABLES[3 * (256 + k) + 1] = k;
}

function palette(settings = {}) {
  return makePalette(PIXELS, { ...firstSettings(), ...settings }, TABLES);
}

test("codes run from 0 to the brightest pixel, even steps of the logarithm", () => {
  assert.equal(decodeValue(0, PIXELS), 0);
  assert.ok(Math.abs(decodeValue(LEVELS, PIXELS) - 1000) < 1e-9);
  const middle = Math.log1p(decodeValue(LEVELS / 2, PIXELS)) / Math.log1p(1000);
  assert.ok(Math.abs(middle - 0.5) < 1e-12);
});

test("as first shown, each code has its own entry of the colour table", () => {
  assert.equal(palette()[0], 0xff000000);
  assert.equal(palette()[100], 0xff000064);
  assert.equal(palette({ map: 1 })[100], 0xff006400);
});

test("bad pixels have a colour of their own, or that of zero", () => {
  assert.equal(palette()[BAD], 0xff0000ff);
  assert.equal(palette({ showBad: false })[BAD], palette()[0]);
});

test("brighter, darker and floor move the scale", () => {
  assert.ok(palette({ stops: 1 })[100] > palette()[100]);
  assert.ok(palette({ stops: -1 })[100] < palette()[100]);
  assert.ok(palette({ floor: 0.2 })[100] < palette()[100]);
});

test("a held scale is the same for every pattern", () => {
  const settings = { ...firstSettings(), heldTop: 50 };
  const scale = makeScale({ ...PIXELS, top: 7 }, settings);
  assert.equal(scale.place(50), 1);
  assert.equal(makeScale(PIXELS, settings).place(20), scale.place(20));
});

for (const linear of [false, true]) {
  test(`place and value undo each other, linear: ${linear}`, () => {
    const scale = makeScale(PIXELS, { ...firstSettings(), linear, floor: 0.1 });
    for (const place of [0, 0.3, 1])
      assert.ok(Math.abs(scale.place(scale.value(place)) - place) < 1e-9);
  });
}
