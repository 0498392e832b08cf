// Pictures of results: zoom and place that all of them share, and the source while a key or button is held.
(() => {
  const MOST = 8, STEP = 1.5, MOVE = 10;
  const typing = (e) => e.target.closest?.("input, textarea, select, [contenteditable=true], .cm-editor");
  const regionOf = (e) => {
    const inside = e.target.closest?.(".viewers");
    if (inside) return inside;
    const bar = e.target.closest?.(".zoombar");
    return bar && document.getElementById(bar.dataset.of);
  };
  const held = (on) => {
    document.documentElement.classList.toggle("holding", on);
    document.querySelectorAll(".zoombar [data-do=hold]").forEach((b) => b.setAttribute("aria-pressed", on));
  };

  function look(region, change) {
    const was = { zoom: 1, x: 0, y: 0, ...region.look };
    const now = { ...was, ...change(was) };
    now.zoom = Math.min(MOST, Math.max(1, now.zoom));
    const room = 50 * (now.zoom - 1);
    for (const axis of ["x", "y"]) now[axis] = Math.min(room, Math.max(-room, now[axis]));
    region.look = now;
    region.style.setProperty("--zoom", now.zoom);
    region.style.setProperty("--x", `${now.x}%`);
    region.style.setProperty("--y", `${now.y}%`);
    region.classList.toggle("zoomed", now.zoom > 1);
    document.querySelectorAll(`.zoombar[data-of="${region.id}"] output`)
      .forEach((o) => { o.textContent = `${Math.round(100 * now.zoom)}%`; });
  }
  const zoomed = (region, by) => look(region, ({ zoom, x, y }) => {
    const next = Math.min(MOST, Math.max(1, zoom * by));
    return { zoom: next, x: x * next / zoom, y: y * next / zoom };
  });
  const moved = (region, dx, dy) => look(region, ({ x, y }) => ({ x: x + dx, y: y + dy }));
  const whole = (region) => look(region, () => ({ zoom: 1, x: 0, y: 0 }));
  const acts = { in: (r) => zoomed(r, STEP), out: (r) => zoomed(r, 1 / STEP), whole };
  const keys = {
    "+": acts.in, "=": acts.in, "-": acts.out, 0: whole,
    ArrowLeft: (r) => moved(r, MOVE, 0), ArrowRight: (r) => moved(r, -MOVE, 0),
    ArrowUp: (r) => moved(r, 0, MOVE), ArrowDown: (r) => moved(r, 0, -MOVE),
  };

  document.addEventListener("click", (e) => {
    const act = acts[e.target.closest?.(".zoombar button")?.dataset.do];
    if (act) act(regionOf(e));
  });
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const onButton = e.target.closest?.(".zoombar [data-do=hold]") && [" ", "Enter"].includes(e.key);
    if (onButton || (e.key.toLowerCase() === "b" && !typing(e))) {
      held(true);
      if (onButton) e.preventDefault();
    }
    const region = typing(e) ? null : regionOf(e);
    if (region && keys[e.key]) {
      keys[e.key](region);
      e.preventDefault();
    }
  });
  document.addEventListener("keyup", () => held(false));
  window.addEventListener("blur", () => held(false));

  let drag = null;
  document.addEventListener("pointerdown", (e) => {
    if (e.target.closest?.(".zoombar [data-do=hold]")) held(true);
    const image = e.target.closest?.(".viewers.zoomed .viewer .image-frame img");
    if (image) {
      drag = { region: regionOf(e), box: image.parentElement.getBoundingClientRect(), x: e.clientX, y: e.clientY };
      e.preventDefault();
    }
  });
  document.addEventListener("pointermove", (e) => {
    if (!drag) return;
    moved(drag.region, 100 * (e.clientX - drag.x) / drag.box.width, 100 * (e.clientY - drag.y) / drag.box.height);
    Object.assign(drag, { x: e.clientX, y: e.clientY });
  });
  for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { drag = null; held(false); });
  document.addEventListener("dblclick", (e) => {
    if (!e.target.closest?.(".viewer .image-frame img")) return;
    const region = regionOf(e);
    if (region.classList.contains("zoomed")) whole(region);
    else zoomed(region, 2);
  });
  document.addEventListener("wheel", (e) => {
    if (!e.ctrlKey || !e.target.closest?.(".viewer img")) return;
    e.preventDefault();
    zoomed(regionOf(e), e.deltaY < 0 ? STEP : 1 / STEP);
  }, { passive: false });

  // The picture's editor fails without a word on a file that the browser cannot show, so such a file is named.
  function unreadable(file) {
    const line = Object.assign(document.createElement("p"), { id: "unreadable", className: "problem" });
    line.setAttribute("role", "alert");
    line.textContent = `${file.name} is in no picture format that this browser knows; give a PNG, JPEG or WebP.`;
    document.getElementById("compare-picture").after(line);
  }
  // The editor also drops a picture that comes before its own parts are there, so the picture waits for them.
  const PATIENCE = 60_000;
  const frame = () => new Promise((done) => { requestAnimationFrame(done); });
  const ready = () => document.querySelector("#compare-picture .toolbar-wrap");
  const known = new WeakSet();
  async function give(file) {
    const late = performance.now() + PATIENCE, files = new DataTransfer();
    files.items.add(file);
    uploading(1);
    while (!ready() && performance.now() < late) await frame();
    uploading(-1);
    const field = document.querySelector("#compare-picture input[type=file]");
    field.files = files.files;
    known.add(field.files[0]);
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }
  document.addEventListener("change", async (e) => {
    const file = e.target.closest?.("#compare-picture") && e.target.files?.[0];
    if (!file) return;
    document.getElementById("unreadable")?.remove();
    if (known.has(file)) return;
    e.stopImmediatePropagation();
    try {
      (await createImageBitmap(file)).close();
    } catch {
      e.target.value = "";
      unreadable(file);
      return;
    }
    await give(file);
  }, true);
  document.addEventListener("drop", async (e) => {
    const file = e.target.closest?.("#compare-picture") && e.dataTransfer?.files[0];
    if (!file) return;
    document.getElementById("unreadable")?.remove();
    const early = !ready();
    if (early) {
      e.preventDefault();
      e.stopImmediatePropagation();
    }
    try {
      (await createImageBitmap(file)).close();
    } catch {
      unreadable(file);
      return;
    }
    if (early) await give(file);
  }, true);

  // A new picture of the editor may come by a file, or by a press elsewhere on the page: a sample, settings of a result.
  const CALM = 300, OWN = "#compare-picture, #compare-picture-new, #compare-go";
  let fresh = true, calm = 0;
  for (const way of ["click", "change", "drop", "paste"]) {
    document.addEventListener(way, (e) => {
      const files = (e.target.files ?? e.dataTransfer?.files ?? e.clipboardData?.files)?.length;
      if (files || (way === "click" && !e.target.closest?.(OWN))) fresh = true;
    }, true);
  }
  window.newPicture = () => {
    clearTimeout(calm);
    calm = setTimeout(() => {
      if (fresh) document.getElementById("compare-picture-new").click();
      fresh = false;
    }, CALM);
  };

  // While a visitor's files are on their way, a line says so and nothing can be started. The picture's editor
  // also sends samples and paint, which is no news.
  let uploads = 0, chosen = false;
  for (const way of ["change", "drop", "paste"]) {
    document.addEventListener(way, (e) => {
      if ((e.target.files ?? e.dataTransfer?.files ?? e.clipboardData?.files)?.length) chosen = true;
    }, true);
  }
  const plain = window.fetch;
  function told() {
    document.querySelectorAll("[id$='-go']").forEach((go) => { go.inert = uploads > 0; });
    let line = document.getElementById("uploading");
    if (!line) {
      line = document.createElement("div");
      Object.assign(line, { id: "uploading" });
      line.setAttribute("role", "status");
      document.body.append(line);
    }
    line.textContent = uploads ? "Uploading…" : "";
  }
  function uploading(more) {
    uploads += more;
    told();
  }
  // The picture's editor sends its picture and paint anew whenever it is read, several times for each handler. The
  // server keeps a file under its contents for a day, so bytes that were sent within an hour are not sent again.
  const KEPT = 8, HOUR = 3_600_000;
  let sent = [];
  const same = (a, b) => a.length === b.length && a.every((value, place) => value === b[place]);
  async function once(input, init) {
    const files = init.body instanceof FormData ? [...init.body.values()] : [];
    // With an id, its progress is watched.
    if (files.length !== 1 || new URL(input?.url ?? input, location.href).search) return plain(input, init);
    const { name } = files[0], bytes = new Uint8Array(await files[0].arrayBuffer()), now = performance.now();
    let found = sent.find((each) => each.name === name && now - each.at < HOUR && same(each.bytes, bytes));
    if (!found) {
      found = { name, bytes, at: now, answer: plain(input, init) };
      sent = [found, ...sent].slice(0, KEPT);
    }
    const forget = () => { sent = sent.filter((each) => each !== found); };
    const answer = await found.answer.catch((error) => { forget(); throw error; });
    if (!answer.ok) forget();
    return answer.clone();
  }
  window.fetch = async (input, init) => {
    const { pathname } = new URL(input?.url ?? input, location.href);
    if (!pathname.endsWith("/upload") || init?.method !== "POST") return plain(input, init);
    if (!chosen) return once(input, init);
    uploading(1);
    try {
      return await once(input, init);
    } finally {
      uploading(-1);
      chosen = uploads > 0;
    }
  };

  // Gradio makes the fields of a tab or drawer when it is first opened, and in a later frame it gives them their
  // first values again, over what was typed by then. A new field takes nothing until that is done.
  const FRAMES = 4, BLOCK = ".block", TEXT = "input, textarea";
  async function hold(blocks) {
    const fields = blocks.flatMap((block) => [...block.querySelectorAll(TEXT)]).filter((field) => !field.readOnly);
    const held = (on) => {
      blocks.forEach((block) => { block.inert = on; });
      fields.forEach((field) => { field.readOnly = on; });
    };
    held(true);
    for (let passed = 0; passed < FRAMES; passed += 1) await frame();
    held(false);
  }
  new MutationObserver((changes) => {
    const added = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node instanceof Element);
    const blocks = added.flatMap((node) => [...(node.matches(BLOCK) ? [node] : []), ...node.querySelectorAll(BLOCK)]);
    if (blocks.length) hold(blocks);
  }).observe(document, { childList: true, subtree: true });
})();
