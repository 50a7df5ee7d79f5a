// What the reader looks at, kept in the URL so that a link shows the same to a colleague.

export const RANGES = [["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"]];
export const DIMENSIONS = ["service", "endpoint", "model", "tenant"];

/** The state of the address bar: since, until ('' is now), board, and values by dimension. */
export function read() {
  const query = new URLSearchParams(location.search);
  const filters = Object.fromEntries(DIMENSIONS.map((name) => [name, query.getAll(name)]));
  return { since: query.get("since") || "7d", until: query.get("until") || "", board: query.get("board") || "", filters };
}

function parameters(state) {
  const query = new URLSearchParams();
  query.set("since", state.since);
  if (state.until) query.set("until", state.until);
  for (const name of DIMENSIONS) for (const value of state.filters[name]) query.append(name, value);
  return query;
}

/** Puts the state into the address bar; the back button returns to the one before. */
export function write(state) {
  const query = parameters(state);
  if (state.board) query.set("board", state.board);
  if (`?${query}` !== location.search) history.pushState(null, "", `?${query}`);
}

/** The JSON of an API path in this state; rejects with the server's own words. */
export async function fetchJson(path, state, signal) {
  const response = await fetch(state ? `${path}?${parameters(state)}` : path, { signal });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(typeof body.detail === "string" ? body.detail : `${path} answered ${response.status}`);
  return body;
}
