// One page: a photograph goes to the server as it is; the answer comes back line by line, a line for each visual token.
const $ = (id) => document.getElementById(id);
const HEADERS = { "X-LM4LV": "1" }; // no other page may send it
const NAMES = { degraded: "degraded", mae_r: "MAE-r", lm4lv: "LM4LV", photograph: "photograph" };
let info = null, running = false;

function say(text, wrong = false) { $("said").textContent = text; $("said").classList.toggle("wrong", wrong); }

function show(name, source, decibels) {
  let figure = $(`row-${name}`);
  if (!figure) {
    figure = document.createElement("figure");
    figure.id = `row-${name}`;
    figure.append(document.createElement("img"), document.createElement("figcaption"));
    $("rows").append(figure);
  }
  if (source) figure.firstChild.src = source;
  figure.firstChild.alt = NAMES[name];
  figure.lastChild.textContent = NAMES[name] + (decibels === undefined ? "" : `: ${decibels.toFixed(2)} dB`);
}

function split() {
  $("stage").style.setProperty("--split", `${$("split").value}%`);
  $("split").setAttribute("aria-valuetext", `${$("split").value} % before`);
}

function strength() {
  const scale = info?.strengths[$("task").value], damaged = $("damaged").checked;
  $("strength-box").hidden = damaged || !scale;
  $("strength-box").style.display = damaged || !scale ? "none" : "";
  if (scale) $("strength-says").textContent = scale.texts[Math.round($("strength").value * (scale.texts.length - 1))];
}

async function load() {
  info = await (await fetch("info.json")).json();
  $("model").textContent = info.model;
  $("task").replaceChildren(...info.tasks.map((task) => new Option(task)));
  $("task").value = info.task;
  if (info.photograph) say(`Photograph: ${info.photograph}`);
  strength();
}

function received(line) { // one line of the answer
  if (line.error) throw new Error(line.error);
  if (line.said) say(line.said);
  if (line.start) {
    $("rows").replaceChildren();
    $("results").hidden = false;
    $("before").src = $("after").src = line.start.degraded;
    for (const name of ["degraded", "mae_r", "lm4lv", "photograph"]) {
      if (name in line.start) show(name, line.start[name], line.start.psnr?.[name]);
    }
  }
  if (line.token) {
    $("tokens").max = line.of; $("tokens").value = line.token;
    $("after").src = line.picture;
    show("lm4lv", line.picture);
    say(`visual token ${line.token} of ${line.of}`);
  }
  if (line.done) {
    $("after").src = line.done.picture;
    show("lm4lv", line.done.picture, line.done.psnr);
    say(line.done.said);
  }
}

async function read(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    lines.filter(Boolean).forEach((line) => received(JSON.parse(line)));
  }
}

async function restore(event) {
  event.preventDefault();
  if (running) return;
  running = $("go").disabled = true;
  $("tokens").value = 0;
  try {
    const file = $("file").files[0];
    if (file) {
      const sent = await fetch("photograph", { method: "POST", headers: { ...HEADERS, "X-Name": encodeURIComponent(file.name) }, body: file });
      if (!sent.ok) throw new Error(await sent.text());
    }
    const wanted = { task: $("task").value, strength: Number($("strength").value), damaged: $("damaged").checked };
    const answer = await fetch("restore", { method: "POST", headers: { ...HEADERS, "Content-Type": "application/json" }, body: JSON.stringify(wanted) });
    if (!answer.ok) throw new Error(await answer.text());
    await read(answer);
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer: is lm4lv app still running?" : error.message, true);
  } finally {
    running = $("go").disabled = false;
  }
}

$("form").addEventListener("submit", restore);
$("split").addEventListener("input", split);
for (const id of ["task", "strength", "damaged"]) $(id).addEventListener("input", strength);
split();
load().catch(() => say("The server does not answer: is lm4lv app still running?", true));
