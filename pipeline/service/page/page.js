// The page of a memory corpus. Every text of the corpus is put in as text, never as markup.
"use strict";

const main = document.getElementById("main");
const state = document.getElementById("status");
const tokenForm = document.getElementById("token");
const KEY = "memcorpus-token";
let asked = 0;

function make(name, content, attributes) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  for (const part of [content].flat(2)) {
    if (part !== undefined && part !== null) made.append(part);
  }
  return made;
}

const count = (n) => Number(n).toLocaleString("en");
const digits = (x, n) => (x === null || x === undefined ? "–" : Number(x).toPrecision(n || 3));

function size(bytes) {
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (bytes < 999.5 || unit === "TB") return unit === "B" ? `${bytes} B` : `${Number(bytes).toPrecision(3)} ${unit}`;
    bytes /= 1000;
  }
}

function say(text, wrong) {
  state.textContent = text;
  state.classList.toggle("wrong", Boolean(wrong));
}

async function ask(path) {
  const headers = { accept: "application/json" };
  const token = sessionStorage.getItem(KEY);
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { headers, credentials: "omit" });
  const found = await answer.json();
  if (answer.status === 401) {
    tokenForm.hidden = false;
    document.getElementById("secret").focus();
  }
  if (!answer.ok) throw new Error(found.detail || answer.statusText);
  return found;
}

// Where one is stands behind the #, so that "back" goes back.
const place = () => new URLSearchParams(location.hash.slice(1));
const to = (fields) => `#${new URLSearchParams(fields)}`;

const path = (row) => [row.title, ...row.section].join(" › ");

function text(row, here) {
  return make("p", row.text, { class: here ? "text here" : "text", dir: "auto", "aria-current": here ? "true" : null });
}

function link(row) {
  return make("a", path(row), { href: to({ passage: row.passage_id }), dir: "auto" });
}

function hits(rows, query) {
  const items = rows.map((row) =>
    make("li", [
      make("h2", link(row)),
      make("p", `score ${digits(row.score, 5)}, passage ${row.passage_id}`, { class: "faint" }),
      text(row),
    ]),
  );
  return make("section", make("ol", items, { class: "hits" }), { "aria-label": `Passages for ${query}` });
}

function table(caption, heads, rows) {
  return make("div", make("table", [
    make("caption", caption),
    make("thead", make("tr", heads.map((head) => make("th", head, { scope: "col" })))),
    make("tbody", rows.map((row) => make("tr", row.map((cell) => (cell instanceof Node ? cell : make("td", cell)))))),
  ]), { class: "scroll", tabindex: "0", role: "region", "aria-label": caption });
}

function article(found) {
  const { before, after, passages } = found.article;
  const parts = [make("h3", "In its article", { id: "article" })];
  if (before) parts.push(make("p", `${count(before)} passages before these`, { class: "faint" }));
  let section = null;
  for (const row of passages) {
    const heading = row.section.join(" › ");
    if (heading !== section && heading) parts.push(make("h4", heading, { dir: "auto" }));
    section = heading;
    const here = row.passage_id === found.passage.passage_id;
    const body = text(row, here);
    if (!here) body.append(" ", make("a", `[${row.passage_id}]`, { href: to({ passage: row.passage_id }), "aria-label": `passage ${row.passage_id}` }));
    parts.push(body);
  }
  if (after) parts.push(make("p", `${count(after)} passages after these`, { class: "faint" }));
  return make("section", parts, { class: "card article", "aria-labelledby": "article" });
}

function bar(value, most, label) {
  return make("td", make("meter", `${digits(value)}`, { min: 0, max: most || 1, value, "aria-label": `${label} ${digits(value)}` }));
}

