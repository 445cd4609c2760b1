// Pages of small patterns, labelled one by one, in ranges or by the page.

const PAGE_SIZES = [24, 48, 96];
const LOOK_MS = 150; // the pointer rests this long before a pattern is enlarged

class Gallery extends LabelPage {
  constructor(model, el) {
    super(model);
    this.canLabel = model.get("can_label");
    this.threshold = model.get("threshold");
    this.perPage = model.get("per_page");
    this.list = new ScoredList(new Int32Array(0), []);
    this.order = "as given";
    this.filter = "all";
    this.shownPage = 0;
    this.cursor = 0; // a position in the list, like `anchor`, where a range began
    this.anchor = 0;
    this.selected = new Set(); // patterns of the page that is shown
    this.batches = []; // the patterns of each thing labelled here, for undo
    this.display = new Display(model, {
      onChange: () => this.redraw(),
      shown: () => this.onPage.map((pattern) => this.thumbnails.get(pattern)).filter(Boolean),
    });
    this.thumbnails = this.makeCache("thumbnails", 600);
    this.cache = this.makeCache("fetch", 64);
    this.actions = this.makeActions();
    this.build();
    el.append(this.root);
    this.connect({
      watched: [this.thumbnails, this.cache],
      greeting: () => ({}),
      handlers: {
        thumbnails: (content, buffers) => this.receivePage(content, buffers),
        pixels: (content, buffers) => this.receive(content, buffers),
      },
    });
  }

  makeCache(kind, capacity) {
    return new PatternCache((patterns) => this.link.send({ kind, patterns }), capacity);
  }

  // --- what can be done, by key or button -----------------------------------------------

  makeActions() {
    return {
      ...(this.canLabel ? this.makeLabelActions() : {}),
      ...this.makeMoves(),
      enlarge: {
        keys: ["Enter", "e"],
        does: "enlarge the pattern under the cursor, or stop",
        run: () => this.toggleEnlarged(),
      },
      ...this.display.actions,
      help: { keys: ["?", "h"], does: "show or hide these keys", run: () => this.help.toggle() },
    };
  }

  makeMoves() {
    const move = (key, does, by) => ({
      keys: [key],
      does,
      repeats: true,
      run: (event) => this.moveCursor(by(), event.shiftKey),
    });
    const turn = (keys, does, by) => ({
      keys,
      does,
      repeats: true,
      run: () => this.goToPage(this.shownPage + by),
    });
    return {
      left: move("ArrowLeft", "cursor left; with Shift, select on the way", () => -1),
      right: move("ArrowRight", "cursor right; likewise", () => 1),
      up: move("ArrowUp", "cursor up; likewise", () => -this.columns),
      down: move("ArrowDown", "cursor down; likewise", () => this.columns),
      back: turn([",", "PageUp"], "previous page", -1),
      forward: turn([".", "PageDown"], "next page", 1),
    };
  }

  makeLabelActions() {
    const one = (word, i) => ({
      keys: [String(i + 1), word[0]],
      does: `label ${word}: what is selected, or else the pattern under the cursor`,
      run: () => this.label(this.targets, word),
    });
    const all = (word) => ({
      keys: [word[0].toUpperCase()],
      does: `label ${word}: all on this page`,
      run: () => this.label(this.onPage, word),
    });
    return {
      ...Object.fromEntries(this.words.map((word, i) => [word, one(word, i)])),
      ...Object.fromEntries(this.words.map((word) => [`all ${word}`, all(word)])),
      undo: {
        keys: ["z", "Backspace"],
        does: "take the last label, or page of labels, back",
        run: () => this.undo(),
      },
      toggle: {
        keys: [" "],
        does: "select the pattern under the cursor, or not",
        run: () => this.toggle(this.cursor),
      },
      page: { keys: ["a"], does: "select all on this page", run: () => this.select(this.onPage) },
      rest: {
        keys: ["r"],
        does: "select the unlabelled ones on this page",
        run: () => this.select(this.onPage.filter((pattern) => !this.sheet.wordOf(pattern))),
      },
      none: { keys: ["d"], does: "select nothing", run: () => this.select([]) },
    };
  }

  // --- labelling ------------------------------------------------------------------------

  /** What a label key means now: the selection, or else the pattern under the cursor. */
  get targets() {
    return this.selected.size ? [...this.selected] : [this.sheet.order[this.cursor]];
  }

