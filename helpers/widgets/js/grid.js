// A page of thumbnails with a cursor and a selection.

import { Look } from "./drawing.js";
import { make } from "./elements.js";
import { Paging } from "./paging.js";
import { Thumb } from "./thumbs.js";

/** The thumbnails of a page; `enter` and `leave` say what the pointer rests on. */
export class Grid extends Paging {
  constructor(sheet, perPage, { canSelect, onTurn, onMark, enter, leave }) {
    const turn = () => {
      this.look.end();
      onTurn();
    };
    super(sheet, perPage, { canSelect, onTurn: turn, onMark });
    this.handlers = { click: (place, event) => this.click(place, event), enter, leave };
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
    this.thumbs = Array.from(
      { length: perPage },
      (_, place) => new Thumb(place, this.handlers),
    );
    this.showThumbs();
    // About the same area for a page, however many patterns it holds.
    const side = Math.max(48, Math.min(200, Math.round(540 / Math.sqrt(perPage))));
    this.element.style.setProperty("--sh-thumb", `${side}px`);
  }

  /** Put the thumbnails where they belong, also where something else stood meanwhile. */
  showThumbs() {
    this.element.replaceChildren(...this.thumbs.map((thumb) => thumb.element));
  }

  /** The thumbnail of a position in the order; undefined on another page. */
  thumbAt(position) {
    return this.thumbs[position - this.first];
  }

  thumbOf(pattern) {
    return this.thumbAt(this.sheet.positions.get(pattern));
  }

  resize(perPage) {
    this.makeThumbs(perPage);
    super.resize(perPage);
  }

  /** Draw what there is of the pixels of this page; undefined = still on its way. */
  draw(pixels, display) {
    this.thumbs.forEach((thumb, place) => {
      thumb.element.hidden = place >= pixels.length;
      if (place < pixels.length) thumb.draw(pixels[place], display);
    });
    if (pixels.every(Boolean) && this.look.what === null) this.look.begin(this.page);
  }

  /** How many thumbnails stand side by side: what the arrow keys up and down step by. */
  get columns() {
    const { offsetTop } = this.thumbs[0].element;
    return this.thumbs.filter((thumb) => thumb.element.offsetTop === offsetTop).length;
  }

  mark() {
    this.patterns.forEach((pattern, place) => {
      const { element } = this.thumbs[place];
      element.setAttribute("aria-selected", this.selected.has(pattern));
      element.classList.toggle("sh-cursor", this.first + place === this.cursor);
    });
  }
}
