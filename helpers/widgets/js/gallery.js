// Pages of small patterns, labelled one by one, in ranges or by the page.

import { Display } from "./display.js";
import {
  actionButton,
  asWidget,
  choice,
  formatNumber,
  HelpPanel,
  isInSight,
  KEY_NOTES,
  make,
  setText,
} from "./elements.js";
import { Grid } from "./grid.js";
import { bindActions, Keys } from "./keys.js";
import { LabelPage } from "./label_page.js";
import { asBytes, asFloat32, asInt32 } from "./link.js";
import { Enlarged, Scores } from "./thumbs.js";
import "./common.css";
import "./gallery.css";

const PAGE_SIZES = [24, 48, 96];
const MOST_UNASKED = 50; // labels beyond the page, from which on they are asked for
const LOOK_MS = 150; // the pointer rests this long before a pattern is enlarged

class Gallery extends LabelPage {
  constructor(model, el) {
    super(model);
    this.canLabel = model.get("can_label");
    this.threshold = model.get("threshold");
    this.scores = new Scores(new Int32Array(0), []);
    this.batches = []; // the patterns of each thing labelled here, for undo
    this.display = new Display(model, {
      onChange: () => this.redraw(),
      shown: () => this.pixelsOfPage().filter(Boolean),
    });
    this.grid = new Grid(this.sheet, model.get("per_page"), {
      canSelect: this.canLabel,
      onTurn: () => this.turn(),
      onMark: () => this.noteMove(),
      enter: (place, event) => this.enterThumb(place, event),
      leave: () => this.leaveThumb(),
    });
    this.thumbnails = this.makeCache("thumbnails", 600);
    this.cache = this.makeCache("fetch");
    this.actions = bindActions(model.get("key_table"), {
      ...this.makeActions(),
      ...this.display.makeActions(),
    });
    this.build();
    el.append(this.root);
    this.connect({
      watched: [this.thumbnails, this.cache],
      handlers: {
        thumbnails: (content, buffers) => this.receivePage(content, buffers),
        pixels: (content, buffers) => this.receive(content, buffers),
        anew: () => this.choose({ order: "as given", only: "all" }),
      },
    });
  }

  // --- what can be done, by key or button -----------------------------------------------

  makeActions() {
    const { grid } = this;
    return {
      ...(this.canLabel ? this.makeLabelActions() : {}),
      left: ({ shiftKey }) => grid.moveCursor(-1, shiftKey),
      right: ({ shiftKey }) => grid.moveCursor(1, shiftKey),
      up: ({ shiftKey }) => grid.moveCursor(-grid.columns, shiftKey),
      down: ({ shiftKey }) => grid.moveCursor(grid.columns, shiftKey),
      back: () => grid.turnTo(grid.page - 1),
      forward: () => grid.turnTo(grid.page + 1),
      enlarge: () => this.toggleEnlarged(),
      help: () => this.help.toggle(),
    };
  }

  makeLabelActions() {
    const { grid, sheet, words } = this;
    const one = (word) => [word, () => this.label(grid.targets, word)];
    const all = (word) => [`all ${word}`, () => this.label(grid.patterns, word)];
    const isUnlabelled = (pattern) => !sheet.wordOf(pattern);
    return {
      ...Object.fromEntries([...words.map(one), ...words.map(all)]),
      undo: () => this.undo(),
      toggle: () => grid.toggle(),
      page: () => grid.select(grid.patterns),
      rest: () => grid.select(grid.patterns.filter(isUnlabelled)),
      none: () => grid.select([]),
      whole: () => grid.select(Array.from(sheet.order)),
    };
  }

  get look() {
    return this.grid.look;
  }

  // --- labelling ------------------------------------------------------------------------

  mayLabel(patterns) {
    const isSeen = this.look.isSettledOn(this.grid.page) && this.help.isHidden;
    return patterns.length > 0 && this.isFree && isSeen && this.areInSight(patterns);
  }

  /** Somebody may have scrolled away while the keys still act here. */
  areInSight(patterns) {
    const thumbs = patterns
      .map((pattern) => this.grid.thumbOf(pattern))
      .filter(Boolean); // others are on further pages of a list selected as a whole
    if (thumbs.some((thumb) => isInSight(thumb.element))) return true;
    thumbs[0].element.scrollIntoView({ block: "nearest" });
    return false;
  }

  label(patterns, word) {
    if (!this.mayLabel(patterns) || !this.isSure(patterns, word)) return;
    const { grid } = this;
    const way = this.model.get("way");
    const shown = `${way}, ${grid.perPage} a page, ${this.display.words}`;
    this.batches.push(patterns);
    this.give(patterns, word, grid.look.since, shown);
    if (!this.enlarged.stays) this.enlarged.hide();
    const isUnderCursor = grid.selected.size === 0 && patterns.length === 1;
    grid.select([]);
    this.describe();
    if (isUnderCursor) grid.moveCursor(1);
  }

