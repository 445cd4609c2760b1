// Look through the patterns; nothing is written.

import {
  actionButton,
  asWidget,
  Banner,
  choice,
  HelpPanel,
  jumpField,
  KEY_NOTES,
  make,
  setText,
} from "./elements.js";
import { bindActions, Keys } from "./keys.js";
import { asBytes, asInt32, Link, PatternCache } from "./link.js";
import { ValueList } from "./pattern_values.js";
import { Viewer } from "./viewer.js";
import "./common.css";
import "./viewer.css";

const AROUND = [0, 1, 2, 3, 4, -1, -2]; // fetched before they are needed

class Browser {
  constructor(model, el) {
    this.model = model;
    this.order = new Int32Array(0);
    this.position = 0;
    this.chosen = "";
    this.viewer = new Viewer(model);
    this.actions = bindActions(model.get("key_table"), {
      ...this.makeActions(),
      ...this.viewer.makeActions(),
    });
    this.cache = new PatternCache((patterns) =>
      this.link.send({ kind: "fetch", patterns }),
    );
    this.build();
    el.append(this.root);
    this.link = new Link(model, this.root, {
      watched: [this.cache],
      greeting: () => ({ order: this.chosen }),
      onStateChange: (name) => this.showState(name),
      handlers: {
        state: (content, buffers) => this.begin(content, buffers),
        pixels: (content, buffers) => this.receive(content, buffers),
        trouble: (content) => this.banner.show(content.message),
      },
    });
  }

  makeActions() {
    return {
      back: () => this.goTo(this.position - 1),
      forward: () => this.goTo(this.position + 1),
      farBack: () => this.goTo(this.position - 10),
      farForward: () => this.goTo(this.position + 10),
      byScore: () => this.nextByScore(),
      jump: () => this.jumpField.select(),
      help: () => this.help.toggle(),
    };
  }

  get pattern() {
    return this.order[this.position];
  }

  goTo(position) {
    const last = this.order.length - 1;
    this.position = Math.max(0, Math.min(last, position));
    this.banner.clearNote();
    const around = AROUND.map((step) => this.order[this.position + step]);
    this.cache.wantOnly(around.filter((pattern) => pattern !== undefined));
    this.draw();
  }

  goToPattern(pattern) {
    const position = this.order.indexOf(pattern);
    if (position < 0) this.banner.show(`There is no pattern ${pattern}.`, "note");
    else this.goTo(position);
  }

  nextByScore() {
    if (this.chosen === "hit score") this.goTo(this.position + 1);
    else this.choose("hit score");
  }

  choose(order) {
    this.chosen = order;
    this.startsAnew = true;
    this.link.hello();
  }

  begin({ orders, order }, [index]) {
    const shown = this.pattern ?? this.model.get("start");
    this.order = asInt32(index);
    this.chosen = order;
    this.slider.max = this.order.length - 1;
    this.scoreButton.hidden = !orders.includes("hit score");
    this.choicesRow.replaceChildren(
      choice("order of patterns", orders, order, (name) => this.choose(name)),
    );
    this.goTo(this.startsAnew ? 0 : this.order.indexOf(shown));
    this.startsAnew = false;
  }

  receive({ pattern, ...pixels }, [codes]) {
    this.cache.put(pattern, { ...pixels, codes: asBytes(codes) });
    if (pattern === this.pattern && this.viewer.look.what !== pattern) this.draw();
  }

  draw() {
    const { pattern } = this;
    const pixels = this.cache.get(pattern);
    this.viewer.show(pixels, pattern);
    this.values.show(pixels?.values ?? {});
    this.slider.value = this.position;
    setText(this.place, `${this.position + 1} of ${this.order.length}`);
    if (document.activeElement !== this.jumpField) this.jumpField.value = pattern;
  }

  showState(name) {
    this.banner.tellAboutKernel(name);
    if (name === "dead" && this.order.length === 0)
      this.viewer.showPreview(this.model.get("preview"));
  }

  build() {
    this.banner = new Banner();
    this.help = new HelpPanel(Object.values(this.actions), KEY_NOTES);
    this.values = new ValueList(this.model.get("unit"));
    this.slider = make("input", {
      type: "range",
      class: "sh-wide",
      min: 0,
      value: 0,
      "aria-label": "position in the order",
      input: () => this.goTo(Number(this.slider.value)),
    });
    this.root = make(
      "div",
      { class: "sh sh-browser", role: "group", "aria-label": "pattern browser" },
      this.makeHead(),
      this.slider,
      this.banner.element,
      make("div", { class: "sh-main" }, this.viewer.element, this.makeSide()),
      this.help.element,
    );
    this.keys = new Keys(this.root, Object.values(this.actions), this.help);
    this.viewer.wait("waiting for the kernel…");
  }

  makeHead() {
    const { actions } = this;
    this.jumpField = jumpField(
      (pattern) => this.goToPattern(pattern),
      () => this.keys.focus(),
    );
    this.place = make("span", { class: "sh-place" });
    this.choicesRow = make("span", { class: "sh-choices" });
    this.scoreButton = actionButton(actions.byScore, "next by hit score");
    return make(
      "div",
      { class: "sh-head" },
      actionButton(actions.back, "back"),
      make("label", { class: "sh-jump" }, "pattern", this.jumpField),
      actionButton(actions.forward, "next"),
      this.place,
      this.choicesRow,
      this.scoreButton,
      actionButton(actions.help, "keys", "sh-last"),
    );
  }

  makeSide() {
    return make("div", { class: "sh-side" }, this.values.element, this.viewer.controls);
  }

  close() {
    this.link.close();
  }
}

export default asWidget(Browser);
