import assert from "node:assert/strict";
import test from "node:test";
import { bindActions, Keys } from "../../helpers/widgets/js/keys.js";

/** A widget's root without a browser: it only remembers who listens. */
function makeKeys(actions = [], help = { isHidden: true, toggle() {} }) {
  const root = { addEventListener() {}, focus() {} };
  return new Keys(root, actions, help);
}

function press(keys, key, { target = "div", ...more } = {}) {
  const event = { key, ...more, stopped: false, prevented: false };
  event.stopPropagation = () => {
    event.stopped = true;
  };
  event.preventDefault = () => {
    event.prevented = true;
  };
  const [name, type] = target.split(" ");
  event.target = { type, matches: (names) => names.split(", ").includes(name) };
  keys.press(event);
  return event;
}

function counter(keys, repeats = false) {
  const action = { keys, repeats, n: 0 };
  action.run = () => {
    action.n += 1;
  };
  return action;
}

test("a key runs its action and does not reach the notebook", () => {
  const single = counter(["1", "s"]);
  const event = press(makeKeys([single]), "s");
  assert.equal(single.n, 1);
  assert.ok(event.stopped && event.prevented);
});

test("a key without meaning does nothing, and does not reach the notebook", () => {
  const event = press(makeKeys(), "d");
  assert.ok(event.stopped && !event.prevented);
});

for (const [key, more] of [
  ["s", { ctrlKey: true }],
  ["s", { metaKey: true }],
  ["s", { altKey: true }],
  ["Tab", {}],
  ["Escape", {}],
  ["F5", {}],
]) {
  test(`${Object.keys(more)} ${key} is left to notebook and browser`, () => {
    const single = counter(["s", "Tab", "Escape", "F5"]);
    assert.equal(press(makeKeys([single]), key, more).stopped, false);
    assert.equal(single.n, 0);
  });
}

test("a key held down repeats only what may be repeated", () => {
  const [label, move] = [counter(["s"]), counter(["ArrowLeft"], true)];
  const keys = makeKeys([label, move]);
  press(keys, "s", { repeat: true });
  press(keys, "ArrowLeft", { repeat: true });
  assert.deepEqual([label.n, move.n], [0, 1]);
});

test("Caps Lock is not Shift", () => {
  const [one, page] = [counter(["s"]), counter(["S"])];
  const keys = makeKeys([one, page]);
  press(keys, "S", { shiftKey: false });
  press(keys, "S", { shiftKey: true });
  assert.deepEqual([one.n, page.n], [1, 1]);
});

test("a field or button keeps the keys that mean something to it", () => {
  const action = counter(["ArrowLeft", "Enter", "s"]);
  const keys = makeKeys([action]);
  press(keys, "ArrowLeft", { target: "input range" });
  press(keys, "Enter", { target: "button button" });
  press(keys, "s", { target: "input number" });
  assert.equal(action.n, 0);
  press(keys, "s", { target: "input range" });
  press(keys, "s", { target: "button button" });
  assert.equal(action.n, 2);
});

test("Escape closes the help panel first", () => {
  const help = { isHidden: false, n: 0, toggle: () => (help.n += 1) };
  assert.ok(press(makeKeys([], help), "Escape").stopped);
  assert.equal(help.n, 1);
});

test("actions have keys and order of the table, and none without a key is taken", () => {
  const table = { undo: { keys: ["z"] }, skip: { keys: [" "] }, jump: { keys: ["g"] } };
  const runs = { skip() {}, undo() {} };
  const actions = bindActions(table, runs);
  assert.deepEqual(Object.keys(actions), ["undo", "skip"]);
  assert.deepEqual(actions.skip, { keys: [" "], run: runs.skip });
  assert.throws(() => bindActions(table, { last() {} }), /no key for last/);
});
