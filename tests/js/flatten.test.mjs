import assert from "node:assert/strict";
import test from "node:test";
import { BAD, decodeValue, LEVELS } from "../../helpers/widgets/js/colours.js";
import { flatten } from "../../helpers/widgets/js/flatten.js";
import { LabelSheet } from "../../helpers/widgets/js/label_sheet.js";

const [ROWS, COLUMNS, TOP, KNEE] = [41, 31, 1000, 1];

function makePixels(value) {
  const codes = new Uint8Array(ROWS * COLUMNS);
  codes.forEach((_, at) => {
    const [down, right] = [Math.floor(at / COLUMNS) - 20, (at % COLUMNS) - 15];
    const share = Math.log1p(value(down, right) / KNEE) / Math.log1p(TOP / KNEE);
    codes[at] = Math.round(LEVELS * share);
  });
  codes[5] = BAD;
  return { codes, rows: ROWS, columns: COLUMNS, knee: KNEE, top: TOP };
}

const MIDDLE = [15.5 / COLUMNS, 20.5 / ROWS];

test("rings become flat, and bad pixels stay bad", () => {
  const rings = makePixels((down, right) => 900 / (1 + Math.hypot(down, right)));
  const flat = flatten(rings, MIDDLE);
  assert.equal(flat.codes[5], BAD);
  const values = [...flat.codes].filter((code) => code !== BAD);
  for (const code of values) {
    assert.ok(Math.abs(decodeValue(code, flat) - 1) < 0.25);
  }
  assert.equal(flatten(rings, MIDDLE), flat);
  assert.equal(rings.knee, KNEE);
});

test("fringes stand out as much far out as near the middle", () => {
  const fringes = makePixels(
    (down, right) =>
      (right % 4 === 0 ? 1.8 : 0.6) * (900 / (3 + Math.hypot(down, right))),
  );
  const flat = flatten(fringes, MIDDLE);
  const at = (row, column) => decodeValue(flat.codes[row * COLUMNS + column], flat);
  for (const row of [22, 30, 40]) assert.ok(at(row, 15) / at(row, 17) > 2);
});

test("what comes back blind is not counted twice", () => {
  const sheet = new LabelSheet(["single", "blank"], "me");
  assert.equal(sheet.countRepeats(), 0);
  const order = Int32Array.from([0, 1, 2, 0]);
  sheet.load(order, Uint8Array.from([1, 0, 2]), Uint8Array.from([0, 0, 0, 1]));
  assert.deepEqual(sheet.counts(), [1, 1, 1]);
  assert.equal(sheet.countRepeats(), 1);
});
