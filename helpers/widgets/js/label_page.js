// What the labeller and the gallery share: labels that are shown at once, stored by the
// kernel, and taken back before everybody's eyes if they could not be stored.

import { Banner, choice, make, setText } from "./elements.js";
import { LabelSheet } from "./label_sheet.js";
import { Link, PatternCache } from "./link.js";
import { askBeforeLeaving, Outbox } from "./outbox.js";

/**
 * A page that labels. A subclass has a `look`, a `cache`, `describe()`, which shows the
 * labels as they are, `goBackTo(pattern, wasRepeat)`, which goes to where a label was
 * taken back, and `begin(content, buffers)`, which takes the state.
 */
export class LabelPage {
  constructor(model) {
    this.model = model;
    this.words = model.get("words");
    this.choices = { order: "", only: "" };
    this.isLost = false;
    this.choicesRow = make("span", { class: "sh-choices" });
    this.sheet = new LabelSheet(this.words, model.get("labeller"));
    this.banner = new Banner();
    this.progress = new Progress(this.words);
    this.saving = make(
      "span",
      { class: "sh-saving", role: "status", "data-unsaved": 0 },
      "all saved",
    );
    this.spoken = make("div", { class: "sh-spoken", "aria-live": "polite" });
    this.outbox = new Outbox((content) => this.link.send(content), {
      onChange: () => this.showSaving(),
      onRefused: (items, message) => this.takeBack(items, message),
    });
    this.stopAsking = askBeforeLeaving(this.outbox);
  }

  makeCache(kind, capacity) {
    return new PatternCache((patterns) => this.link.send({ kind, patterns }), capacity);
  }

  connect({ watched, handlers }) {
    this.link = new Link(this.model, this.root, {
      watched: [...watched, this.outbox],
      greeting: () => this.choices,
      onStateChange: (name) => this.showState(name),
      handlers: {
        ...handlers,
        state: (content, buffers) => {
          this.begin(content, buffers);
          this.noteLoss(content.lost);
        },
        ack: (content) => this.acknowledge(content),
        resend: (content) => this.outbox.resend(content),
        refused: (content) => {
          this.outbox.refuse(content);
          this.noteLoss(content.lost);
        },
        rescued: (content) => this.banner.add(content.message),
        trouble: (content) => this.banner.show(content.message),
      },
    });
  }

  /** Whether the kernel is there to take a label, and no undo may still move the page. */
  get isFree() {
    return this.isOpen && !this.outbox.isFull && !this.isUndoing;
  }

  /** Whether kernel and store are there. */
  get isOpen() {
    return this.link.isReady && !this.isLost;
  }

  /** The store is gone or another: freeze until it is there again. */
  noteLoss(message) {
    const wasLost = this.isLost;
    this.isLost = Boolean(message);
    this.root.dataset.store = this.isLost ? "lost" : "open";
    this.showSaving();
    if (!this.isLost && wasLost) this.banner.release();
    if (!this.isLost || wasLost) return;
    this.banner.keep(
      message,
      make(
        "button",
        {
          type: "button",
          class: "sh-button sh-rescue",
          click: () => this.link.send({ kind: "rescue" }),
        },
        "write this session's labels to a new store",
      ),
    );
  }

  get isUndoing() {
    return this.outbox.events.some((event) => event.kind === "undo");
  }

  isUnsaved(pattern) {
    return this.outbox.events.some((event) => event.pattern === pattern);
  }

  /** Ask for another order, or for other patterns; the kernel answers with the state. */
  choose(part) {
    this.choices = { ...this.choices, ...part };
    this.startsAnew = true;
    this.look.end();
    this.cache.forget();
    this.link.hello();
  }

  /** The drop-down lists, of what the kernel offers and of what is the page's own. */
  showChoices({ orders, order, filters, only }, ...more) {
    this.choices = { order, only };
    this.choicesRow.replaceChildren(
      choice("order of patterns", orders, order, (name) =>
        this.choose({ order: name }),
      ),
      choice("which patterns", filters, only, (name) => this.choose({ only: name })),
      ...more,
    );
  }

  /** Give patterns a label: at once on the page, and on its way to the store. */
  give(patterns, word, shownSince, shown, repeat = false) {
    const now = performance.now();
    const events = patterns.map((pattern) => ({
      kind: "label",
      pattern,
      label: word,
      time_on_screen_ms: Math.round(now - shownSince),
      shown,
      repeat,
    }));
    const before = patterns.map((pattern) => this.sheet.set(pattern, word));
    if (repeat) this.sheet.noteRepeats(patterns, true);
    this.sheet.noteLabels(patterns.length, now);
    this.banner.show("");
    this.outbox.add(events, before);
    const which =
      patterns.length === 1 ? `pattern ${patterns[0]}` : `${patterns.length} patterns`;
    setText(this.spoken, `${which}: ${word}`);
  }

  /** Labels on their way are not in the state that the kernel sent. */
  applyUnsaved() {
    for (const event of this.outbox.events) {
      if (event.kind !== "label") continue;
      this.sheet.set(event.pattern, event.label);
      if (event.repeat) this.sheet.noteRepeats([event.pattern], true);
    }
  }

