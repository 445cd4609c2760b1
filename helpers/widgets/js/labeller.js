// Label one pattern after the other.

import {
  actionButton,
  asWidget,
  HelpPanel,
  isInSight,
  jumpField,
  KEY_NOTES,
  make,
  setText,
} from "./elements.js";
import { bindActions, Keys } from "./keys.js";
import { LabelPage } from "./label_page.js";
import { asBytes, asInt32 } from "./link.js";
import { ValueList, withoutModelValues } from "./pattern_values.js";
import { Viewer } from "./viewer.js";
import "./common.css";
import "./viewer.css";

const AHEAD = 8; // patterns fetched before they are needed

class Labeller extends LabelPage {
  constructor(model, el) {
    super(model);
    this.position = 0;
    this.whyEmpty = "";
    this.viewer = new Viewer(model);
    this.actions = bindActions(model.get("key_table"), {
      ...this.makeActions(),
      ...this.viewer.makeActions(),
    });
    this.cache = this.makeCache("fetch");
    this.build();
    el.append(this.root);
    this.connect({
      watched: [this.cache],
      handlers: { pixels: (content, buffers) => this.receive(content, buffers) },
    });
  }

  makeActions() {
    const labels = this.words.map((word) => [word, () => this.label(word)]);
    return {
      ...Object.fromEntries(labels),
      undo: () => this.undo(),
      back: () => this.goTo(this.position - 1),
      forward: () => this.goTo(this.position + 1),
      skip: () => this.goToUnlabelled(this.position),
      first: () => this.goToUnlabelled(-1),
      jump: () => this.jumpField.select(),
      help: () => this.help.toggle(),
    };
  }

  get look() {
    return this.viewer.look;
  }

  // --- labelling ------------------------------------------------------------------------

  /** Whether a label given now is certain to mean the pattern that the person sees. */
  mayLabel() {
    const isSeen = this.look.isSettledOn(this.pattern) && this.help.isHidden;
    return this.isFree && isSeen && this.patternIsInSight();
  }

  /** Somebody may have scrolled away while the keys still act here. */
  patternIsInSight() {
    if (isInSight(this.viewer.box)) return true;
    this.root.scrollIntoView({ block: "nearest" });
    return false;
  }

  label(word) {
    if (!this.mayLabel()) return;
    const { position, sheet, viewer } = this;
    const wasLabelled = sheet.isLabelled(position);
    const isRepeat = sheet.isBlind(position);
    this.give([this.pattern], word, viewer.look.since, viewer.display.words, isRepeat);
    this.goTo(this.afterLabel(position, wasLabelled));
  }

  /** A corrected label leads to the next pattern, a new one to the next unlabelled. */
  afterLabel(position, wasLabelled) {
    const next = Math.min(position + 1, this.sheet.order.length - 1);
    return wasLabelled ? next : (this.sheet.nextUnlabelled(position) ?? next);
  }

  undo() {
    if (this.isOpen && !this.outbox.isFull) this.outbox.add([{ kind: "undo" }]);
  }

  // --- moving ---------------------------------------------------------------------------

  get pattern() {
    return this.sheet.order[this.position];
  }

  goTo(position) {
    const n = this.sheet.order.length;
    this.position = Math.max(0, Math.min(n - 1, position));
    this.banner.clearNote();
    if (n === 0) this.viewer.wait(this.whyEmpty);
    else this.draw();
    this.cache.wantOnly(this.wanted());
    this.describe();
  }

  goToUnlabelled(after) {
    const next = this.sheet.nextUnlabelled(after);
    if (next === null)
      this.banner.show("Every pattern in this list has a label.", "good");
    else this.goTo(next);
  }

  goToPattern(pattern) {
    const { positions, repeatPositions } = this.sheet;
    const position = positions.get(pattern) ?? repeatPositions.get(pattern);
    if (position === undefined)
      this.banner.show(`Pattern ${pattern} is not in this list.`, "note");
    else this.goTo(position);
  }

  /** Go to where a pattern was labelled whose label has been taken back. */
  goBackTo(pattern, wasRepeat) {
    const repeat = this.sheet.repeatPositions.get(pattern);
    if (wasRepeat && repeat !== undefined) this.goTo(repeat);
    else this.goToPattern(pattern);
  }