  /** Ask once before many patterns that are not in sight get a label. */
  isSure(patterns, word) {
    const asked = `${word} ${patterns.length}`;
    const isFew = patterns.length <= Math.max(MOST_UNASKED, this.grid.patterns.length);
    const isSure = isFew || this.asked === asked;
    this.asked = isSure ? null : asked;
    if (!isSure)
      this.banner.show(
        `Label all ${patterns.length} patterns of this list ${word}? Once more does it.`,
        "note",
      );
    return isSure;
  }

  /** Take back what was labelled last here, a page of labels at once. */
  undo() {
    if (!this.isOpen || this.outbox.isFull) return;
    const batch = [...(this.batches.pop() ?? [null])].reverse();
    // Each further undo holds only if the one before took back what it should: something
    // newer may have been labelled elsewhere.
    this.outbox.add(
      batch.map((_, i) =>
        i === 0 ? { kind: "undo" } : { kind: "undo", follows: batch[i - 1] },
      ),
    );
  }

  takeBack(items, message) {
    const lost = items.filter((item) => item.before).length;
    this.batches.splice(this.batches.length - lost);
    super.takeBack(items, message);
  }

  goBackTo(pattern) {
    const position = this.sheet.positions.get(pattern);
    if (position !== undefined) this.grid.moveCursor(position - this.grid.cursor);
  }

  // --- messages from the kernel ---------------------------------------------------------

  begin(content, [index, codes, scores]) {
    const { sheet } = this;
    // A label given meanwhile makes no pattern vanish or move.
    const isNew = this.startsAnew || sheet.order.length === 0;
    const order = isNew ? asInt32(index) : sheet.order;
    if (isNew) this.scores = new Scores(order, asFloat32(scores));
    sheet.load(order, asBytes(codes).slice());
    this.applyUnsaved();
    if (isNew) {
      this.startsAnew = false;
      this.showChoices(content, this.makeSizes());
      this.grid.showThumbs();
      this.grid.turnTo(0);
      if (order.length === 0) this.banner.show(content.why_empty, "note");
    } else this.describe();
  }

  receivePage({ patterns, rows, columns, knees, tops }, [codes]) {
    const size = rows * columns;
    const all = asBytes(codes);
    patterns.forEach((pattern, i) => {
      const own = all.subarray(i * size, (i + 1) * size);
      this.thumbnails.put(pattern, {
        rows,
        columns,
        knee: knees[i],
        top: tops[i],
        codes: own,
      });
    });
    if (this.grid.patterns.includes(patterns[0])) this.drawPage();
  }

  receive({ pattern, by, ...pixels }, [codes]) {
    this.cache.put(pattern, { ...pixels, codes: asBytes(codes) });
    if (!this.isUnsaved(pattern)) this.sheet.by.set(pattern, by);
    if (pattern === this.enlarged.pattern) this.drawEnlarged(pattern);
  }

  // --- what is shown --------------------------------------------------------------------

  turn() {
    const { grid } = this;
    this.enlarged.hide();
    this.thumbnails.wantOnly(grid.patterns);
    this.thumbnails.want(grid.patternsOf(grid.page + 1));
    this.drawPage();
  }

  pixelsOfPage() {
    return this.grid.patterns.map((pattern) => this.thumbnails.get(pattern));
  }

  drawPage() {
    this.grid.draw(this.pixelsOfPage(), this.display);
    this.describe();
    this.showThreshold();
  }

  redraw() {
    this.drawPage();
    if (this.enlarged.pattern !== null) this.drawEnlarged(this.enlarged.pattern);
  }

  describe() {
    const { grid, sheet } = this;
    grid.patterns.forEach((pattern, place) => {
      const score = this.scores.of(pattern);
      grid.thumbs[place].describe(pattern, score, sheet.wordOf(pattern));
    });
    const pages = `page ${grid.page + 1} of ${grid.pages}`;
    setText(this.place, sheet.order.length ? pages : "no pattern");
    this.progress.draw(sheet);
    this.showMarks();
  }

  noteMove() {
    this.banner.clearNote();
    this.asked = null;
    this.showMarks();
  }

  showMarks() {
    const { grid } = this;
    grid.mark();
    const n = grid.selected.size;
    setText(this.aim, n ? `${n} selected` : "under the cursor");
    this.tellCursor();
    if (this.enlarged.stays) this.enlarge(grid.cursor);
  }

  /** Let the kernel know which pattern the cursor is on, where it asks for that. */
  tellCursor() {
    const pattern = this.sheet.order[this.grid.cursor];
    if (!this.model.get("tells_cursor") || pattern === undefined) return;
    if (pattern === this.model.get("cursor")) return;
    this.model.set("cursor", pattern);
    this.model.save_changes();
  }

