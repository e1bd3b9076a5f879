// All that scripts do here: live figures, and "/" to get to the search. Every page works without it.
"use strict";

const counts = document.querySelector("[data-live]");
if (counts && window.EventSource) {
  const source = new EventSource("/live");
  source.onmessage = (event) => {
    const figures = JSON.parse(event.data);
    for (const shown of counts.querySelectorAll("[data-count]")) {
      const text = (figures[shown.dataset.count] || 0).toLocaleString("en-US");
      if (shown.textContent !== text) {
        shown.textContent = text;
        shown.classList.remove("changed");
        void shown.offsetWidth; // so that the animation begins anew
        shown.classList.add("changed");
      }
    }
  };
}

document.addEventListener("keydown", (event) => {
  const search = document.querySelector("[role=search] input:not([type=hidden])");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || !search) return;
  if (event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  search.focus();
  search.select();
});
