// A page of thumbnails with a cursor and a selection.

/**
 * Pages over the patterns of a sheet, in its order.
 *
 * `onTurn()` is called when another page is to be filled, `onMark()` when cursor or
 * selection have changed; `enter` and `leave` say what the pointer rests on.
 */
class Grid {
  constructor(sheet, perPage, { canSelect, onTurn, onMark, enter, leave }) {
    this.sheet = sheet;
    this.canSelect = canSelect;
    this.onTurn = onTurn;
    this.onMark = onMark;
    this.handlers = { click: (place, event) => this.click(place, event), enter, leave };
    this.page = 0;
    this.cursor = 0; // a position in the order, like `anchor`, where a range begins
    this.anchor = 0;
    this.selected = new Set(); // patterns of this page
    this.element = make("div", {
      class: "sh-grid",
      role: "listbox",
      "aria-label": "patterns",
      "aria-multiselectable": "true",
    });
    this.look = new Look(this.element);
    this.makeThumbs(perPage);
  }

  makeThumbs(perPage) {
    this.perPage = perPage;
    this.thumbs = Array.from(
      { length: perPage },
      (_, place) => new Thumb(place, this.handlers),
    );
    this.element.replaceChildren(...this.thumbs.map((thumb) => thumb.element));
    // About the same area for a page, however many patterns it holds.
    const side = Math.max(48, Math.min(200, Math.round(540 / Math.sqrt(perPage))));
    this.element.style.setProperty("--sh-thumb", `${side}px`);
  }

  // --- pages ----------------------------------------------------------------------------

  get pages() {
    return Math.max(1, Math.ceil(this.sheet.order.length / this.perPage));
  }

  get first() {
    return this.page * this.perPage;
  }

  get patterns() {
    return this.patternsOf(this.page);
  }

  patternsOf(page) {
    return Array.from(
      this.sheet.order.slice(page * this.perPage, (page + 1) * this.perPage),
    );
  }

  /** The thumbnail of a position in the order; undefined on another page. */
  thumbAt(position) {
    return this.thumbs[position - this.first];
  }

  thumbOf(pattern) {
    return this.thumbAt(this.sheet.positions.get(pattern));
  }

  turnTo(page) {
    this.page = Math.max(0, Math.min(this.pages - 1, page));
    this.cursor = this.first;
    this.anchor = this.cursor;
    this.selected.clear();
    this.look.end();
    this.onTurn();
  }

  resize(perPage) {
    const { first } = this;
    this.makeThumbs(perPage);
    this.turnTo(Math.floor(first / perPage));
  }

  /** Draw what there is of the pixels of this page; undefined = still on its way. */
  draw(pixels, display) {
    this.thumbs.forEach((thumb, place) => {
      thumb.element.hidden = place >= pixels.length;
      if (place < pixels.length) thumb.draw(pixels[place], display);
    });
    if (pixels.every(Boolean) && this.look.what === null) this.look.begin(this.page);
  }

  // --- cursor and selection -------------------------------------------------------------

  /** How many thumbnails stand side by side: what the arrow keys up and down step by. */
  get columns() {
    const { offsetTop } = this.thumbs[0].element;
    return this.thumbs.filter((thumb) => thumb.element.offsetTop === offsetTop).length;
  }

  /** What is selected, or else the pattern under the cursor. */
  get targets() {
    if (this.selected.size) return [...this.selected];
    return Array.from(this.sheet.order.slice(this.cursor, this.cursor + 1));
  }

  click(place, event) {
    this.cursor = this.first + place;
    if (event.shiftKey) this.selectRange();
    else {
      this.anchor = this.cursor;
      this.toggle();
    }
  }

  moveCursor(by, isExtending = false) {
    const last = this.sheet.order.length - 1;
    const position = Math.max(0, Math.min(last, this.cursor + by));
    const page = Math.floor(position / this.perPage);
    if (page !== this.page) this.turnTo(page);
    this.cursor = position;
    if (isExtending) this.selectRange();
    else {
      this.anchor = position;
      this.onMark();
    }
  }

  /** Select the pattern under the cursor, or not any more. */
  toggle() {
    const pattern = this.sheet.order[this.cursor];
    if (this.canSelect && !this.selected.delete(pattern)) this.selected.add(pattern);
    this.onMark();
  }

  selectRange() {
    const [low, high] = [
      Math.min(this.anchor, this.cursor),
      Math.max(this.anchor, this.cursor),
    ];
    const start = Math.max(low, this.first); // only what is on this page
    this.select(Array.from(this.sheet.order.slice(start, high + 1)));
  }

  select(patterns) {
    if (this.canSelect) this.selected = new Set(patterns);
    this.onMark();
  }

  mark() {
    this.patterns.forEach((pattern, place) => {
      const { element } = this.thumbs[place];
      element.setAttribute("aria-selected", this.selected.has(pattern));
      element.classList.toggle("sh-cursor", this.first + place === this.cursor);
    });
  }
}
