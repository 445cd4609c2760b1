// What a map of points must know of its page: whether it can be drawn there, and on
// which background, so that it follows the theme.

import { make } from "./elements.js";
import "./common.css";

const ADVICE =
  "This browser offers no WebGL, so the map cannot be drawn here. Choose a cluster " +
  "in the list instead: its patterns come into the gallery. The figure above shows " +
  "the map.";
const THEME_LOADS_MS = 500; // a theme's name is there sooner than its colours

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") ?? canvas.getContext("webgl"));
}

/** The colour behind an element, [red, green, blue] of 255: the nearest that is opaque. */
function findBackground(element) {
  for (let each = element; each; each = each.parentElement) {
    const [red, green, blue, opacity = 1] = (
      getComputedStyle(each).backgroundColor.match(/[\d.]+/g) ?? [0, 0, 0, 0]
    ).map(Number);
    if (opacity === 1) return [red, green, blue];
  }
  return [255, 255, 255];
}

export default {
  render({ model, el }) {
    const look = () => {
      if (!el.isConnected) return;
      model.set("background", findBackground(el));
      model.save_changes();
    };
    if (!hasWebGL())
      el.append(make("div", { class: "sh-no-webgl", role: "alert" }, ADVICE));
    const lookSoon = () => {
      look();
      setTimeout(look, THEME_LOADS_MS);
    };
    requestAnimationFrame(lookSoon);
    const watch = new MutationObserver(lookSoon);
    for (const each of [document.documentElement, document.body])
      watch.observe(each, { attributes: true });
    return () => watch.disconnect();
  },
};
