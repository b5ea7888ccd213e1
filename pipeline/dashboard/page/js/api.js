// Everything that travels between this page and the server it came from. Nothing is ever asked of another one.

const TOKEN_KEY = "onpace.token";

/** An answer that says no. `message` is the server's own sentence. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

let askForToken = null;

/** `ask()` gets a token from the person and resolves to it, or to null. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

function headers(extra = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  return token ? { ...extra, Authorization: `Bearer ${token}` } : extra;
}

async function answered(path, options) {
  for (;;) {
    let response;
    try {
      response = await fetch(path, { cache: "no-store", ...options, headers: headers(options.headers) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("Onpace does not answer. Is it still running?", 0);
    }
    if (response.status !== 401 || !askForToken) return response;
    const token = await askForToken(sessionStorage.getItem(TOKEN_KEY) !== null);
    if (token === null) throw new ApiError("A token is needed.", 401);
    sessionStorage.setItem(TOKEN_KEY, token);
  }
}

async function reason(response) {
  const text = await response.text();
  try {
    const { error, problems, detail } = JSON.parse(text);
    const found = error ?? detail ?? problems;
    return Array.isArray(found) ? found.join("\n") : String(found?.message ?? found);
  } catch {
    return text.trim() || `${response.status} ${response.statusText}`;
  }
}

/** Ask, and return the JSON that is answered. Raises ApiError with the server's sentence. */
export async function call(method, path, body = undefined) {
  const options = { method };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  const response = await answered(path, options);
  if (!response.ok) throw new ApiError(await reason(response), response.status);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** The bytes of an answer that does not end by itself. */
export async function* openStream(path, signal) {
  const response = await answered(path, { method: "GET", signal });
  if (!response.ok) throw new ApiError(await reason(response), response.status);
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Server-sent events as `{event, data}`, data parsed. By fetch: an EventSource could not carry a token. */
export async function* openEvents(path, signal) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of openStream(path, signal)) {
    rest += decoder.decode(bytes, { stream: true }).replaceAll("\r\n", "\n");
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const block = rest.slice(0, end);
      rest = rest.slice(end + 2);
      const event = { event: "message", data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) event.event = line.slice(6).trim();
        else if (line.startsWith("data:")) event.data += line.slice(5).trimStart();
      }
      if (event.data) yield { event: event.event, data: JSON.parse(event.data) };
    }
  }
}

const stream = (id) => `api/streams/${encodeURIComponent(id)}`;

export const listStreams = () => call("GET", "api/streams");
export const addStream = (section) => call("POST", "api/streams", section);
export const changeStream = (id, changes) => call("PATCH", stream(id), changes);
export const removeStream = (id) => call("DELETE", stream(id));
export const pauseStream = (id) => call("POST", `${stream(id)}/pause`);
export const resumeStream = (id) => call("POST", `${stream(id)}/resume`);
export const restartStream = (id) => call("POST", `${stream(id)}/restart`);
export const readHistory = (query) => call("GET", `api/history?${new URLSearchParams(query)}`);
