/* The beginning: the report's data, written into the page as JSON, to its parts. */
"use strict";

{
  const { byId, make } = Dom;
  const report = JSON.parse(byId("data").textContent);
  byId("title").textContent = report.title;
  byId("about").textContent = report.about;
  byId("made").textContent = report.made;
  Dom.startTheme();
  Table.start(report);
  Runs.start(report);
  Player.start(report);
  Chart.start(report);
  const parts = [...document.querySelectorAll("main > section:not([hidden])")];
  byId("parts").replaceChildren(...parts.map((part) => make("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
  if (location.hash.startsWith("#run-")) Runs.open(location.hash.slice(5));
  document.documentElement.dataset.ready = "yes";
}