  mayLabel(patterns) {
    const thumbs = patterns.map((pattern) => this.thumbOf(pattern));
    const areShown = thumbs.length > 0 && thumbs.every(Boolean);
    const areSeen = this.look.isSettledOn(this.shownPage) && this.help.isHidden;
    return this.isFree && areShown && areSeen && this.isInSight(thumbs);
  }

  /** Somebody may have scrolled away while the keys still act here. */
  isInSight(thumbs) {
    if (thumbs.some((thumb) => thumb.isInSight())) return true;
    thumbs[0].element.scrollIntoView({ block: "nearest" });
    return false;
  }

  label(patterns, word) {
    this.enlarged.hide();
    if (!this.mayLabel(patterns)) return;
    const shown = `gallery, ${this.perPage} a page, ${this.display.words}`;
    this.batches.push(patterns);
    this.give(patterns, word, this.look.since, shown);
    const isOne = this.selected.size === 0 && patterns.length === 1;
    this.selected.clear();
    this.describe();
    if (isOne) this.moveCursor(1, false);
  }

  /** Take back what was labelled last here, a page of labels at once. */
  undo() {
    if (!this.link.isReady || this.outbox.isFull) return;
    const batch = [...(this.batches.pop() ?? [null])].reverse();
    // Each further undo holds only if the one before took back what it should: something
    // newer may have been labelled elsewhere.
    this.outbox.add(
      batch.map((_, i) => (i === 0 ? { kind: "undo" } : { kind: "undo", follows: batch[i - 1] })),
    );
  }

  takeBack(items, message) {
    const lost = items.filter((item) => item.before).length;
    this.batches.splice(this.batches.length - lost);
    super.takeBack(items, message);
  }

  // --- cursor and selection -------------------------------------------------------------

  click(place, event) {
    const position = this.firstOfPage + place;
    this.cursor = position;
    if (!this.canLabel) this.toggleEnlarged();
    else if (event.shiftKey) this.selectRange(this.anchor, position);
    else this.toggle(position);
    if (!event.shiftKey) this.anchor = position;
    this.showSelection();
  }

  moveCursor(by, isExtending) {
    const last = this.sheet.order.length - 1;
    const position = Math.max(0, Math.min(last, this.cursor + by));
    const page = Math.floor(position / this.perPage);
    if (page !== this.shownPage) this.goToPage(page);
    this.cursor = position;
    if (isExtending) this.selectRange(this.anchor, position);
    else this.anchor = position;
    if (this.enlarged.stays) this.enlarge(position);
    this.showSelection();
  }

  toggle(position) {
    const pattern = this.sheet.order[position];
    if (!this.selected.delete(pattern)) this.selected.add(pattern);
    this.showSelection();
  }

  selectRange(from, to) {
    const [low, high] = [Math.min(from, to), Math.max(from, to)];
    const start = Math.max(low, this.firstOfPage); // only what is on this page
    this.select(Array.from(this.sheet.order.slice(start, high + 1)));
  }

  select(patterns) {
    if (this.canLabel) this.selected = new Set(patterns);
    this.showSelection();
  }

  // --- pages ----------------------------------------------------------------------------

  get pages() {
    return Math.max(1, Math.ceil(this.sheet.order.length / this.perPage));
  }

  get firstOfPage() {
    return this.shownPage * this.perPage;
  }

  get onPage() {
    return this.patternsOf(this.shownPage);
  }

  get columns() {
    const { offsetTop } = this.thumbs[0].element;
    return this.thumbs.filter((thumb) => thumb.element.offsetTop === offsetTop).length;
  }

  patternsOf(page) {
    return Array.from(this.sheet.order.slice(page * this.perPage, (page + 1) * this.perPage));
  }

  thumbOf(pattern) {
    return this.thumbs[this.sheet.positions.get(pattern) - this.firstOfPage];
  }

  goToPage(page) {
    this.shownPage = Math.max(0, Math.min(this.pages - 1, page));
    this.cursor = this.firstOfPage;
    this.anchor = this.cursor;
    this.selected.clear();
    this.enlarged.hide();
    this.look.end();
    this.thumbnails.wantOnly(this.onPage);
    this.thumbnails.want(this.patternsOf(this.shownPage + 1));
    this.drawPage();
  }

  goToPattern(pattern) {
    const position = this.sheet.positions.get(pattern);
    if (position !== undefined) this.moveCursor(position - this.cursor, false);
  }

