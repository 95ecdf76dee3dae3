"use strict";
// Filters the claims by words, topic, week and what they have; opens the one that the address names. The filter is in
// the address too, page.html?search=tweedie&topic=score, so that it can be sent to somebody.
(() => {
  const at = (id) => document.getElementById(id);
  const FILTERS = ["search", "topic", "week", "only"];
  const claims = [...document.querySelectorAll(".claim")];
  const topics = [...document.querySelectorAll(".topic")];

  const filter = () => {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [, topic, week, only] = FILTERS.map((id) => at(id).value);
    let found = 0;
    for (const claim of claims) {
      const { dataset } = claim;
      const fits = words.every((word) => dataset.words.includes(word))
        && (!topic || dataset.topic === topic) && (!week || dataset.week === week)
        && (!only || dataset.has.split(" ").includes(only));
      claim.hidden = !fits;
      found += fits;
    }
    for (const section of topics) section.hidden = !section.querySelector(".claim:not([hidden])");
    at("found").textContent = `${found} of ${claims.length} claims`;
  };

  const filterAgain = () => {
    filter();
    const address = new URL(location);
    for (const id of FILTERS) at(id).value ? address.searchParams.set(id, at(id).value) : address.searchParams.delete(id);
    history.replaceState(null, "", address);
  };

  const follow = () => {
    const claim = at(decodeURIComponent(location.hash.slice(1)));
    if (!claim || !claim.classList.contains("claim")) return;
    if (claim.hidden) { for (const id of FILTERS) at(id).value = ""; filterAgain(); }
    claim.querySelector("details").open = true;
    claim.scrollIntoView();
  };

  for (const id of FILTERS) at(id).addEventListener("input", filterAgain);
  at("all").addEventListener("click", () => {
    const shown = claims.filter((claim) => !claim.hidden).map((claim) => claim.querySelector("details"));
    const open = shown.some((details) => !details.open);
    for (const details of shown) details.open = open;
    at("all").textContent = open ? "close all" : "open all";
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName)) { event.preventDefault(); at("search").focus(); }
  });
  addEventListener("hashchange", follow);
  for (const [id, value] of new URLSearchParams(location.search)) if (FILTERS.includes(id)) at(id).value = value;
  filter();
  follow();
})();
