// Drawing on canvases, the colour scale, and what can be seen since when.

import { LEVELS, makeScale, tableColour, thinTicks, tickValues } from "./colours.js";
import { formatNumber, make } from "./elements.js";

/** Draw bytes on a canvas, one byte a canvas pixel. */
export function paint(canvas, { codes, rows, columns }, palette) {
  if (canvas.width !== columns) canvas.width = columns;
  if (canvas.height !== rows) canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const colours = new Uint32Array(image.data.buffer);
  for (let i = 0; i < codes.length; i += 1) colours[i] = palette[codes[i]];
  context.putImageData(image, 0, 0);
}

/** The colour scale beside a pattern, with numbers. */
export class ColourScale {
  constructor(unit) {
    this.canvas = make("canvas", { width: 1, height: 256, class: "sh-scale-colours" });
    this.ticks = make("div", { class: "sh-scale-ticks" });
    this.unit = make("div", { class: "sh-scale-unit" }, unit);
    const body = make("div", { class: "sh-scale-body" }, this.canvas, this.ticks);
    this.element = make(
      "div",
      { class: "sh-scale", "aria-hidden": "true" },
      this.unit,
      body,
    );
  }

  draw(pixels, { settings, tables }) {
    this.drawColours(settings, tables);
    const scale = makeScale(pixels, settings);
    const ticks = thinTicks(tickValues(scale, settings.linear), scale).map((value) =>
      make(
        "span",
        { style: `bottom: ${100 * scale.place(value)}%` },
        formatNumber(value),
      ),
    );
    this.ticks.replaceChildren(...ticks);
  }

  drawColours(settings, tables) {
    const codes = Uint8Array.from({ length: 256 }, (_, row) =>
      Math.min(LEVELS, 255 - row),
    );
    const palette = Uint32Array.from(codes.keys(), (entry) =>
      tableColour(tables, settings.map, entry),
    );
    paint(this.canvas, { codes, rows: 256, columns: 1 }, palette);
  }
}

const DOUBLE_PRESS_MS = 150; // a key this soon after a new picture was meant for the last

/** What can be seen in an element, and since when; `aria-busy` while it is too new. */
export class Look {
  constructor(element) {
    this.element = element;
    this.end();
  }

  /** Something was drawn: the browser paints it with the next frame. */
  begin(what) {
    this.end();
    this.what = what;
    this.frame = requestAnimationFrame(() => {
      this.since = performance.now();
      this.timer = setTimeout(
        () => this.element.setAttribute("aria-busy", "false"),
        DOUBLE_PRESS_MS,
      );
    });
  }

  /** What can be seen is not what is meant any more. */
  end() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    this.what = null;
    this.since = Infinity;
    this.element.setAttribute("aria-busy", "true");
  }

  isSettledOn(what) {
    return what === this.what && performance.now() - this.since >= DOUBLE_PRESS_MS;
  }
}