  /** Sort and filter anew; a label given later makes no pattern vanish or move. */
  arrange() {
    const { sheet, filter } = this;
    const filters = {
      all: () => true,
      unlabelled: (pattern) => !sheet.wordOf(pattern),
      "labellers disagree": (pattern) => this.disagree[pattern],
    };
    const keep = filters[filter] ?? ((pattern) => sheet.wordOf(pattern) === filter);
    const order = this.list.sorted(this.order, sheet).filter(keep);
    sheet.load(Int32Array.from(order), sheet.codes);
    this.goToPage(0);
  }

  resize(perPage) {
    const first = this.firstOfPage;
    this.perPage = perPage;
    this.makeThumbs();
    this.goToPage(Math.floor(first / perPage));
  }

  // --- what the kernel says -------------------------------------------------------------

  begin({ filters }, [index, codes, scores, disagree]) {
    this.sheet.codes = asBytes(codes).slice();
    this.disagree = asBytes(disagree).slice();
    this.applyUnsaved();
    if (this.list.index.length) {
      this.describe();
      return;
    }
    this.list = new ScoredList(asInt32(index), asFloat32(scores));
    this.showChoices(filters);
    this.arrange();
  }

  receivePage({ patterns, rows, columns, knees, tops }, [codes]) {
    const size = rows * columns;
    const all = asBytes(codes);
    patterns.forEach((pattern, i) => {
      const own = all.subarray(i * size, (i + 1) * size);
      this.thumbnails.put(pattern, { rows, columns, knee: knees[i], top: tops[i], codes: own });
    });
    if (this.onPage.includes(patterns[0])) this.drawPage();
  }

  receive({ pattern, by, ...pixels }, [codes]) {
    this.cache.put(pattern, { ...pixels, codes: asBytes(codes) });
    if (!this.isUnsaved(pattern)) this.sheet.by.set(pattern, by);
    if (pattern === this.enlarged.pattern) this.drawEnlarged(pattern);
  }

  // --- what is shown --------------------------------------------------------------------

  drawPage() {
    const patterns = this.onPage;
    const pixels = patterns.map((pattern) => this.thumbnails.get(pattern));
    this.thumbs.forEach((thumb, place) => {
      thumb.element.hidden = place >= patterns.length;
      if (place < patterns.length) thumb.draw(pixels[place], this.display);
    });
    this.describe();
    this.showThreshold();
    if (pixels.every(Boolean) && this.look.what === null) this.look.begin(this.shownPage);
  }

  redraw() {
    this.drawPage();
    if (this.enlarged.pattern !== null) this.drawEnlarged(this.enlarged.pattern);
  }

  describe() {
    this.onPage.forEach((pattern, place) => {
      const word = this.sheet.wordOf(pattern);
      this.thumbs[place].describe(pattern, this.list.scoreOf(pattern), word);
    });
    const n = this.sheet.order.length;
    setText(this.place, n ? `page ${this.shownPage + 1} of ${this.pages}` : "no pattern");
    this.progress.draw(this.sheet);
    this.showSelection();
  }

  showSelection() {
    this.onPage.forEach((pattern, place) => {
      const { element } = this.thumbs[place];
      element.setAttribute("aria-selected", this.selected.has(pattern));
      element.classList.toggle("sh-cursor", this.firstOfPage + place === this.cursor);
    });
    const n = this.selected.size;
    setText(this.aim, n ? `${n} selected` : "under the cursor");
  }

  /** A line where sorted scores cross the threshold, and in words where it is. */
  showThreshold() {
    this.line.remove();
    const isSorted = this.order === "highest first" || this.order === "lowest first";
    const patterns = Array.from(this.sheet.order);
    if (this.threshold === null || !isSorted || patterns.length === 0) return;
    const before = this.list.beforeThreshold(patterns, this.threshold);
    const place = before - this.firstOfPage;
    if (place < 0 || place > this.onPage.length) return;
    const name = this.model.get("score_name");
    const counts = `${before} before this line, ${patterns.length - before} after`;
    setText(this.line, `${name} ${sayNumber(this.threshold)}: ${counts}`);
    this.grid.insertBefore(this.line, this.thumbs[place]?.element ?? null);
  }

  showPreview(png) {
    const url = URL.createObjectURL(new Blob([asBytes(png)], { type: "image/png" }));
    const picture = make("img", { src: url, class: "sh-preview", alt: "the first page" });
    this.grid.replaceChildren(picture);
  }

  // --- the enlarged pattern -------------------------------------------------------------

  toggleEnlarged() {
    const stays = !this.enlarged.stays;
    this.enlarged.hide();
    this.enlarged.stays = stays;
    if (stays) this.enlarge(this.cursor);
  }

