// Pages over a list of patterns, with a cursor and a selection.

/**
 * Pages over the patterns of a sheet, in its order.
 *
 * `onTurn()` is called when another page is to be filled, `onMark()` when cursor or
 * selection have changed.
 */
export class Paging {
  constructor(sheet, perPage, { canSelect, onTurn = () => {}, onMark = () => {} }) {
    this.sheet = sheet;
    this.perPage = perPage;
    this.canSelect = canSelect;
    this.onTurn = onTurn;
    this.onMark = onMark;
    this.page = 0;
    this.cursor = 0; // a position in the order, like `anchor`, where a range begins
    this.anchor = 0;
    this.selected = new Set(); // patterns of this page
  }

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

  /** What is selected, or else the pattern under the cursor. */
  get targets() {
    if (this.selected.size) return [...this.selected];
    return Array.from(this.sheet.order.slice(this.cursor, this.cursor + 1));
  }

  turnTo(page) {
    this.page = Math.max(0, Math.min(this.pages - 1, page));
    this.cursor = this.first;
    this.anchor = this.cursor;
    this.selected.clear();
    this.onTurn();
  }

  /** Show another number of patterns a page, and the first of this page still. */
  resize(perPage) {
    const { first } = this;
    this.perPage = perPage;
    this.turnTo(Math.floor(first / perPage));
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
}
