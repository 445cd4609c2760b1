// The picture of one pattern: canvas, colour scale, zoom and the value under the pointer.

import { BAD, decodeValue } from "./colours.js";
import { Display } from "./display.js";
import { ColourScale, Look, paint } from "./drawing.js";
import { actionButton, formatNumber, make, setText } from "./elements.js";
import { flatten } from "./flatten.js";
import { bindActions } from "./keys.js";
import { asBytes } from "./link.js";

const BOX_PX = 520; // longest side of the picture; with all else it fits 800 px of height
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

export class Viewer {
  constructor(model) {
    this.display = new Display(model, {
      onChange: () => this.draw(),
      shown: () => (this.pixels ? [this.pixels] : []),
    });
    this.zoom = 1;
    this.centre = [0.5, 0.5]; // of the zoomed part, as shares of width and height
    this.pixels = null;
    this.isFlat = false;
    this.signal = model.get("signal"); // shares of width and height: middle, crop
    this.actions = bindActions(model.get("key_table"), this.makeActions());
    this.build(model.get("unit"));
  }

  build(unit) {
    this.canvas = make("canvas", {
      class: "sh-canvas",
      role: "img",
      "aria-label": "no pattern yet",
    });
    this.note = make("div", { class: "sh-note" });
    this.readout = make("div", { class: "sh-readout", "aria-hidden": "true" });
    this.box = make("div", { class: "sh-box" }, this.canvas, this.note, this.readout);
    this.look = new Look(this.box);
    this.scale = new ColourScale(unit);
    this.element = make(
      "div",
      { class: "sh-viewer" },
      this.box,
      this.scale.element,
      make("div", { class: "sh-hint" }, "click the pattern to switch the keys on"),
    );
    this.controls = this.display.element;
    this.flatButton = actionButton(this.actions.flatten, "flatten", "sh-toggle");
    this.flatButton.setAttribute("aria-pressed", false);
    this.controls.lastElementChild.append(
      actionButton(this.actions.zoomOut, "zoom out"),
      actionButton(this.actions.zoomIn, "zoom in"),
      actionButton(this.actions.crop, "signal"),
      this.flatButton,
    );
    this.listenToPointer();
  }

  makeActions() {
    return {
      ...this.display.makeActions(),
      zoomIn: () => this.zoomBy(1),
      zoomOut: () => this.zoomBy(-1),
      crop: () => this.crop(),
      flatten: () => this.toggleFlat(),
    };
  }

  /** Show the square that holds nearly all signal, or the whole detector again. */
  crop() {
    const [left, top, right, bottom] = this.signal.crop;
    const fits = 1 / Math.max(right - left, bottom - top, 0.01);
    const zoom = this.zoom > 1 ? 1 : ZOOMS.findLast((each) => each <= fits);
    this.zoom = zoom ?? 1;
    this.centre = [(left + right) / 2, (top + bottom) / 2];
    this.draw();
  }

  /** Divide each pattern by its mean at each radius, or show it as it is. */
  toggleFlat() {
    this.isFlat = !this.isFlat;
    this.flatButton.setAttribute("aria-pressed", this.isFlat);
    this.draw();
  }

  zoomBy(steps) {
    const at = ZOOMS.indexOf(this.zoom) + steps;
    this.zoom = ZOOMS[Math.max(0, Math.min(ZOOMS.length - 1, at))];
    this.draw();
  }

  /** Show a pattern, or that it is still on its way. */
  show(pixels, pattern) {
    if (!pixels) {
      this.wait(`fetching pattern ${pattern}…`);
      return;
    }
    this.pixels = pixels;
    this.note.hidden = true;
    this.canvas.setAttribute("aria-label", `pattern ${pattern}`);
    this.draw();
    this.look.begin(pattern);
  }

  /** Say what is being waited for; what was drawn before stays, dimmed. */
  wait(text) {
    this.pixels = null;
    this.look.end();
    setText(this.note, text);
    this.note.hidden = false;
  }

  /** Draw the picture that is stored with the notebook, while no kernel answers. */
  async showPreview(png) {
    if (!png.byteLength) return;
    const picture = await createImageBitmap(
      new Blob([asBytes(png)], { type: "image/png" }),
    );
    if (this.pixels) return;
    Object.assign(this.canvas, { width: picture.width, height: picture.height });
    this.canvas.getContext("2d").drawImage(picture, 0, 0);
    this.canvas.setAttribute("aria-label", "the pattern stored with the notebook");
    this.fit(picture.height, picture.width);
    this.note.hidden = true;
  }

  draw() {
    const { display } = this;
    if (!this.pixels) return;
    const pixels = this.isFlat ? flatten(this.pixels, this.signal.middle) : this.pixels;
    paint(this.canvas, pixels, display.palette(pixels));
    this.scale.draw(pixels, display);
    this.fit(pixels.rows, pixels.columns);
  }

  /** Magnify small patterns by whole numbers, so that all pixels have one size. */
  fit(rows, columns) {
    const exact = BOX_PX / Math.max(rows, columns);
    const factor = exact >= 1 ? Math.floor(exact) : exact;
    this.element.style.setProperty("--sh-width", `${factor * columns}px`);
    this.element.style.setProperty("--sh-ratio", `${columns} / ${rows}`);
    const shift = this.centre.map((share) => 100 * (0.5 - this.keepInside(share)));
    this.canvas.style.transform = `scale(${this.zoom}) translate(${shift[0]}%, ${shift[1]}%)`;
    this.canvas.classList.toggle("sh-shrunk", factor * this.zoom < 1);
  }

  /** Move the middle of the zoomed part so that no edge of the pattern comes inside. */
  keepInside(share) {
    const half = 0.5 / this.zoom;
    return Math.max(half, Math.min(1 - half, share));
  }

  listenToPointer() {
    let grabbed = null;
    this.box.addEventListener("pointerdown", (event) => {
      const isZoomed = this.zoom > 1;
      grabbed = isZoomed && {
        x: event.clientX,
        y: event.clientY,
        centre: [...this.centre],
      };
    });
    this.box.addEventListener("pointermove", (event) => {
      if (grabbed) this.drag(event, grabbed);
      else this.readPixel(event);
    });
    for (const name of ["pointerup", "pointerleave", "pointercancel"]) {
      this.box.addEventListener(name, () => {
        grabbed = null;
        setText(this.readout, "");
      });
    }
  }

  drag(event, { x, y, centre }) {
    const { width, height } = this.box.getBoundingClientRect();
    this.centre = [
      this.keepInside(centre[0] - (event.clientX - x) / width / this.zoom),
      this.keepInside(centre[1] - (event.clientY - y) / height / this.zoom),
    ];
    this.draw();
  }

  readPixel(event) {
    if (!this.pixels) return;
    const { codes, rows, columns } = this.pixels;
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - top) / height) * rows);
    const column = Math.floor(((event.clientX - left) / width) * columns);
    const isInside = row >= 0 && row < rows && column >= 0 && column < columns;
    if (!isInside) return;
    const code = codes[row * columns + column];
    const value =
      code === BAD ? "bad pixel" : `≈ ${formatNumber(decodeValue(code, this.pixels))}`;
    setText(this.readout, `row ${row}, column ${column}: ${value}`);
  }
}
