// What is asked of the supervisor. Errors hold its own words.

export class SignedOut extends Error {}

export async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      cache: "no-store",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The supervisor does not answer");
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401) throw new SignedOut(said.error || "Signed out");
  if (!answer.ok) throw new Error(said.error || `HTTP ${answer.status}`);
  return said;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);
export const agentPath = (id, rest = "") => `/api/v1/agents/${encodeURIComponent(id)}${rest}`;

/** A path with a query of what is given; null and empty values are left out. */
export function withQuery(path, values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") query.append(name, one);
    }
  }
  return query.size ? `${path}?${query}` : path;
}
