// What the page asks of the sandbox's own HTTP side.

export async function ask(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error ?? `The sandbox answered ${answer.status}.`);
  return found;
}

// One person a tab: a reload keeps who you are.
export async function getToken() {
  const known = sessionStorage.getItem("user-id");
  const { userId, token } = await ask("POST", "/sandbox/users", known ? { userId: known } : {});
  sessionStorage.setItem("user-id", userId);
  return token;
}