function tokens(found) {
  const memory = found.memory;
  const compared = found.compared;
  const most = Math.max(...memory.norms, 0);
  const errors = compared && compared.errors;
  const worst = errors ? Math.max(...errors, 0) : 0;
  const rows = memory.norms.map((norm, i) => {
    const piece = memory.pieces ? memory.pieces[i].replaceAll("▁", " ") : "";
    const cells = [make("th", String(i), { scope: "row" })];
    if (memory.pieces) cells.push(make("td", make("bdi", piece), { class: "piece" }));
    cells.push(make("td", digits(norm, 4)), bar(norm, most, "norm"));
    if (errors) cells.push(make("td", digits(errors[i], 3)), bar(errors[i], worst, "error"));
    return cells;
  });
  const heads = ["token", ...(memory.pieces ? ["text"] : []), "norm of its state", "", ...(errors ? ["relative error", ""] : [])];
  const made = table(`${memory.tokens} tokens of at most ${memory.limit}`, heads, rows);
  made.classList.add("tokens");
  const notes = [];
  if (memory.pieces_unknown) notes.push(make("p", `Their text is not shown: ${memory.pieces_unknown}.`, { class: "faint" }));
  if (memory.cut && memory.cut.tokens) {
    notes.push(make("p", `Cut at the limit: ${memory.cut.tokens} tokens, which have no state and no reader sees:`));
    notes.push(make("p", memory.cut.text, { class: "text here", dir: "auto" }));
  } else if (memory.cut) {
    notes.push(make("p", "Nothing was cut.", { class: "faint" }));
  } else if (memory.tokens === memory.limit) {
    notes.push(make("p", "It is as long as the limit: its end may have been cut.", { class: "faint" }));
  }
  return [...notes, made];
}

function versions(found, corpus) {
  const names = Object.keys(corpus.cards.memory);
  const label = (name) => {
    const aliases = Object.entries(corpus.aliases).filter(([, version]) => version === name).map(([alias]) => alias);
    return `${name.slice(0, 8)} ${corpus.cards.memory[name].layout.codec.name}${aliases.length ? ` (${aliases.join(", ")})` : ""}`;
  };
  const choice = (id, chosen, none) =>
    make("select", [
      none ? make("option", "none", { value: "" }) : null,
      names.map((name) => make("option", label(name), { value: name, selected: name === chosen })),
    ], { id });
  const shown = choice("version", found.memory.version);
  const other = choice("other", found.compared && found.compared.version, true);
  for (const select of [shown, other]) {
    select.addEventListener("change", () => {
      const fields = { passage: found.passage.passage_id, version: shown.value };
      if (other.value) fields.other = other.value;
      location.hash = to(fields);
      focusNext = select.id;
    });
  }
  const parts = [
    make("div", [make("label", "Memory version", { for: "version" }), shown, make("label", "Compared with", { for: "other" }), other], { class: "row" }),
    make("p", `${found.memory.codec}, ${found.memory.width} numbers a token in ${count(found.memory.token_bytes)} bytes, encoder ${found.memory.encoder}`, { class: "faint" }),
  ];
  const compared = found.compared;
  if (compared && !compared.same_encoder) {
    parts.push(make("p", `Version ${compared.version} is of another encoder, ${compared.encoder}: their numbers cannot be compared.`));
  } else if (compared) {
    parts.push(table("Compared on this passage", ["version", "codec", "bytes a token", "relative error", "cosine"], [
      [found.memory.version.slice(0, 8), found.memory.codec, count(found.memory.token_bytes), "", ""],
      [compared.version.slice(0, 8), compared.codec, count(compared.token_bytes), digits(compared.relative_error), digits(compared.cosine, 6)],
    ]));
  }
  return parts;
}

let focusNext = null;
let passages = null;