  /** This pattern, those that labelling leads to, and the neighbours. */
  wanted() {
    const { order } = this.sheet;
    const coming = [this.position];
    for (let i = 0; i < AHEAD; i += 1) {
      const next = this.sheet.nextUnlabelled(coming.at(-1));
      if (next === null || coming.includes(next)) break;
      coming.push(next);
    }
    const positions = [
      ...coming,
      this.position + 1,
      this.position + 2,
      this.position - 1,
    ];
    const patterns = positions.map((position) => order[position]);
    return [...new Set(patterns)].filter((pattern) => pattern !== undefined);
  }

  // --- messages from the kernel ---------------------------------------------------------

  begin(content, [order, codes, repeats]) {
    const shown = this.startsAnew ? undefined : this.pattern;
    const wasBlind = shown !== undefined && this.sheet.isBlind(this.position);
    this.startsAnew = false;
    this.whyEmpty = content.why_empty;
    this.sheet.load(asInt32(order), asBytes(codes).slice(), asBytes(repeats).slice());
    this.applyUnsaved();
    this.showChoices(content);
    const { positions, repeatPositions } = this.sheet;
    const again = (wasBlind ? repeatPositions : positions).get(shown);
    this.goTo(again ?? this.sheet.nextUnlabelled(-1) ?? 0);
  }

  receive({ pattern, by, ...pixels }, [codes]) {
    this.cache.put(pattern, { ...pixels, codes: asBytes(codes) });
    if (!this.isUnsaved(pattern)) this.sheet.by.set(pattern, by);
    if (pattern !== this.pattern) return;
    if (this.viewer.look.what !== pattern) this.draw();
    this.describe();
  }

  // --- what is shown --------------------------------------------------------------------

  draw() {
    this.viewer.show(this.cache.get(this.pattern), this.pattern);
  }

  describe() {
    const { pattern, sheet } = this;
    const nBack = sheet.countRepeats(); // which they are stays untold
    const n = sheet.order.length;
    const of = nBack ? `${n - nBack} + ${nBack}` : n;
    this.progress.draw(sheet);
    setText(this.place, `${n ? this.position + 1 : 0} of ${of}`);
    if (pattern === undefined) return;
    const isBlind = sheet.isBlind(this.position);
    const word = sheet.wordAt(this.position);
    this.mark.className = `sh-mark sh-is-${word || "unlabelled"}`;
    setText(this.mark, word || "unlabelled");
    setText(this.who, isBlind ? "" : sheet.describeLabellers(pattern));
    this.labelButtons.forEach((button, i) => {
      button.setAttribute("aria-pressed", this.words[i] === word);
    });
    const values = this.cache.get(pattern)?.values ?? {};
    this.values.show(isBlind ? withoutModelValues(values) : values);
    if (document.activeElement !== this.jumpField) this.jumpField.value = pattern;
  }

  showPreview(png) {
    this.viewer.showPreview(png);
  }

  build() {
    this.help = new HelpPanel(Object.values(this.actions), KEY_NOTES);
    this.values = new ValueList(this.model.get("unit"));
    this.mark = make("span", { class: "sh-mark" });
    this.who = make("span", { class: "sh-who" });
    this.root = make(
      "div",
      { class: "sh sh-labeller", role: "group", "aria-label": "labeller" },
      this.makeHead(),
      this.banner.element,
      make("div", { class: "sh-main" }, this.viewer.element, this.makeSide()),
      this.help.element,
      this.spoken,
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
    return make(
      "div",
      { class: "sh-head" },
      actionButton(actions.back, "back"),
      make("label", { class: "sh-jump" }, "pattern", this.jumpField),
      actionButton(actions.forward, "next"),
      this.place,
      this.choicesRow,
      this.saving,
      actionButton(actions.help, "keys"),
    );
  }

  makeSide() {
    const { actions, words } = this;
    this.labelButtons = words.map((word) =>
      actionButton(actions[word], word, `sh-label sh-is-${word}`),
    );
    const undo = actionButton(actions.undo, "undo", "sh-undo");
    return make(
      "div",
      { class: "sh-side" },
      make(
        "div",
        { class: "sh-labels", role: "group", "aria-label": "label" },
        ...this.labelButtons,
        undo,
      ),
      make(
        "div",
        { class: "sh-row" },
        actionButton(actions.skip, "skip"),
        actionButton(actions.first, "first unlabelled"),
      ),
      make("div", { class: "sh-verdict" }, this.mark, this.who),
      this.values.element,
      this.progress.element,
      this.viewer.controls,
    );
  }
}

export default asWidget(Labeller);
