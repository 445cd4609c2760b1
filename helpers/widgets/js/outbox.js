// What was labelled and is not yet known to be stored. The kernel's end is label_service.py.

import { ASK_AGAIN_MS, randomName } from "./link.js";

const MOST_UNSAVED = 8;

/**
 * Events on their way to the store, sent again until the kernel acknowledges them.
 *
 * An item is one thing the person did: one label, one undo, or a whole page of labels.
 * `before` is what is needed to take its labels back if the store refuses them.
 */
export class Outbox {
  constructor(send, { onChange, onRefused }) {
    this.sendMessage = send;
    this.onChange = onChange;
    this.onRefused = onRefused;
    this.answeredAt = 0;
    this.beginSession();
  }

  beginSession() {
    this.session = randomName();
    this.nextSeq = 1;
    this.items = [];
  }

  get isFull() {
    return this.items.length >= MOST_UNSAVED;
  }

  get unsaved() {
    return this.items.reduce((sum, item) => sum + item.events.length, 0);
  }

  get events() {
    return this.items.flatMap((item) => item.events);
  }

  /** The patterns whose labels are on their way. */
  get patterns() {
    return new Set(this.events.map((event) => event.pattern));
  }

  add(events, before = null) {
    const numbered = events.map((event) => ({ ...event, seq: this.nextSeq++ }));
    const now = performance.now();
    this.items.push({ events: numbered, before, first: now, last: now });
    this.deliver(numbered);
    this.onChange();
  }

  deliver(events) {
    this.sendMessage({ kind: "events", session: this.session, events });
  }

  deliverAll() {
    const now = performance.now();
    for (const item of this.items) item.last = now;
    if (this.items.length) this.deliver(this.events);
  }

  acknowledge({ session, last }) {
    if (session !== this.session) return;
    this.answeredAt = performance.now();
    for (const item of this.items)
      item.events = item.events.filter(({ seq }) => seq > last);
    this.items = this.items.filter((item) => item.events.length);
    this.onChange();
  }

  resend({ session }) {
    if (session === this.session) this.deliverAll();
  }

  /** The store could not write: hand back everything that it does not hold. */
  refuse(content) {
    if (content.session !== this.session) return;
    this.acknowledge(content);
    const lost = this.items;
    this.beginSession();
    this.onRefused(lost, content.message);
    this.onChange();
  }

  tick(now) {
    if (this.items.some((item) => now - item.last > ASK_AGAIN_MS)) this.deliverAll();
  }

  silentFor(now) {
    if (!this.items.length) return 0;
    return now - Math.max(this.answeredAt, this.items[0].first);
  }
}

/** Ask before the page is left while something is unsaved; returns how to stop that. */
export function askBeforeLeaving(outbox) {
  const ask = (event) => {
    if (outbox.unsaved) event.preventDefault();
  };
  window.addEventListener("beforeunload", ask);
  return () => window.removeEventListener("beforeunload", ask);
}
