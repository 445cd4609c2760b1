// What is known of a pattern besides its picture.

// What a model or another stage says; hidden where a pattern is judged again, blind.
const OPINIONS = ["prediction", "distance", "rank", "why"];

const FACT_WORDS = {
  why: "why:",
  hit_score: "hit score",
  prediction: "prediction",
  distance: "distance",
  rank: "rank",
};
const FACT_TITLES = {
  why: "why this pattern is asked for",
  hit_score: "higher = more signal",
  prediction: "probability of a single hit, according to the model",
  distance: "to the nearest template; smaller = more alike",
  rank: "by distance to the nearest template, counted from 1",
};

function withoutOpinions(facts) {
  return Object.fromEntries(
    Object.entries(facts).filter(([name]) => !OPINIONS.includes(name)),
  );
}

class FactList {
  /** `unit` is that of the patterns: the photons of patterns in ADU are a sum of ADU. */
  constructor(unit) {
    this.words = { ...FACT_WORDS, photons: unit === "ADU" ? "sum, ADU" : "photons" };
    this.element = make("div", {
      class: "sh-facts",
      role: "group",
      "aria-label": "known of this pattern",
    });
    this.shown = "";
  }

  show(facts) {
    const text = JSON.stringify(facts);
    if (text === this.shown) return;
    this.shown = text;
    this.element.replaceChildren(
      ...Object.entries(facts).map(([name, value]) => this.makeRow(name, value)),
    );
  }

  makeRow(name, value) {
    const title = FACT_TITLES[name] ?? null;
    return make(
      "div",
      { class: "sh-fact", title },
      `${this.words[name]} `,
      make("b", {}, typeof value === "string" ? value : sayNumber(value)),
    );
  }
}
