// Says where a map of points cannot be drawn, and what to do instead.

import { make } from "./elements.js";
import "./common.css";

const ADVICE =
  "This browser offers no WebGL, so the map cannot be drawn here. Choose a cluster " +
  "in the list instead: its patterns come into the gallery. The figure above shows " +
  "the map.";

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") ?? canvas.getContext("webgl"));
}

export default {
  render({ model, el }) {
    const offers = hasWebGL();
    model.set("offers_webgl", offers);
    model.save_changes();
    if (offers) return;
    const note = make("div", { class: "sh-no-webgl", role: "alert" }, ADVICE);
    el.append(note);
  },
};
