// Talking with the kernel: who is there, and patterns fetched before they are needed.

export const ASK_AGAIN_MS = 1000; // messages vanish when a websocket reconnects
const SILENT_MS = 2000; // after this long without an answer, say so
const TICK_MS = 200;

/** A random name for a session; `crypto.randomUUID` is missing on plain http. */
export function randomName() {
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  const bytes = Array.from({ length: 16 }, () => Math.floor(256 * Math.random()));
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The bytes of a message or trait, whichever view the transport made of them. */
export function asBytes(buffer) {
  if (buffer instanceof ArrayBuffer) return new Uint8Array(buffer);
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

export function asInt32(buffer) {
  return new Int32Array(asBytes(buffer).slice().buffer);
}

export function asFloat32(buffer) {
  return new Float32Array(asBytes(buffer).slice().buffer);
}

/** The bytes of recent and coming patterns. */
export class PatternCache {
  constructor(request, capacity = 64) {
    this.request = request;
    this.capacity = capacity;
    this.kept = new Map(); // pattern -> pixels, the longest unused first
    this.asked = new Map(); // pattern -> when it was first and last asked for
  }

  get(pattern) {
    const pixels = this.kept.get(pattern);
    if (pixels) {
      this.kept.delete(pattern);
      this.kept.set(pattern, pixels);
    }
    return pixels;
  }

  /** Ask for what is neither here nor on its way. */
  want(patterns) {
    const missing = patterns.filter(
      (each) => !this.kept.has(each) && !this.asked.has(each),
    );
    const now = performance.now();
    for (const pattern of missing) this.asked.set(pattern, { first: now, last: now });
    if (missing.length) this.request(missing);
  }

  put(pattern, pixels) {
    this.asked.delete(pattern);
    this.kept.set(pattern, pixels);
    if (this.kept.size > this.capacity) this.kept.delete(this.kept.keys().next().value);
  }

  /** What others say of a pattern came with its bytes, and may be another by now. */
  forget() {
    this.kept.clear();
    this.asked.clear();
  }

  /** Give up what is not wanted any more, so that it is not asked for again. */
  wantOnly(patterns) {
    const wanted = new Set(patterns);
    for (const pattern of this.asked.keys())
      if (!wanted.has(pattern)) this.asked.delete(pattern);
    this.want(patterns);
  }

  tick(now) {
    const late = [...this.asked].filter(([, asked]) => now - asked.last > ASK_AGAIN_MS);
    for (const [, asked] of late) asked.last = now;
    if (late.length) this.request(late.map(([pattern]) => pattern));
  }

  silentFor(now) {
    return Math.max(0, ...[...this.asked.values()].map((asked) => now - asked.first));
  }
}

/**
 * One view's line to the kernel.
 *
 * It says hello until the kernel answers with the state, and keeps `root.dataset.state`:
 * "loading", "ready", or "dead" while something has gone unanswered for two seconds.
 */
export class Link {
  constructor(model, root, { greeting, handlers, onStateChange, watched = [] }) {
    this.model = model;
    this.root = root;
    this.view = randomName();
    this.greeting = greeting;
    this.handlers = handlers;
    this.onStateChange = onStateChange;
    this.watched = watched; // what may wait for answers: it has tick() and silentFor()
    this.helloAt = { first: null, last: null };
    this.receive = (content, buffers) => this.dispatch(content, buffers);
    model.on("msg:custom", this.receive);
    this.setState("loading");
    this.hello();
    this.timer = setInterval(() => this.tick(performance.now()), TICK_MS);
  }

  get isReady() {
    return this.root.dataset.state === "ready";
  }

  send(content) {
    try {
      this.model.send(content);
    } catch (error) {
      console.warn("single-hits: the kernel cannot be reached", error);
    }
  }

  hello() {
    const now = performance.now();
    this.helloAt = { first: this.helloAt.first ?? now, last: now };
    this.send({ kind: "hello", view: this.view, ...this.greeting() });
  }

  dispatch(content, buffers) {
    const isForAnotherView = content.kind === "state" && content.view !== this.view;
    if (isForAnotherView || !this.handlers[content.kind]) return;
    if (content.kind === "state") this.helloAt = { first: null, last: null };
    this.handlers[content.kind](content, buffers);
    this.watch(performance.now());
  }

  tick(now) {
    const { last } = this.helloAt;
    const wasDead = this.root.dataset.state === "dead";
    if (last !== null && now - last > ASK_AGAIN_MS) this.hello();
    // A kernel that comes back may have moved on: ask it for the state as well.
    else if (last === null && wasDead) this.hello();
    for (const each of this.watched) each.tick(now);
    this.watch(now);
  }

  watch(now) {
    const { first } = this.helloAt;
    const waits = this.watched.map((each) => each.silentFor(now));
    const silent = Math.max(first === null ? 0 : now - first, ...waits);
    if (silent > SILENT_MS) this.setState("dead");
    else if (first === null) this.setState("ready");
  }

  setState(name) {
    if (this.root.dataset.state === name) return;
    this.root.dataset.state = name;
    this.onStateChange(name);
  }

  close() {
    clearInterval(this.timer);
    this.model.off("msg:custom", this.receive);
  }
}
