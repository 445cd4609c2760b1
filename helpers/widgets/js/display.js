// How patterns are drawn: what the person can change, by key and by button.

import { brightest, firstSettings, makePalette } from "./colours.js";
import { actionButton, choice, make } from "./elements.js";
import { bindActions } from "./keys.js";
import { asBytes } from "./link.js";

/**
 * The display settings of one widget; `onChange` draws anew, `shown` gives the pixels of
 * all patterns that can be seen.
 */
export class Display {
  constructor(model, { onChange, shown }) {
    this.tables = asBytes(model.get("colour_tables"));
    this.mapNames = model.get("colour_maps");
    this.onChange = onChange;
    this.shown = shown;
    this.settings = firstSettings();
    this.actions = bindActions(model.get("key_table"), this.makeActions());
    this.element = this.makeControls();
  }

  palette(pixels) {
    return makePalette(pixels, this.settings, this.tables);
  }

  change(part) {
    Object.assign(this.settings, part);
    this.show();
    this.onChange();
  }

  /** Move a setting by a step between its ends. */
  shift(name, by, low, high) {
    this.change({ [name]: Math.max(low, Math.min(high, this.settings[name] + by)) });
  }

  /** Keep the scale of what is seen now for all patterns, or give each its own. */
  hold() {
    const tops = this.shown().map((pixels) =>
      brightest(pixels, { ...this.settings, stops: 0 }),
    );
    const isHeld = this.settings.heldTop !== null;
    this.change({ heldTop: isHeld || tops.length === 0 ? null : Math.max(...tops) });
  }

  makeActions() {
    const { settings } = this;
    return {
      linear: () => this.change({ linear: !settings.linear }),
      map: () => this.change({ map: (settings.map + 1) % this.mapNames.length }),
      darker: () => this.shift("stops", -0.5, -4, 10),
      brighter: () => this.shift("stops", 0.5, -4, 10),
      floorDown: () => this.shift("floor", -0.05, 0, 0.8),
      floorUp: () => this.shift("floor", 0.05, 0, 0.8),
      hold: () => this.hold(),
      bad: () => this.change({ showBad: !settings.showBad }),
      reset: () => this.change(firstSettings()),
    };
  }

  makeControls() {
    const { actions } = this;
    this.stops = this.makeSlider("brightness", "stops", -4, 10, 0.5);
    this.floor = this.makeSlider("floor", "floor", 0, 0.8, 0.05);
    this.maps = choice("colour map", this.mapNames, this.mapNames[0], (name) =>
      this.change({ map: this.mapNames.indexOf(name) }),
    );
    this.linear = actionButton(actions.linear, "linear", "sh-toggle");
    this.held = actionButton(actions.hold, "same scale", "sh-toggle");
    this.bad = actionButton(actions.bad, "bad pixels", "sh-toggle");
    const element = make(
      "div",
      { class: "sh-display", role: "group", "aria-label": "display" },
      make("div", { class: "sh-row" }, this.stops.label, this.floor.label),
      make(
        "div",
        { class: "sh-row" },
        this.maps,
        this.linear,
        this.held,
        this.bad,
        actionButton(actions.reset, "reset"),
      ),
    );
    this.show();
    return element;
  }

  makeSlider(word, name, min, max, step) {
    const input = make("input", { type: "range", min, max, step, "aria-label": word });
    input.addEventListener("input", () => this.change({ [name]: Number(input.value) }));
    return {
      input,
      label: make("label", { class: "sh-slider" }, make("span", {}, word), input),
    };
  }

  show() {
    const { settings } = this;
    this.stops.input.value = settings.stops;
    this.floor.input.value = settings.floor;
    this.maps.value = this.mapNames[settings.map];
    this.linear.setAttribute("aria-pressed", settings.linear);
    this.held.setAttribute("aria-pressed", settings.heldTop !== null);
    this.bad.setAttribute("aria-pressed", settings.showBad);
  }

  /** What the labeller sees, to be kept with the label. */
  get words() {
    const { linear, map, stops, floor } = this.settings;
    const scale = linear ? "linear" : "log";
    return `${scale}, ${this.mapNames[map]}, brightness ${stops}, floor ${floor}`;
  }
}
