// The labels of a stack as a page knows them, in whatever order the patterns stand.

const UNLABELLED = 0;
const MOST_TIMES = 200; // by which the speed is told

export class LabelSheet {
  /**
   * `words` are the label words; in `codes` (one byte a pattern of the whole stack)
   * 0 means unlabelled and k the k-th word.
   */
  constructor(words, labeller) {
    this.words = words;
    this.labeller = labeller;
    this.order = new Int32Array(0);
    this.codes = new Uint8Array(0);
    this.repeats = new Uint8Array(0);
    this.by = new Map(); // pattern -> { labeller: word }
    this.repeated = new Set(); // patterns that came back and were labelled again, blind
    this.times = []; // in ms, of the latest labels given here
  }

  /** `repeats`, one byte a position, says where a pattern comes back, blind. */
  load(order, codes, repeats = new Uint8Array(order.length)) {
    this.order = order;
    this.codes = codes;
    this.repeats = repeats;
    this.repeated.clear(); // the kernel sends no repeat of those
    this.positions = new Map();
    this.repeatPositions = new Map();
    order.forEach((pattern, position) => {
      const positions = repeats[position] ? this.repeatPositions : this.positions;
      positions.set(pattern, position);
    });
  }

  wordOf(pattern) {
    return this.codes[pattern] === UNLABELLED
      ? ""
      : this.words[this.codes[pattern] - 1];
  }

  /** Set what a pattern is; returns what is needed to put it back. */
  set(pattern, word, by = null) {
    const before = { pattern, word: this.wordOf(pattern), by: this.by.get(pattern) };
    this.codes[pattern] = word === "" ? UNLABELLED : 1 + this.words.indexOf(word);
    this.by.set(pattern, by ?? { ...before.by, [this.labeller]: word });
    return before;
  }

  noteRepeats(patterns, isRepeated) {
    for (const pattern of patterns) {
      if (isRepeated) this.repeated.add(pattern);
      else this.repeated.delete(pattern);
    }
  }

  /** Whether a pattern came back to this position and its label is not to be seen. */
  isBlind(position) {
    const pattern = this.order[position];
    return (
      Boolean(this.repeats[position]) &&
      this.codes[pattern] !== UNLABELLED &&
      !this.repeated.has(pattern)
    );
  }

  codeAt(position) {
    return this.isBlind(position) ? UNLABELLED : this.codes[this.order[position]];
  }

  wordAt(position) {
    return this.isBlind(position) ? "" : this.wordOf(this.order[position]);
  }

  putBack({ pattern, word, by }) {
    this.set(pattern, word, by ?? {});
  }

  /** Who gave this label: "by you, bob"; and who another one: "multiple by carol". */
  describeLabellers(pattern) {
    const word = this.wordOf(pattern);
    const by = Object.entries(this.by.get(pattern) ?? {}).filter(
      ([, given]) => given !== "",
    );
    const name = (who) => (who === this.labeller ? "you" : who);
    const same = by.filter(([, given]) => given === word).map(([who]) => name(who));
    const others = by.filter(([, given]) => given !== word);
    const agreeing = same.length ? [`by ${same.join(", ")}`] : [];
    return [
      ...agreeing,
      ...others.map(([who, given]) => `${given} by ${name(who)}`),
    ].join("; ");
  }

  isLabelled(position) {
    if (this.repeats[position]) return !this.isBlind(position);
    return this.codeAt(position) !== UNLABELLED;
  }

  /** The first unlabelled position after one, from the start again after the end. */
  nextUnlabelled(after) {
    const n = this.order.length;
    for (let step = 1; step <= n; step += 1) {
      const position = (after + step) % n;
      if (!this.isLabelled(position)) return position;
    }
    return null;
  }

  /** Patterns by label, each once: what comes back blind is counted apart. */
  counts() {
    const counts = new Array(this.words.length + 1).fill(0);
    for (const position of this.order.keys()) {
      if (!this.repeats[position]) counts[this.codeAt(position)] += 1;
    }
    return counts;
  }

  /** How many places of the list are of patterns that come back. */
  countRepeats() {
    return this.repeats.reduce((n, isRepeat) => n + (isRepeat ? 1 : 0), 0);
  }

  noteLabels(n, now) {
    const counted = new Array(Math.min(n, MOST_TIMES)).fill(now);
    this.times = [...this.times, ...counted].slice(-MOST_TIMES);
  }

  /** Labels per minute over the latest labels; a pause of a minute starts anew. */
  perMinute() {
    const { times } = this;
    const pause = times.findLastIndex((time, i) => time - times[i - 1] > 60000);
    const recent = times.slice(Math.max(0, pause));
    const lasted = recent.at(-1) - recent[0];
    return recent.length > 2 && lasted > 0
      ? (60000 * (recent.length - 1)) / lasted
      : null;
  }
}
