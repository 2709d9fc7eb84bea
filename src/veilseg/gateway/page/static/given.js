/** What was given away, in words: what left, what follows from that, what an audit measured. */

import * as api from "./api.js";
import { bytes, make, many, one } from "./dom.js";

const CHANNELS = { image: "The image", mask: "The segmentation", identity: "Who it is", membership: "Who trained the model" };
const KNOWN_BY = {
  you: "as you named it.",
  header: "by the patient id in its header.",
  content: "by the content of the file: a second scan of this person would not be noticed. Name the person to have that.",
};

const host = (url) => url.replace(/^https?:\/\//, "").replace(/\/$/, "");

/** Of a model that may be used, or, with a result, was. */
export function show(about, model, result) {
  one("given-title").textContent = result ? "What did we give away?" : "What would we give away?";
  const parts = [make("p", { className: "sent" }, sent(model, result))];
  if (model.servers.length) {
    parts.push(heading(model.words.title));
    parts.push(make("ul", {}, ...model.words.gives_away.map((line) => make("li", {}, line))));
    parts.push(make("p", {}, "And, whatever is done to the image: ", lowered(about.by_construction)));
    parts.push(heading("Measured by attacks"), ...measured(model));
  }
  one("given-body").replaceChildren(...parts);
}

function sent(model, result) {
  if (!model.servers.length) return "Nothing: both halves of the model run on this site.";
  const where = model.servers.map(host).join(", ");
  if (!result) return `What is sent goes to ${where}. No header, name, date or position goes with it.`;
  return (
    `${many(result.tiles, "tile")} went to ${where}, ${bytes(result.bytes_sent)}; ` +
    `${bytes(result.bytes_received)} came back. No header, name, date or position went with it.`
  );
}

function measured({ name, audit }) {
  if (!audit)
    return [
      make("p", { className: "note" }, `No audit of ${name} is at hand, so there is no figure here. `,
        make("code", {}, "veilseg audit"), " measures a bundle, and ", make("code", {}, "veilseg gateway --audit FILE"),
        " shows it here."),
    ];
  const lines = audit.channels.flatMap(([channel, sentence]) => [
    make("dt", {}, CHANNELS[channel]),
    make("dd", {}, sentence),
  ]);
  const people = `${many(audit.images, "image")} of ${many(audit.patients, "patient")}`;
  return [
    make("dl", {}, ...lines),
    make("p", { className: "muted small" },
      `A ${audit.effort} audit on ${people} of ${audit.dataset}, with ${audit.references} references. ` +
      "No verdict is better than the strongest attack that was run, and a stronger one may come."),
  ];
}

/** What the ledger holds of the subject of a result, or why it holds nothing. */
export function showLedger(model, result) {
  one("look").hidden = !model.has_ledger;
  one("look-body").replaceChildren();
  one("ledger-body").replaceChildren(...ledger(model, result));
}

function ledger(model, result) {
  if (!model.servers.length) return [make("p", {}, "Nothing leaves, so there is nothing to enter.")];
  if (!model.has_ledger)
    return [make("p", {}, `${model.name} keeps no ledger: it has no secret that a second sending would weaken.`)];
  if (!result)
    return [make("p", { className: "muted" }, "What was sent of a person, how often and when, is shown here after it.")];
  return [make("p", {}, `This subject is known ${KNOWN_BY[result.known_by]}`), entries(result.ledger)];
}

export async function lookUp(model, subject) {
  const { sent: found } = await api.ledger(model.name, subject);
  one("look-body").replaceChildren(
    found.length ? entries(found) : make("p", {}, "Nothing was sent of that subject with this model."),
  );
}

function entries(sent) {
  const heads = ["Proxy", "Sent", "First", "Last"].map((name) => make("th", { scope: "col" }, name));
  const rows = sent.map(({ proxy, times, at }) => {
    const cells = [make("code", {}, proxy), times === 1 ? "once" : `${times} times`, time(at[0]), time(at.at(-1))];
    return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
  });
  const different =
    sent.length > 1
      ? `${sent.length} different proxies of one person: a server can average them.`
      : "One proxy. The same again teaches a server nothing.";
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
  return make("div", {}, make("div", { className: "scrolls", tabIndex: 0, role: "region", ariaLabel: "Ledger entries" }, table),
    make("p", { className: "muted small" }, different));
}

const time = (seconds) =>
  seconds === undefined
    ? "not kept then"
    : new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" });

const heading = (text) => make("h3", {}, text);
const lowered = (text) => text[0].toLowerCase() + text.slice(1);