  /** A line where sorted scores cross the threshold. */
  showThreshold() {
    const { grid, threshold } = this;
    this.line.remove();
    const patterns = Array.from(this.sheet.order);
    if (threshold === null || !this.scores.areSorted(patterns)) return;
    const before = this.scores.beforeThreshold(patterns, threshold);
    const place = before - grid.first;
    if (place < 0 || place > grid.patterns.length) return;
    const name = this.model.get("score_name");
    const counts = `${before} before this line, ${patterns.length - before} after`;
    setText(this.line, `${name} ${formatNumber(threshold)}: ${counts}`);
    grid.element.insertBefore(this.line, grid.thumbs[place]?.element ?? null);
  }

  showPreview(png) {
    const url = URL.createObjectURL(new Blob([asBytes(png)], { type: "image/png" }));
    const picture = make("img", {
      src: url,
      class: "sh-preview",
      alt: "the first page",
    });
    this.grid.element.replaceChildren(picture);
  }

  // --- the enlarged pattern -------------------------------------------------------------

  toggleEnlarged() {
    this.enlarged.stays = !this.enlarged.stays;
    if (this.enlarged.stays) this.enlarge(this.grid.cursor);
    else this.enlarged.hide();
  }

  enlarge(position) {
    const thumb = this.grid.thumbAt(position);
    if (!thumb?.isPainted) return;
    const pattern = this.sheet.order[position];
    this.cache.wantOnly([pattern]);
    this.drawEnlarged(pattern);
    this.enlarged.placeBeside(thumb.element, this.root);
  }

  drawEnlarged(pattern) {
    const pixels = this.cache.get(pattern) ?? this.thumbnails.get(pattern);
    const words = `${this.sheet.wordOf(pattern) || "unlabelled"} ${this.sheet.describeLabellers(pattern)}`;
    this.enlarged.draw(pattern, pixels, this.display, words);
  }

  enterThumb(place, event) {
    clearTimeout(this.lookTimer);
    if (event.pointerType !== "mouse" || this.enlarged.stays) return;
    this.lookTimer = setTimeout(() => this.enlarge(this.grid.first + place), LOOK_MS);
  }

  leaveThumb() {
    clearTimeout(this.lookTimer);
    if (!this.enlarged.stays) this.enlarged.hide();
  }

  // --- building -------------------------------------------------------------------------

  build() {
    const { actions, display } = this;
    const words = [
      "Click selects, Shift-click selects a range; rest the pointer to enlarge.",
    ];
    this.help = new HelpPanel(Object.values(actions), [...words, ...KEY_NOTES]);
    this.enlarged = new Enlarged(this.model.get("unit"));
    this.line = make("div", { class: "sh-threshold", role: "separator" });
    const notes = make(
      "div",
      { class: "sh-row sh-notes" },
      make("span", { class: "sh-aim" }, this.model.get("crop_note")),
      make("span", { class: "sh-hint" }, "click a pattern to switch the keys on"),
    );
    this.aim = make("span", { class: "sh-aim" });
    display.element.lastElementChild.append(actionButton(actions.enlarge, "enlarge"));
    this.root = make(
      "div",
      { class: "sh sh-gallery", role: "group", "aria-label": "gallery" },
      this.makeHead(),
      this.banner.element,
      this.grid.element,
      notes,
      ...(this.canLabel ? this.makeLabelRows() : []),
      display.element,
      this.help.element,
      this.enlarged.element,
      this.spoken,
    );
    this.keys = new Keys(this.root, Object.values(actions), this.help);
  }

  makeHead() {
    const { actions } = this;
    this.place = make("span", { class: "sh-place" });
    return make(
      "div",
      { class: "sh-head" },
      actionButton(actions.back, "back"),
      this.place,
      actionButton(actions.forward, "next"),
      this.choicesRow,
      this.canLabel ? this.saving : null,
      actionButton(actions.help, "keys", this.canLabel ? "" : "sh-last"),
    );
  }

  makeSizes() {
    const { grid } = this;
    const sizes = [...new Set([...PAGE_SIZES, grid.perPage])].sort((a, b) => a - b);
    return choice("patterns a page", sizes.map(String), String(grid.perPage), (n) =>
      grid.resize(Number(n)),
    );
  }

  makeLabelRows() {
    const { actions, words } = this;
    const row = (...parts) => make("div", { class: "sh-row sh-foot" }, ...parts);
    const aim = (text, more = "") => make("span", { class: `sh-aim ${more}` }, text);
    const button = (name, word, size) =>
      actionButton(actions[name], word, `sh-label ${size} sh-is-${word}`);
    return [
      row(
        this.aim,
        ...words.map((word) => button(word, word, "")),
        actionButton(actions.undo, "undo"),
      ),
      row(
        aim("all on this page"),
        ...words.map((word) => button(`all ${word}`, word, "sh-small")),
        aim("select", "sh-later"),
        actionButton(actions.page, "all"),
        actionButton(actions.rest, "unlabelled"),
        actionButton(actions.none, "none"),
        actionButton(actions.whole, "whole list"),
      ),
      this.progress.element,
    ];
  }

  close() {
    clearTimeout(this.lookTimer);
    super.close();
  }
}

export default asWidget(Gallery);
