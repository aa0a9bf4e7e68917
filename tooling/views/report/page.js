"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, at = document) => [...at.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  // Clips. A reel plays while there is a reason: pointer, focus, view, or a press, which stays until the next.
  const urls = new Map();
  const reasons = new Map();

  function clipUrl(id) {
    if (!urls.has(id)) {
      const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
      urls.set(id, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
    }
    return urls.get(id);
  }

  function makeVideo(frame) {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, preload: "auto", disableRemotePlayback: true });
    video.setAttribute("aria-hidden", "true");
    video.src = clipUrl(frame.dataset.clip);
    return video;
  }

  async function start(reel) {
    const frames = all("[data-clip]", reel);
    const videos = frames.map(makeVideo);
    const ready = videos.map((video) => new Promise((done) => video.addEventListener("canplay", done, { once: true })));
    reel.setAttribute("aria-pressed", "true");
    await Promise.all(ready);
    if (!reasons.has(reel)) return; // stopped meanwhile
    stopVideos(reel);
    frames.forEach((frame, at) => frame.append(videos[at]));
    const again = () => videos.forEach((video) => { video.currentTime = 0; video.play().catch(() => {}); });
    videos[0].addEventListener("ended", again); // all of a reel begin together
    again();
  }

  function stopVideos(reel) {
    for (const video of all("video", reel)) {
      video.pause();
      video.removeAttribute("src");
      video.remove();
    }
  }

  function setReason(reel, reason, isOn) {
    const why = reasons.get(reel) ?? new Set();
    if (isOn) why.add(reason); else why.delete(reason);
    if (isOn && !reasons.has(reel) && reel.querySelector("[data-clip]")) {
      reasons.set(reel, why);
      start(reel);
    } else if (!why.size && reasons.delete(reel)) {
      stopVideos(reel);
      reel.setAttribute("aria-pressed", "false");
    }
  }

  function halt(reel) {
    for (const reason of [...(reasons.get(reel) ?? [])]) setReason(reel, reason, false);
  }

  const reels = all(".reel");
  for (const reel of reels) {
    reel.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && !calm.matches && setReason(reel, "pointer", true));
    reel.addEventListener("pointerleave", () => setReason(reel, "pointer", false));
    reel.addEventListener("focus", () => reel.matches(":focus-visible") && !calm.matches && setReason(reel, "focus", true));
    reel.addEventListener("blur", () => setReason(reel, "focus", false));
    reel.addEventListener("click", () => {
      const isPinned = reasons.get(reel)?.has("press") || (reasons.has(reel) && reel.dataset.by !== "pointer");
      for (const other of reels) if (other !== reel) setReason(other, "press", false);
      if (isPinned) halt(reel); else setReason(reel, "press", true);
    });
    reel.addEventListener("pointerdown", () => { reel.dataset.by = "pointer"; });
    reel.addEventListener("keydown", () => { reel.dataset.by = "key"; });
  }

  const viewButton = byId("play-view");
  const inView = new IntersectionObserver(
    (entries) => entries.forEach((entry) => setReason(entry.target, "view", entry.isIntersecting)),
    { threshold: 0.6 },
  );
  function playInView(isOn) {
    viewButton.setAttribute("aria-pressed", String(isOn));
    for (const reel of reels) {
      if (isOn) inView.observe(reel); else { inView.unobserve(reel); setReason(reel, "view", false); }
    }
  }
  viewButton.addEventListener("click", () => playInView(viewButton.getAttribute("aria-pressed") !== "true"));
  if (matchMedia("(hover: none)").matches && !calm.matches) playInView(true);
  calm.addEventListener("change", () => { if (calm.matches) { playInView(false); reels.forEach(halt); } });

  // Each grid is one stop for Tab; arrows, Home and End walk inside it.
  function setStop(grid, card) {
    for (const other of all(".card", grid)) {
      for (const part of all(".reel, summary", other)) part.tabIndex = other === card ? 0 : -1;
    }
  }
  const visible = (grid) => all(".card", grid).filter((card) => !card.hidden);
  const columns = (cards) => cards.filter((card) => card.offsetTop === cards[0].offsetTop).length;
  for (const grid of all(".cards")) {
    setStop(grid, grid.querySelector(".card"));
    grid.addEventListener("focusin", (event) => setStop(grid, event.target.closest(".card")));
    grid.addEventListener("keydown", (event) => {
      const cards = visible(grid);
      const at = cards.indexOf(event.target.closest(".card"));
      const goal = {
        ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns(cards), ArrowUp: at - columns(cards),
        Home: 0, End: cards.length - 1,
      }[event.key];
      if (goal === undefined || !event.target.matches(".reel, summary")) return;
      event.preventDefault();
      const card = cards[Math.min(Math.max(goal, 0), cards.length - 1)];
      card.querySelector(".reel").focus();
    });
  }

  // Filters of the pictures.
  function filterCards() {
    const words = byId("find-card").value.toLowerCase().split(/\s+/).filter(Boolean);
    const split = byId("split").value;
    const isFound = byId("only-findings").checked;
    for (const section of all(".grid")) {
      let count = 0;
      for (const card of all(".card", section)) {
        const text = card.dataset.text.toLowerCase();
        const parts = text.split(/[\s/_]+/);
        const fits = words.every((word) => (/^\d+$/.test(word) ? parts.some((part) => +part === +word) : text.includes(word)));
        card.hidden = !(fits && (!split || card.dataset.split === split) && (!isFound || card.dataset.findings !== "0"));
        count += !card.hidden;
      }
      const shown = section.querySelector(".shown");
      shown.dataset.text ??= shown.textContent;
      const isFiltered = words.length || split || isFound;
      shown.textContent = isFiltered ? `${count} of ${shown.dataset.all} shown` : shown.dataset.text;
      const grid = section.querySelector(".cards");
      if (grid && count) setStop(grid, visible(grid)[0]);
    }
  }
  for (const id of ["find-card", "split", "only-findings"]) byId(id).addEventListener("input", filterCards);
  for (const radio of all("[name=size]")) radio.addEventListener("change", () => { root.dataset.size = radio.value; });

  // Findings.
  const table = byId("finding-table");
  if (table) {
    const body = table.tBodies[0];
    const total = body.rows.length;
    const filterFindings = () => {
      const text = byId("find-finding").value.toLowerCase();
      const [severity, kind] = [byId("severity").value, byId("kind").value];
      let count = 0;
      for (const row of body.rows) {
        const isOfBoth = (!severity || row.dataset.severity === severity) && (!kind || row.dataset.kind === kind);
        row.hidden = !(isOfBoth && row.textContent.toLowerCase().includes(text));
        count += !row.hidden;
      }
      byId("shown-findings").textContent = `${count} of ${total}`;
    };
    for (const id of ["find-finding", "severity", "kind"]) byId(id).addEventListener("input", filterFindings);
    const order = new Intl.Collator(undefined, { numeric: true });
    all("thead button", table).forEach((button, column) => button.addEventListener("click", () => {
      const head = button.parentElement;
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const text = (row) => row.cells[column].textContent;
      body.append(...[...body.rows].sort((a, b) => sign * order.compare(text(a), text(b))));
    }));
  }

  // Where the reader is.
  const links = new Map(all(".side a").map((link) => [link.hash.slice(1), link]));
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      const link = links.get(entry.target.id);
      link.setAttribute("aria-current", "true");
      const side = link.closest("nav");
      side.scrollLeft += link.getBoundingClientRect().left - side.getBoundingClientRect().left - side.clientWidth / 3;
    }
  }, { rootMargin: "-15% 0px -80% 0px" });
  for (const id of links.keys()) near.observe(byId(id));

  byId("theme").addEventListener("change", (event) => { root.dataset.theme = event.target.value; });
})();
