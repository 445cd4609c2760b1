// The parts of a gallery: small patterns, their scores, one enlarged.

import { paint } from "./drawing.js";
import { formatNumber, make, setText } from "./elements.js";
import { ValueList } from "./pattern_values.js";

/** One small pattern on a page; its elements are used again for every page. */
export class Thumb {
  constructor(place, { click, enter, leave }) {
    this.canvas = make("canvas", { class: "sh-thumb-canvas" });
    this.number = make("span");
    this.score = make("span");
    this.mark = make("span", { class: "sh-thumb-mark" });
    this.element = make(
      "div",
      {
        class: "sh-thumb",
        role: "option",
        "aria-selected": "false",
        click: (event) => click(place, event),
        pointerenter: (event) => enter(place, event),
        pointerleave: leave,
      },
      this.canvas,
      this.mark,
      make("span", { class: "sh-thumb-foot" }, this.number, this.score),
    );
  }

  get isPainted() {
    return this.element.dataset.painted === "true";
  }

  draw(pixels, display) {
    this.element.dataset.painted = Boolean(pixels);
    if (pixels) paint(this.canvas, pixels, display.palette(pixels));
  }

  describe(pattern, score, word) {
    setText(this.number, String(pattern));
    setText(this.score, score === null ? "" : formatNumber(score));
    setText(this.mark, word);
    this.element.className = `sh-thumb sh-is-${word || "unlabelled"}`;
    this.element.setAttribute(
      "aria-label",
      `pattern ${pattern}, ${word || "unlabelled"}`,
    );
  }
}

/** The scores of the patterns in a gallery. */
export class Scores {
  constructor(patterns, scores) {
    this.scores = new Map(Array.from(scores, (score, i) => [patterns[i], score]));
  }

  of(pattern) {
    const score = this.scores.get(pattern);
    return score === undefined || Number.isNaN(score) ? null : score;
  }

  /** Whether patterns stand by falling or by rising score. */
  areSorted(patterns) {
    const scores = patterns
      .map((pattern) => this.of(pattern))
      .filter((score) => score !== null);
    const falls = scores.every((score, i) => i === 0 || score <= scores[i - 1]);
    return (
      scores.length > 0 &&
      (falls || scores.every((score, i) => i === 0 || score >= scores[i - 1]))
    );
  }

  /** How many of a sorted list stand before the threshold is crossed. */
  beforeThreshold(patterns, threshold) {
    const isAbove = (pattern) => this.of(pattern) >= threshold;
    const crossing = patterns.findIndex(
      (pattern) => isAbove(pattern) !== isAbove(patterns[0]),
    );
    return crossing < 0 ? patterns.length : crossing;
  }
}

/** One pattern, large, floating beside its thumbnail. */
export class Enlarged {
  constructor(unit) {
    this.pattern = null;
    this.stays = false; // with the cursor, and not only while the pointer rests
    this.canvas = make("canvas", { class: "sh-large-canvas" });
    this.title = make("div", { class: "sh-large-title" });
    this.values = new ValueList(unit);
    this.element = make(
      "div",
      { class: "sh-large", hidden: "" },
      this.canvas,
      this.title,
      this.values.element,
    );
  }

  hide() {
    this.pattern = null;
    this.element.hidden = true;
  }

  draw(pattern, pixels, display, words) {
    this.pattern = pattern;
    this.element.hidden = false;
    paint(this.canvas, pixels, display.palette(pixels));
    setText(this.title, `pattern ${pattern}: ${words}`);
    this.values.show(pixels.values ?? {});
  }

  /** Stand to the right of the thumbnail, or to the left where there is no room. */
  placeBeside(thumb, root) {
    const { element } = this;
    const grid = thumb.offsetParent;
    const right = grid.offsetLeft + thumb.offsetLeft + thumb.offsetWidth + 8;
    const left = grid.offsetLeft + thumb.offsetLeft - element.offsetWidth - 8;
    const fits = right + element.offsetWidth < root.clientWidth;
    const lowest = root.clientHeight - element.offsetHeight - 8;
    element.style.left = `${Math.max(0, fits ? right : left)}px`;
    element.style.top = `${Math.max(0, Math.min(grid.offsetTop + thumb.offsetTop, lowest))}px`;
  }
}
