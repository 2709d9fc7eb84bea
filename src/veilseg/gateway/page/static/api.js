/** What the gateway is asked. A token, where there is one, is held here and nowhere else. */

const RETRY_MS = 1000;
let token = "";

/** An answer that is no success. Status 0: the gateway did not answer. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export function useToken(given) {
  token = given.trim();
}

const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

async function answered(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(), cache: "no-store" });
  } catch {
    throw new Refused(0, "the gateway does not answer");
  }
  if (!answer.ok) throw await refusal(answer.status, () => answer.json());
  return answer;
}

async function refusal(status, read) {
  const body = await Promise.resolve().then(read).catch(() => ({}));
  return new Refused(status, body.detail ?? `status ${status}`);
}

export const about = async () => (await answered("/page/about")).json();
export const buffer = async (path) => (await answered(path)).arrayBuffer();

async function post(path, fields) {
  return (await answered(path, { method: "POST", body: JSON.stringify(fields) })).json();
}

export const ledger = (model, subject) => post("/page/ledger", { model, subject });
export const begin = async (fields) => (await post("/page/tasks", fields)).task;
export const cancel = (task) => answered(`/page/tasks/${task}`, { method: "DELETE", keepalive: true });

/** Bring files to the gateway. Only such a request tells how far it is. */
export function upload(files, onProgress, signal) {
  const form = new FormData();
  for (const { file, name } of files) form.append("files", file, name);
  const request = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    request.open("PUT", "/session/");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () =>
      request.status === 200
        ? resolve(request.response.session_id)
        : refusal(request.status, () => request.response ?? {}).then(reject);
    request.onerror = () => reject(new Refused(0, "the gateway does not answer"));
    request.onabort = () => reject(new DOMException("left", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Whether the gateway still has an upload. */
export const known = (session) => answered(`/session/${session}`).then(() => true, () => false);
export const forget = (session) => answered(`/session/${session}`, { method: "DELETE", keepalive: true });

/**
 * Every state of a task to its end. A line that breaks is taken up again: the gateway begins with
 * the state at that time.
 */
export async function* states(task, onAway) {
  let ended = false;
  while (true) {
    try {
      for await (const state of events(`/page/tasks/${task}/events`)) {
        onAway(false);
        yield state;
        ended = ["done", "failed", "cancelled"].includes(state.stage);
      }
    } catch (error) {
      if (error instanceof Refused && error.status !== 0) throw error;
    }
    if (ended) return;
    onAway(true);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Server-sent events. EventSource could not send a token. */
async function* events(path) {
  const reader = (await answered(path)).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
  }
}
