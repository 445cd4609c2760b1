import assert from "node:assert/strict";
import test from "node:test";
import { LabelSheet } from "../../helpers/widgets/js/label_sheet.js";
import { Paging } from "../../helpers/widgets/js/paging.js";

const ORDER = Int32Array.from([50, 51, 52, 53, 54, 55, 56]);

function open(perPage = 3, canSelect = true) {
  return new Paging({ order: ORDER }, perPage, { canSelect });
}

test("pages follow each other and stop at the ends", () => {
  const paging = open();
  assert.equal(paging.pages, 3);
  paging.turnTo(2);
  assert.deepEqual(paging.patterns, [56]);
  paging.turnTo(9);
  assert.equal(paging.page, 2);
  paging.turnTo(-1);
  assert.deepEqual(paging.patterns, [50, 51, 52]);
});

test("an empty list has one empty page", () => {
  const paging = new Paging({ order: new Int32Array(0) }, 3, { canSelect: true });
  assert.equal(paging.pages, 1);
  paging.moveCursor(1);
  assert.deepEqual([paging.patterns, paging.targets], [[], []]);
});

test("the cursor walks onto the next page, and not beyond the last pattern", () => {
  const paging = open();
  paging.moveCursor(2);
  paging.moveCursor(1);
  assert.deepEqual([paging.page, paging.targets], [1, [53]]);
  paging.moveCursor(100);
  assert.deepEqual(paging.targets, [56]);
});

test("a page of another size still shows the first pattern", () => {
  const paging = open();
  paging.turnTo(1);
  paging.resize(2);
  assert.deepEqual(paging.patterns, [52, 53]);
});

test("clicks select one by one, with Shift a range, either way", () => {
  const paging = open(6);
  paging.click(4, { shiftKey: false });
  paging.click(2, { shiftKey: true });
  assert.deepEqual(paging.targets, [52, 53, 54]);
  paging.click(3, { shiftKey: false });
  assert.deepEqual(paging.targets, [52, 54]);
});

test("turning the page drops the selection; a range stays on its page", () => {
  const paging = open();
  paging.click(1, { shiftKey: false });
  paging.moveCursor(3, true);
  assert.equal(paging.page, 1);
  assert.deepEqual(paging.targets, [53, 54]);
  paging.turnTo(0);
  assert.equal(paging.selected.size, 0);
});

test("who only looks selects nothing", () => {
  const paging = open(3, false);
  paging.click(1, { shiftKey: false });
  assert.equal(paging.selected.size, 0);
});

function sheet({ codes, repeats }) {
  const labels = new LabelSheet(["single", "blank"], "anna");
  labels.load(Int32Array.from([2, 0, 1, 2]), Uint8Array.from(codes), repeats);
  return labels;
}

test("the next unlabelled pattern is looked for beyond the end, from the start", () => {
  const labels = sheet({ codes: [0, 1, 2] });
  assert.equal(labels.nextUnlabelled(1), 1);
  labels.set(0, "single");
  assert.equal(labels.nextUnlabelled(1), null);
});

test("a pattern that comes back is blind until it is labelled again", () => {
  const labels = sheet({ codes: [1, 1, 2], repeats: Uint8Array.from([0, 0, 0, 1]) });
  assert.deepEqual([labels.wordAt(0), labels.wordAt(3)], ["blank", ""]);
  assert.equal(labels.nextUnlabelled(-1), 3);
  labels.noteRepeats([2], true);
  assert.equal(labels.wordAt(3), "blank");
});

test("a label that is put back is as it was", () => {
  const labels = sheet({ codes: [1, 0, 0] });
  labels.by.set(0, { bob: "single" });
  const before = labels.set(0, "blank");
  assert.equal(labels.describeLabellers(0), "by you; single by bob");
  labels.putBack(before);
  assert.equal(labels.describeLabellers(0), "by bob");
});
