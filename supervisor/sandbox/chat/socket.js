// Engine.IO and Socket.IO over one WebSocket: as much as this page needs, and no more.
//
// Events dispatched: "state" {state}, "event" {name, payload}. It reconnects for ever, with full jitter.

const FIRST_RETRY_MS = 300;
const LAST_RETRY_MS = 8000;
const ACK_LIMIT_MS = 15000;

export class ChatSocket extends EventTarget {
  #url;
  #prefix;
  #getToken;
  #socket = null;
  #acks = new Map();
  #nextAck = 1;
  #attempts = 0;
  #watchdog = 0;
  #silenceLimit = 45000;
  #state = "connecting";

  constructor({ url, namespace, getToken }) {
    super();
    this.#url = url;
    // Packets name their namespace, but for the root.
    this.#prefix = namespace === "/" ? "" : `${namespace},`;
    this.#getToken = getToken;
  }

  get connected() {
    return this.#state === "live";
  }

  connect() {
    this.#setState(this.#attempts ? "reconnecting" : "connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#watch();
    socket.onmessage = (message) => this.#socket === socket && this.#packet(String(message.data));
    socket.onclose = () => this.#socket === socket && this.#lost();
  }

  // Resolves with the ack; rejects when it is late or the connection is lost.
  emit(event, payload) {
    if (!this.connected) return Promise.reject(new Error("The sandbox is not connected."));
    const id = this.#nextAck++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#acks.delete(id);
        reject(new Error("The platform did not answer in time."));
      }, ACK_LIMIT_MS);
      this.#acks.set(id, { resolve, reject, timer });
      this.#send(`42${this.#prefix}${id}${JSON.stringify([event, payload])}`);
    });
  }

  #send(text) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(text);
  }

  #packet(text) {
    this.#watch();
    if (text[0] === "0") return this.#opened(JSON.parse(text.slice(1)));
    if (text[0] === "2") return this.#send("3");
    if (text[0] !== "4") return undefined;
    if (!text.startsWith(this.#prefix, 2)) return undefined;
    const rest = text.slice(2 + this.#prefix.length);
    switch (text[1]) {
      case "0": return this.#accepted();
      case "1":
      case "4": return this.#socket.close();
      case "2": return this.#event(rest);
      case "3": return this.#ack(rest);
      default: return undefined;
    }
  }

  async #opened({ pingInterval, pingTimeout }) {
    this.#silenceLimit = pingInterval + pingTimeout;
    this.#watch();
    const socket = this.#socket;
    try {
      const token = await this.#getToken();
      if (this.#socket === socket) this.#send(`40${this.#prefix}${JSON.stringify({ token })}`);
    } catch {
      socket.close();
    }
  }

  #accepted() {
    this.#attempts = 0;
    this.#setState("live");
  }

  #event(text) {
    const body = text.replace(/^\d+/, "");
    const [name, payload] = JSON.parse(body);
    this.dispatchEvent(new CustomEvent("event", { detail: { name, payload } }));
  }

  #ack(text) {
    const id = Number.parseInt(text, 10);
    const waiting = this.#acks.get(id);
    if (!waiting) return;
    this.#acks.delete(id);
    clearTimeout(waiting.timer);
    waiting.resolve(JSON.parse(text.slice(String(id).length))[0]);
  }

  // A silent socket is a dead one: the server pings.
  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      const socket = this.#socket;
      this.#lost();
      socket?.close();
    }, this.#silenceLimit);
  }

  #lost() {
    clearTimeout(this.#watchdog);
    this.#socket = null;
    for (const { reject, timer } of this.#acks.values()) {
      clearTimeout(timer);
      reject(new Error("The connection was lost."));
    }
    this.#acks.clear();
    this.#attempts += 1;
    this.#setState("reconnecting");
    const cap = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.#attempts, 10));
    setTimeout(() => this.connect(), 100 + Math.random() * cap);
  }

  #setState(state) {
    if (state === this.#state && state !== "live") return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state } }));
  }
}
