import assert from "node:assert/strict";
import test from "node:test";
import { Outbox } from "../../helpers/widgets/js/outbox.js";

function open() {
  const sent = [];
  const refused = [];
  const outbox = new Outbox((message) => sent.push(message), {
    onChange: () => {},
    onRefused: (items, message) => refused.push({ items, message }),
  });
  const label = (pattern) => outbox.add([{ kind: "label", pattern }]);
  return { outbox, sent, refused, label };
}

const seqs = (message) => message.events.map((event) => event.seq);

test("events are numbered from 1 and sent at once", () => {
  const { outbox, sent, label } = open();
  label(7);
  label(8);
  assert.deepEqual(sent.map(seqs), [[1], [2]]);
  assert.equal(outbox.unsaved, 2);
});

test("what is acknowledged is kept no longer, and only of this session", () => {
  const { outbox, label } = open();
  for (const pattern of [7, 8, 9]) label(pattern);
  outbox.acknowledge({ session: "another", last: 3 });
  assert.equal(outbox.unsaved, 3);
  outbox.acknowledge({ session: outbox.session, last: 2 });
  assert.deepEqual(
    outbox.events.map((event) => event.pattern),
    [9],
  );
});

test("after a second, all that is unacknowledged is sent again, in order", () => {
  const { outbox, sent, label } = open();
  label(7);
  label(8);
  outbox.tick(performance.now());
  assert.equal(sent.length, 2);
  outbox.tick(performance.now() + 1100);
  assert.deepEqual(seqs(sent[2]), [1, 2]);
});

test("the kernel can ask for all again", () => {
  const { outbox, sent, label } = open();
  label(7);
  outbox.resend({ session: outbox.session });
  assert.deepEqual(seqs(sent[1]), [1]);
});

test("eight things may be on their way, a page of labels being one", () => {
  const { outbox, label } = open();
  outbox.add([1, 2, 3].map((pattern) => ({ kind: "label", pattern })));
  for (let i = 0; i < 6; i += 1) label(i);
  assert.equal(outbox.isFull, false);
  label(6);
  assert.equal(outbox.isFull, true);
  assert.equal(outbox.unsaved, 10);
});

test("a refusal hands back what is not stored and begins a new session", () => {
  const { outbox, refused, sent, label } = open();
  const first = outbox.session;
  label(7);
  label(8);
  outbox.refuse({ session: first, last: 1, message: "the disk is full" });
  assert.equal(refused[0].message, "the disk is full");
  assert.deepEqual(
    refused[0].items.map((item) => item.events[0].pattern),
    [8],
  );
  assert.equal(outbox.unsaved, 0);
  label(9);
  assert.notEqual(sent.at(-1).session, first);
  assert.deepEqual(seqs(sent.at(-1)), [1]);
});

test("silence counts from the last answer", () => {
  const { outbox, label } = open();
  assert.equal(outbox.silentFor(1e9), 0);
  label(7);
  assert.ok(outbox.silentFor(performance.now() + 3000) >= 3000);
});
