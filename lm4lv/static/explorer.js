// Labelled controls above a picture. The kernel draws; it is asked again only when it has answered, so that dragging never queues.
const PATIENCE = 3000; // ms after which an answer is no longer waited for, as when the kernel was restarted
const BEAT = 400; // ms between pictures while playing

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Arrow keys belong to the focused control, not to JupyterLab, which would move to the next cell.
function ownKeys(control) { control.setAttribute("data-lm-suppress-shortcuts", "true"); return control; }

function makeControl(spec, index, moved) {
  const id = `lm4lv-${Math.random().toString(36).slice(2)}`, last = spec.texts.length - 1;
  const says = element("output", { htmlFor: id });
  const input = spec.slider
    ? element("input", { id, type: "range", min: 0, max: last, step: 1 })
    : element("select", { id }, ...spec.texts.map((text, i) => element("option", { value: i, textContent: text })));
  ownKeys(input);
  const set = (value) => {
    input.value = value;
    says.textContent = spec.slider ? spec.texts[value] : "";
    if (spec.slider) input.setAttribute("aria-valuetext", spec.texts[value]);
  };
  const go = (value) => { set(value); moved(spec.name, value); };
  input.addEventListener("input", () => go(Number(input.value)));
  set(index);
  const parts = [element("label", { htmlFor: id, textContent: spec.label }), input, says];
  if (spec.play) parts.push(playButton(spec, () => Number(input.value), last, go));
  return { box: element("div", { className: "lm4lv-control" }, ...parts), set, input };
}

function playButton(spec, now, last, go) {
  const button = ownKeys(element("button", { type: "button", textContent: "Play" }));
  button.setAttribute("aria-label", `Play ${spec.label}`);
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
  const beat = () => { if (now() >= last || !button.isConnected) stop(); else go(now() + 1); };
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (now() >= last) go(0);
    button.textContent = "Pause";
    timer = setInterval(beat, BEAT);
  });
  return button;
}

function render({ model, el }) {
  el.classList.add("lm4lv-explorer");
  const picture = element("div", { className: "lm4lv-picture" });
  picture.setAttribute("role", "img");
  const said = element("div", { className: "lm4lv-said" });
  said.setAttribute("aria-live", "polite");
  let asked = 0, wanted = null; // when the kernel was asked, and what to ask next

  function ask(chosen) {
    asked = performance.now(); wanted = null;
    model.set("chosen", chosen); model.save_changes();
  }
  function moved(name, index) {
    const chosen = { ...(wanted || model.get("chosen")), [name]: index };
    if (asked && performance.now() - asked < PATIENCE) wanted = chosen; else ask(chosen);
  }
  function show() {
    picture.innerHTML = model.get("html");
    picture.setAttribute("aria-label", model.get("said"));
    picture.hidden = !model.get("html");
    said.textContent = model.get("said");
  }
  function answered() { show(); asked = 0; if (wanted) ask(wanted); }

  const controls = model.get("controls").map((spec) => [spec.name, makeControl(spec, model.get("chosen")[spec.name], moved)]);
  function follow() { // set by the kernel or by another view; a control in use keeps its own value
    for (const [name, { set, input }] of controls) if (!wanted && document.activeElement !== input) set(model.get("chosen")[name]);
  }
  model.on("change:answered", answered); model.on("change:chosen", follow);
  el.append(element("div", { className: "lm4lv-title", textContent: model.get("title") }),
            element("div", { className: "lm4lv-controls" }, ...controls.map(([, { box }]) => box)), picture, said);
  show();
  return () => { model.off("change:answered", answered); model.off("change:chosen", follow); };
}

export default { render };