  acknowledge(content) {
    const isOurs = content.session === this.outbox.session;
    this.outbox.acknowledge(content);
    const unsaved = this.outbox.patterns;
    const undone = content.changes.filter(({ kind }) => kind === "undo");
    const wasRepeat = undone.map(
      ({ pattern, repeated }) => this.sheet.repeated.has(pattern) && !repeated,
    );
    for (const change of content.changes) this.apply(change, unsaved);
    if (isOurs && undone.length) this.tellUndone(undone, wasRepeat);
    this.describe();
  }

  apply({ pattern, label, by, repeated }, unsaved) {
    if (pattern === null || unsaved.has(pattern)) return;
    this.sheet.set(pattern, label, by);
    this.sheet.noteRepeats([pattern], repeated);
  }

  /** Go to where the last label was taken back. */
  tellUndone(undone, wasRepeat) {
    const last = undone.findLastIndex(({ pattern }) => pattern !== null);
    if (undone.at(-1).pattern === null)
      this.banner.show("There is no label of yours to take back.", "note");
    if (last < 0) return;
    const { pattern } = undone[last];
    this.goBackTo(pattern, wasRepeat[last]);
    const which = last ? `${last + 1} labels` : `label of pattern ${pattern}`;
    setText(this.spoken, `${which} taken back`);
  }

  /** The store refused: show the labels as they were, and say which. */
  takeBack(items, message) {
    const labels = items.filter((item) => item.before);
    const lost = labels.flatMap((item) => item.events);
    const patterns = lost.map((event) => event.pattern);
    const repeats = lost.filter((event) => event.repeat);
    for (const { before, events } of [...labels].reverse()) {
      // The first labels of a page may have been stored before the disk was full.
      const refused = new Set(events.map((event) => event.pattern));
      for (const each of before)
        if (refused.has(each.pattern)) this.sheet.putBack(each);
    }
    this.sheet.noteRepeats(
      repeats.map((event) => event.pattern),
      false,
    );
    this.banner.show(`${describeTakenBack(patterns)} ${message}`);
    if (patterns.length) this.goBackTo(patterns[0], lost[0].repeat);
    this.describe();
    this.link.hello();
  }

  showSaving() {
    const { unsaved } = this.outbox;
    const rest = this.isLost ? "nothing is saved" : "all saved";
    setText(this.saving, unsaved ? `saving ${unsaved}…` : rest);
    this.saving.dataset.unsaved = unsaved;
  }

  showState(name) {
    const { unsaved } = this.outbox;
    const waiting = unsaved
      ? ` Not saved yet: ${unsaved}; sent again when it answers.`
      : "";
    this.banner.tellAboutKernel(name, `No label is taken.${waiting}`);
    if (name === "dead" && this.sheet.order.length === 0)
      this.showPreview(this.model.get("preview"));
  }

  close() {
    this.outbox.deliverAll();
    this.stopAsking();
    this.link.close();
  }
}

function describeTakenBack(patterns) {
  if (patterns.length === 0) return "The undo could not be saved.";
  const some = patterns.slice(0, 8).join(", ") + (patterns.length > 8 ? ", …" : "");
  if (patterns.length === 1)
    return `The label of pattern ${some} was not saved and is taken back.`;
  return `The labels of ${patterns.length} patterns (${some}) were not saved and are taken back.`;
}

/** How far it is: a bar with a stripe for each word, the counts in words, the speed. */
class Progress {
  constructor(words) {
    this.words = words;
    this.total = make("div", { class: "sh-progress-total", "aria-live": "off" });
    this.stripes = words.map((word) =>
      make("span", { class: `sh-stripe sh-is-${word}` }),
    );
    this.numbers = words.map(() => make("b", {}, "0"));
    const legend = words.map((word, i) =>
      make(
        "span",
        { class: "sh-legend" },
        make("i", { class: `sh-is-${word}` }),
        `${word} `,
        this.numbers[i],
      ),
    );
    this.element = make(
      "div",
      { class: "sh-progress", role: "group", "aria-label": "progress" },
      this.total,
      make("div", { class: "sh-progress-bar", "aria-hidden": "true" }, ...this.stripes),
      make("div", { class: "sh-legends" }, ...legend),
    );
  }

  draw(sheet) {
    const counts = sheet.counts();
    const nRepeats = sheet.countRepeats();
    const n = sheet.order.length - nRepeats;
    const back = nRepeats ? `, ${nRepeats} come back` : "";
    const speed = sheet.perMinute();
    const pace = speed === null ? "" : ` · ${Math.round(speed)} per minute`;
    setText(this.total, `${n - counts[0]} of ${n} labelled${back}${pace}`);
    this.words.forEach((_, i) => {
      this.stripes[i].style.width = `${(100 * counts[i + 1]) / Math.max(1, n)}%`;
      setText(this.numbers[i], String(counts[i + 1]));
    });
  }
}
