"use strict";
// Draws the plots in the colours of the page's style: each when it comes near the window, and the
// others when the browser has time, since printing does not wait for them.
(() => {
  const items = JSON.parse(document.getElementById("plots").textContent);
  const documents = [];

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // A model says in its tags which of its colours is which of the style's.
  const paint = (made) => {
    for (const model of made._all_models.values()) {
      for (const tag of model.tags || []) {
        const [property, name] = tag.split("=");
        model[property] = typeof model[property] === "object" ? { value: colour(name) } : colour(name);
      }
    }
  };

  const draw = async (place) => {
    const item = items[place.id];
    if (!item) return;
    delete items[place.id];
    await Bokeh.embed.embed_item(item, place.id);
    const made = Bokeh.documents.find((own) => own.roots().some((root) => root.id === item.root_id));
    documents.push(made);
    paint(made);
    place.dataset.drawn = "";
  };

  const places = [...document.querySelectorAll(".plot")];
  const watch = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      watch.unobserve(entry.target);
      draw(entry.target);
    }),
    { rootMargin: "600px" },
  );
  places.forEach((place) => watch.observe(place));

  const whenIdle = window.requestIdleCallback || ((task) => setTimeout(task, 50));
  const drawNext = async () => {
    const place = places.find((own) => own.id in items);
    if (!place) return;
    watch.unobserve(place);
    try {
      await draw(place);
    } finally {
      whenIdle(drawNext);
    }
  };
  addEventListener("load", () => whenIdle(drawNext));
  addEventListener("beforeprint", () => places.forEach(draw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => documents.forEach(paint));
})();