  enlarge(position) {
    const pattern = this.sheet.order[position];
    const thumb = this.thumbs[position - this.firstOfPage];
    if (!thumb?.isPainted) return;
    this.cache.wantOnly([pattern]);
    this.drawEnlarged(pattern);
    this.enlarged.placeBeside(thumb.element, this.root);
  }

  drawEnlarged(pattern) {
    const pixels = this.cache.get(pattern) ?? this.thumbnails.get(pattern);
    const words = `${this.sheet.wordOf(pattern) || "unlabelled"} ${this.sheet.sayWho(pattern)}`;
    this.enlarged.draw(pattern, pixels, this.display, words);
  }

  enterThumb(place, event) {
    clearTimeout(this.lookTimer);
    if (event.pointerType !== "mouse" || this.enlarged.stays) return;
    this.lookTimer = setTimeout(() => this.enlarge(this.firstOfPage + place), LOOK_MS);
  }

  leaveThumb() {
    clearTimeout(this.lookTimer);
    if (!this.enlarged.stays) this.enlarged.hide();
  }

  // --- building -------------------------------------------------------------------------

  build() {
    const words = ["Click selects, Shift-click selects a range; rest the pointer to enlarge."];
    this.help = new HelpPanel(Object.values(this.actions), [...words, ...KEY_NOTES]);
    this.enlarged = new Enlarged();
    this.line = make("div", { class: "sh-threshold", role: "separator" });
    this.aim = make("span", { class: "sh-aim" });
    this.grid = make("div", { class: "sh-grid", role: "listbox", "aria-label": "patterns", "aria-multiselectable": "true" });
    this.look = new Look(this.grid);
    this.makeThumbs();
    this.root = make(
      "div",
      { class: "sh sh-gallery", role: "group", "aria-label": "gallery" },
      this.makeHead(),
      this.banner.element,
      this.grid,
      ...(this.canLabel ? this.makeLabelRows() : []),
      this.display.element,
      this.help.element,
      this.enlarged.element,
      make("div", { class: "sh-hint" }, "click a pattern to switch the keys on"),
      this.spoken,
    );
    this.keys = new Keys(this.root, Object.values(this.actions));
  }

  makeThumbs() {
    const handlers = {
      click: (place, event) => this.click(place, event),
      enter: (place, event) => this.enterThumb(place, event),
      leave: () => this.leaveThumb(),
    };
    this.thumbs = Array.from({ length: this.perPage }, (_, place) => new Thumb(place, handlers));
    this.grid.replaceChildren(...this.thumbs.map((thumb) => thumb.element));
    // About the same area for a page, however many patterns it holds.
    const side = Math.max(48, Math.min(200, Math.round(540 / Math.sqrt(this.perPage))));
    this.grid.style.setProperty("--sh-thumb", `${side}px`);
  }

  makeHead() {
    const { actions } = this;
    this.place = make("span", { class: "sh-place" });
    this.choicesRow = make("span", { class: "sh-choices" });
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

  showChoices(filters) {
    const sizes = [...new Set([...PAGE_SIZES, this.perPage])].sort((a, b) => a - b);
    const pick = (name) => (value) => {
      this[name] = value;
      this.arrange();
    };
    this.choicesRow.replaceChildren(
      choice("order of patterns", this.list.orders, this.order, pick("order")),
      choice("which patterns", filters, this.filter, pick("filter")),
      choice("patterns a page", sizes.map(String), String(this.perPage), (n) => this.resize(Number(n))),
    );
  }

  makeLabelRows() {
    const { actions, words } = this;
    const row = (title, ...parts) => make("div", { class: "sh-row sh-foot" }, title, ...parts);
    const button = (name, word, size) => actionButton(actions[name], word, `sh-label ${size} sh-is-${word}`);
    return [
      row(this.aim, ...words.map((word) => button(word, word, "")), actionButton(actions.undo, "undo")),
      row(
        make("span", { class: "sh-aim" }, "all on this page"),
        ...words.map((word) => button(`all ${word}`, word, "sh-small")),
        make("span", { class: "sh-aim sh-later" }, "select"),
        actionButton(actions.page, "all"),
        actionButton(actions.rest, "unlabelled"),
        actionButton(actions.none, "none"),
      ),
      this.progress.element,
    ];
  }

  close() {
    clearTimeout(this.lookTimer);
    super.close();
  }
}

export default {
  render({ model, el }) {
    const gallery = new Gallery(model, el);
    return () => gallery.close();
  },
};
