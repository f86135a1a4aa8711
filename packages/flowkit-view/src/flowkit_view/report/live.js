"use strict";
(() => {
  const source = new EventSource(document.documentElement.dataset.events);
  const open = () => [...document.querySelectorAll("details[open]")];
  const openAtFirst = new Set(open());
  const chosen = (id) => (document.getElementById(id)?.value ?? "") !== "";
  const busy = () =>
    open().some((each) => !openAtFirst.has(each)) || chosen("search") || chosen("state") || document.querySelector("th[aria-sort]") !== null;
  const button = document.getElementById("changed");
  button.addEventListener("click", () => location.reload());
  source.addEventListener("message", () => {
    if (busy()) {
      button.hidden = false;
    } else {
      location.reload();
    }
  });
})();
