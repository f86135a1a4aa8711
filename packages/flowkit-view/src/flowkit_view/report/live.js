"use strict";
(() => {
  const source = new EventSource(document.documentElement.dataset.events);
  const busy = () => document.querySelector("details[open]") !== null || (document.getElementById("search")?.value ?? "") !== "";
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