async function showPassage(fields) {
  const query = new URLSearchParams();
  for (const name of ["version", "other"]) if (fields.get(name)) query.set(name, fields.get(name));
  const [found, corpus] = await Promise.all([
    ask(`v1/look/${encodeURIComponent(fields.get("passage"))}?${query}`),
    ask("v1/corpus"),
  ]);
  const row = found.passage;
  return [
    make("section", [
      make("h2", path(row), { dir: "auto" }),
      make("p", `passage ${row.passage_id}, page ${row.page_id}, ${count(row.words)} words`, { class: "faint" }),
      text(row),
    ], { class: "card" }),
    article(found),
    make("section", [make("h3", "Memory", { id: "memory" }), ...versions(found, corpus), ...tokens(found)], { class: "card", "aria-labelledby": "memory" }),
    make("section", [make("h3", "Nearest by vector", { id: "near" }), hits(found.neighbours, "this passage")], { "aria-labelledby": "near" }),
  ];
}

async function showSearch(fields) {
  const query = fields.get("q");
  // A small corpus has fewer passages than one may ask for.
  passages = passages || (await ask("v1/corpus")).passages;
  const k = Math.min(fields.get("k") || 10, passages);
  const found = await ask(`v1/search?${new URLSearchParams({ q: query, k })}`);
  return [hits(found.results[0].passages, query)];
}

async function showFigures() {
  const found = await ask("v1/figures");
  const pair = (name, value) => make("div", [make("dt", name), make("dd", value)]);
  const parts = [make("h2", "This corpus"), make("dl", [
    pair("passages", count(found.passages)),
    found.words ? pair("words", count(found.words)) : null,
    found.counts.kept ? pair("articles", count(found.counts.kept)) : null,
    Object.entries(found.bytes || {}).map(([name, bytes]) => pair(`${name} on the disk`, size(bytes))),
  ])];
  const names = (version) => Object.entries(found.aliases || {}).filter(([, v]) => v === version).map(([alias]) => alias).join(", ");
  if (found.memory) parts.push(table("Memory versions", ["version", "names", "codec", "tokens", "bytes", "a token", "relative error", "passages cut"],
    Object.entries(found.memory).map(([version, m]) => [
      version.slice(0, 8), names(version), m.codec, count(m.counts.tokens), size(m.bytes),
      digits(m.bytes / m.counts.tokens, 4), digits(m.quality.relative_error), count(m.counts.passages_cut),
    ])));
  if (found.vectors) parts.push(table("Vectors and index", ["retriever", "dimensions", "compared by", "index", "recall@10"],
    Object.entries(found.vectors).map(([name, v]) => {
      const index = (found.index || {})[name] || {};
      return [name.slice(0, 8), String(v.dim), v.similarity, index.kind || "–", digits(index.recall_at_10, 4)];
    })));
  for (const line of found.warnings || []) parts.push(make("p", `Warning: ${line}`));
  return [make("section", parts, { class: "card", "aria-label": "This corpus in figures" })];
}

async function show() {
  const fields = place();
  const mine = ++asked;
  if (fields.get("q")) document.getElementById("query").value = fields.get("q");
  say("Asking…");
  try {
    const started = performance.now();
    const parts = fields.get("passage") ? await showPassage(fields) : fields.get("q") ? await showSearch(fields) : await showFigures();
    if (mine !== asked) return;
    main.replaceChildren(...parts);
    say(`answered in ${Math.round(performance.now() - started)} ms`);
    document.title = fields.get("q") ? `${fields.get("q")} – memcorpus` : fields.get("passage") ? `passage ${fields.get("passage")} – memcorpus` : "memcorpus";
    if (focusNext) document.getElementById(focusNext).focus();
    else if (fields.size) main.focus({ preventScroll: true });
    if (!focusNext) scrollTo(0, 0);
    focusNext = null;
  } catch (error) {
    if (mine === asked) say(error.message, true);
  }
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = { q: event.target.elements.q.value, k: event.target.elements.k.value };
  if (location.hash === to(fields)) show();
  else location.hash = to(fields);
});
tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, document.getElementById("secret").value);
  tokenForm.hidden = true;
  show();
});
addEventListener("hashchange", show);
show();
