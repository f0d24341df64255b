/* The runs: command, config and figures of every job, to be read and copied; and the pictures, which can be zoomed. */
"use strict";

const Runs = (() => {
  const { byId, make, copy } = Dom;

  /** Open the details of a job, and leave the browser to scroll there. */
  function open(id) {
    const found = byId(`run-${id}`);
    if (found) found.open = true;
  }

  /** A text with a button that copies it; null: it did not fit into the page. */
  function block(title, text) {
    if (text === "") return [];
    if (text === null) return [make("h3", {}, title), make("p", { class: "hint" }, "in the job's folder: a page of 6 MB does not hold it for so many jobs")];
    const button = make("button", { type: "button", click: (event) => copy(text, event.currentTarget) }, "Copy");
    return [make("h3", {}, title, button), make("pre", { tabindex: "0" }, text)];
  }

  function details(job, index) {
    const tags = [job.verb, job.state, job.name, ...job.tags].filter(Boolean);
    const marks = tags.map((tag) => make("span", { class: `tag ${tag === "failed" ? "failed" : ""}` }, tag));
    const parts = () => [
      job.error ? make("p", { class: "failed" }, job.error) : null,
      make("p", { class: "hint" }, [job.id, job.date, job.folder, job.directory && `begun in ${job.directory}`].filter(Boolean).join("  ·  ")),
      ...block("Command", job.command),
      ...block("Config", job.config),
      ...block("Summary", job.summary),
      ...block("Where it comes from", job.origin),
    ];
    const inner = make("div", { class: "run" });
    const fill = () => inner.childElementCount || inner.append(...parts().filter(Boolean)); // text of many jobs is laid out when it is read
    return make("details", { id: `run-${index}`, toggle: fill }, make("summary", {}, job.title, ...marks), inner);
  }

  /** A picture at full size: wheel or + and - zoom, dragging or the arrows move, 0 fits it into the window. */
  function startZoom() {
    const area = byId("zoom-area"), image = byId("zoom-image"), dialog = byId("zoom");
    let scale = 1, left = 0, top = 0, held = new Map(), apart = 0;
    const place = () => (image.style.transform = `translate(${left}px, ${top}px) scale(${scale})`);
    const fit = () => {
      scale = Math.min(area.clientWidth / image.naturalWidth, area.clientHeight / image.naturalHeight) || 1;
      left = (area.clientWidth - scale * image.naturalWidth) / 2;
      top = (area.clientHeight - scale * image.naturalHeight) / 2;
      place();
    };
    const zoom = (factor, x = area.clientWidth / 2, y = area.clientHeight / 2) => {
      const next = Math.min(Math.max(scale * factor, 0.05), 40), ratio = next / scale;
      left = x - ratio * (x - left);
      top = y - ratio * (y - top);
      scale = next;
      place();
    };
    const from = (event) => [event.clientX - area.getBoundingClientRect().left, event.clientY - area.getBoundingClientRect().top];
    area.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), ...from(event)); }, { passive: false });
    area.addEventListener("pointerdown", (event) => { area.setPointerCapture(event.pointerId); held.set(event.pointerId, from(event)); apart = 0; });
    area.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return;
      const now = from(event);
      held.set(event.pointerId, now);
      if (held.size === 1) { left += now[0] - before[0]; top += now[1] - before[1]; place(); }
      else {
        const [a, b] = [...held.values()], length = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (apart) zoom(length / apart, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
        apart = length;
      }
    });
    for (const name of ["pointerup", "pointercancel"]) area.addEventListener(name, (event) => { held.delete(event.pointerId); apart = 0; });
    area.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
      if (event.key === "+" || event.key === "=") zoom(1.3);
      else if (event.key === "-") zoom(1 / 1.3);
      else if (event.key === "0") fit();
      else if (moves[event.key]) { left += moves[event.key][0]; top += moves[event.key][1]; place(); }
      else return;
      event.preventDefault();
    });
    byId("zoom-close").addEventListener("click", () => dialog.close());
    return (picture) => {
      byId("zoom-title").textContent = `${picture.title}   (+, −, 0 and the arrows zoom and move)`;
      image.alt = picture.title;
      image.onload = fit;
      image.src = picture.source;
      dialog.showModal();
      if (image.complete) fit();
      area.focus();
    };
  }

  function start(report) {
    byId("run-list").replaceChildren(...report.jobs.map(details));
    Table.onChange((rows) => {
      const shown = new Set(rows.flatMap((row) => report.rows[row].jobs));
      [...byId("run-list").children].forEach((job, i) => (job.hidden = !shown.has(i)));
    });
    addEventListener("hashchange", () => open(location.hash.replace("#run-", "")));
    if (!report.pictures.length && !report.pictures_note) return;
    byId("pictures").hidden = false;
    const show = startZoom();
    byId("picture-grid").replaceChildren(
      ...report.pictures.map((picture) =>
        make("button", { type: "button", class: "tile", click: () => show(picture) }, make("img", { src: picture.source, alt: picture.title, loading: "lazy" }), make("span", {}, picture.title)),
      ),
    );
    byId("pictures-note").textContent = report.pictures_note;
  }

  return { start, open };
})();
