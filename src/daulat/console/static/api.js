// The server's interface as this page uses it: models, health, and one streamed chat completion.
// Knows HTTP and server-sent events; knows nothing of conversations or of the page.

const LONGEST_EVENT = 8 * 1024 * 1024; // characters; more than any server of ours sends at once

/** The server answered, and the answer is an error. */
export class ApiError extends Error {
  constructor(status, body, retryAfter = null) {
    super(body?.message ?? "");
    this.status = status;
    this.code = body?.code ?? "";
    this.param = body?.param ?? null;
    this.retryAfter = retryAfter; // seconds, or null
  }
}

/** No answer came: the server is gone or the network is. */
export class Unreachable extends Error {}

/** The stream ended before the answer did. */
export class Broken extends Error {}

async function call(path, key, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "omit", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable(error.message);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  const wait = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new ApiError(response.status, body?.error, Number.isFinite(wait) ? wait : null);
}

/** The models that this key may use and that write text. */
export async function models(key) {
  const { data } = await (await call("/v1/models", key)).json();
  return data.filter((model) => model.daulat?.kind !== "embedding");
}

/** What was used and what it cost; `query` has since, until and by. The key needs the scope admin. */
export async function spend(query, key) {
  return (await call(`/admin/spend?${new URLSearchParams(query)}`, key)).json();
}

/** The tasks whose answers can be labelled, and what the key is called. The key needs the scope admin. */
export async function labelTasks(key) {
  return (await call("/admin/labels", key)).json();
}

/** What comes next in a session of labels, after what `body` says; see LabelBody in the description. */
export async function sendLabel(task, body, key) {
  const options = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  return (await call(`/admin/labels/${encodeURIComponent(task)}`, key, options)).json();
}

/** Whether the server answers at all. */
export async function healthy() {
  try {
    await call("/health", null, { signal: AbortSignal.timeout(5000) });
    return true;
  } catch {
    return false;
  }
}

/** The `data` of each server-sent event in a stream of bytes, however the bytes were cut. */
export async function* serverSentEvents(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder(); // keeps the beginning of a character until its end comes
  let rest = "";
  let lines = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      if (rest.length > LONGEST_EVENT) throw new Broken("an event without an end");
      // A trailing \r may be the first half of \r\n: it waits for what follows.
      const cut = done ? rest.length : rest.length - (rest.endsWith("\r") ? 1 : 0);
      const parts = rest.slice(0, cut).split(/\r\n|\n|\r/);
      rest = parts.pop() + rest.slice(cut);
      for (const line of parts) {
        if (line.startsWith("data:")) lines.push(line.slice(line[5] === " " ? 6 : 5));
        if (line === "" && lines.length) {
          yield lines.join("\n");
          lines = [];
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // closing the connection tells the server to stop
  }
}

/**
 * One streamed answer, as events: {record} once, {text} often, {reason}, {usage, origin} at the end.
 * Throws ApiError, Unreachable, Broken, or the signal's AbortError.
 */
export async function* complete(body, key, signal) {
  const response = await call("/v1/chat/completions", key, {
    method: "POST",
    signal,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  });
  yield { record: response.headers.get("daulat-record") };
  try {
    for await (const event of serverSentEvents(response.body)) {
      if (event === "[DONE]") return;
      yield* chunk(JSON.parse(event));
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new Broken(error.message);
  }
  throw new Broken("the stream ended without its end mark");
}

function* chunk(value) {
  if (value.error) throw new ApiError(0, value.error);
  const choice = value.choices?.[0];
  if (choice?.delta?.content) yield { text: choice.delta.content };
  if (choice?.finish_reason) yield { reason: choice.finish_reason };
  if (value.usage) yield { usage: value.usage };
  if (value.daulat) yield { origin: value.daulat };
}
