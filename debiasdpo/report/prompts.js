"use strict";
// All prompts of one run: the reply to each neutral prompt beside that to the same with a statement.
const data = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("list"), told = document.getElementById("told"), more = document.getElementById("more");
const controls = document.forms[0];
const STEP = 50;
let found = [], shown = 0;

function element(name, words, kind) {
  const made = document.createElement(name);
  if (words !== undefined) made.textContent = words;
  if (kind) made.className = kind;
  return made;
}

function side(heading, reply) {
  const box = element("div", undefined, "answer");
  const rating = reply.rating === null ? reply.status + (reply.reason ? ": " + reply.reason : "") : reply.rating.toFixed(2);
  box.append(element("h6", heading + ": " + rating));
  if (reply.text) box.append(element("blockquote", reply.text));
  return box;
}

function pair(row) {
  const about = data.documents[row.document] ?? {text: "", scores: {}};
  const article = element("article", undefined, "example");
  const tags = element("p", undefined, "prompt");
  const said = [row.model, row.category + ", " + row.side, "rubric " + row.rubric, "document " + row.document];
  const score = about.scores[row.rubric];
  if (score !== undefined) said.push("expert's score " + score);
  if (row.shift !== null) said.push("shift " + (row.shift > 0 ? "+" : "") + row.shift.toFixed(2));
  for (const words of said) tags.append(element("span", words, "tag"), " ");
  const whole = element("details", undefined, "document");
  whole.append(element("summary", "document: " + about.text.slice(0, 100)), element("blockquote", about.text));
  const asked = element("p", data.questions[row.rubric] ?? "", "prompt");
  asked.append("\n", element("mark", row.statement));
  const both = element("div", undefined, "pair");
  both.append(side("neutral", data.neutral[row.model][row.plain]), side("with the statement", row));
  article.append(tags, whole, asked, both);
  return article;
}

function step() {
  list.append(...found.slice(shown, shown + STEP).map(pair));
  shown = Math.min(shown + STEP, found.length);
  more.hidden = shown >= found.length;
  told.textContent = found.length + " of " + data.rows.length + " prompts with a statement, " + shown + " shown";
}

function show() {
  const {model, category, document: name, status, order, different} = controls.elements;
  const word = name.value.toLowerCase();
  found = data.rows.filter(row =>
    (!model.value || row.model === model.value) && (!category.value || row.category === category.value)
    && (!status.value || row.status === status.value)
    && (!different.checked || (row.shift === null ? row.status !== data.neutral[row.model][row.plain].status : Math.abs(row.shift) >= data.least))
    && (!word || row.document.toLowerCase().includes(word)));
  if (order.value === "shift") found.sort((a, b) => Math.abs(b.shift ?? 0) - Math.abs(a.shift ?? 0));
  list.replaceChildren();
  shown = 0;
  step();
}

for (const name of ["model", "category", "status"])
  for (const value of [...new Set(data.rows.map(row => row[name]))].sort())
    controls.elements[name].append(new Option(value, value));
controls.addEventListener("input", show);
controls.addEventListener("submit", event => event.preventDefault());
more.addEventListener("click", step);
show();
