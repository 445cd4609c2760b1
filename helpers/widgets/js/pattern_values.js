// The numbers and words shown beside a pattern: see PatternTable in pattern_table.py.

import { formatNumber, make } from "./elements.js";

// From a model or a ranking; hidden where a pattern is judged again, blind.
const MODEL_VALUES = ["prediction", "distance", "rank", "cluster", "why"];

const VALUE_NAMES = {
  why: "why:",
  hit_score: "hit score",
  prediction: "prediction",
  distance: "distance",
  rank: "rank",
  cluster: "cluster",
};

const VALUE_TITLES = {
  why: "why this pattern is asked for",
  hit_score: "higher = more signal",
  prediction: "probability of a single hit, according to the model",
  distance: "to the nearest template; smaller = more alike",
  rank: "by distance to the nearest template, counted from 1",
  cluster: "on the map of the patterns; the largest is 0",
};

export function withoutModelValues(values) {
  return Object.fromEntries(
    Object.entries(values).filter(([name]) => !MODEL_VALUES.includes(name)),
  );
}

export class ValueList {
  /** `unit` is that of the patterns: the photons of patterns in ADU are a sum of ADU. */
  constructor(unit) {
    this.words = { ...VALUE_NAMES, photons: unit === "ADU" ? "sum, ADU" : "photons" };
    this.element = make("div", {
      class: "sh-values",
      role: "group",
      "aria-label": "known of this pattern",
    });
    this.shown = "";
  }

  show(values) {
    const text = JSON.stringify(values);
    if (text === this.shown) return;
    this.shown = text;
    this.element.replaceChildren(
      ...Object.entries(values).map(([name, value]) => this.makeRow(name, value)),
    );
  }

  makeRow(name, value) {
    const title = VALUE_TITLES[name] ?? null;
    return make(
      "div",
      { class: "sh-value", title },
      `${this.words[name]} `,
      make("b", {}, typeof value === "string" ? value : formatNumber(value)),
    );
  }
}
