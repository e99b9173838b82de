// The tasks of `conformance-next.mjs`, by hand: the extension `io.modelcontextprotocol/tasks`, which the TypeScript
// SDK v2 does not have. Answers `tasks/get`, `tasks/update` and `tasks/cancel`, and the calls of the tools that make tasks.
// Nothing else of the protocol is here: every other request goes to the SDK.
import { randomUUID } from "node:crypto";

export const extension = "io.modelcontextprotocol/tasks";

const seconds = { type: "integer" };
/** The tools that make tasks, and their arguments. */
export const taskTools = {
  slow_compute: { seconds, label: { type: "string" } },
  failing_job: {},
  protocol_error_job: {},
  confirm_delete: { filename: { type: "string" } },
  multi_input: {},
  test_tool_with_task: {},
};

// What only those get who declare tasks: nobody else could answer or wait for it.
const onlyAsTask = new Set(["failing_job", "protocol_error_job", "confirm_delete", "multi_input", "test_tool_with_task"]);
const tasks = new Map();

const text = (said) => ({ content: [{ type: "text", text: said }] });
const form = (message, field, type) => ({
  method: "elicitation/create",
  params: { mode: "form", message, requestedSchema: { type: "object", properties: { [field]: { type } }, required: [field] } },
});

class Task {
  id = randomUUID();
  status = "working";
  createdAt = new Date().toISOString();
  lastUpdatedAt = this.createdAt;
  outcome = {};
  pending = {};

  constructor() {
    tasks.set(this.id, this);
  }

  move(status, outcome = {}) {
    if (["completed", "failed", "cancelled"].includes(this.status)) return;
    this.status = status;
    this.outcome = outcome;
    this.lastUpdatedAt = new Date().toISOString();
  }

  /** Asks all this, and goes on when all of it is answered. */
  ask(requests, then) {
    this.pending = requests;
    this.then = then;
    this.move("input_required");
  }

  hear(responses) {
    if (this.status !== "input_required") return;
    for (const key of Object.keys(responses)) delete this.pending[key];
    if (Object.keys(this.pending).length > 0) return;
    this.move("working");
    this.move("completed", { result: this.then(responses) });
  }

  head() {
    const { id: taskId, status, createdAt, lastUpdatedAt } = this;
    return { taskId, status, createdAt, lastUpdatedAt, ttlMs: 600_000, pollIntervalMs: 50 };
  }

  whole() {
    const asked = this.status === "input_required" ? { inputRequests: this.pending } : {};
    return { resultType: "complete", ...this.head(), ...this.outcome, ...asked };
  }
}

/** How each tool goes about its task. */
const jobs = {
  slow_compute(task, given) {
    const timer = setTimeout(() => task.move("completed", { result: computed(given) }), (given.seconds ?? 0) * 1000);
    timer.unref();
  },
  failing_job(task) {
    setTimeout(() => task.move("completed", { result: { isError: true, ...text("the job failed") } }), 100);
  },
  protocol_error_job(task) {
    setTimeout(() => task.move("failed", { error: { code: -32603, message: "the job broke" } }), 100);
  },
  confirm_delete(task, { filename }) {
    task.ask({ confirm: form(`Delete ${filename}?`, "confirm", "boolean") }, () => text(`deleted ${filename}`));
  },
  multi_input(task) {
    const requests = { first: form("The first name?", "name", "string"), second: form("The second name?", "name", "string") };
    task.ask(requests, () => text("both are known"));
  },
};

const computed = ({ label, seconds }) => text(`${label} took ${seconds} seconds`);

/** An error with its code, and the HTTP status that goes with it. */
class Refusal extends Error {
  constructor(code, message, { status = 200, data } = {}) {
    super(message);
    Object.assign(this, { code, status, data });
  }
}

function mustDeclare(declared) {
  if (declared) return;
  const data = { requiredCapabilities: { extensions: { [extension]: {} } } };
  throw new Refusal(-32021, "this needs the tasks extension", { status: 400, data });
}

function made(name, given) {
  const task = new Task();
  const head = task.head();
  jobs[name](task, given);
  return { resultType: "task", ...head };
}

async function call({ name, arguments: given = {}, inputResponses }, declared) {
  if (onlyAsTask.has(name)) mustDeclare(declared);
  if (name === "test_tool_with_task") {
    const who = inputResponses?.user_name?.content?.name;
    if (who === undefined) {
      return { resultType: "input_required", inputRequests: { user_name: form("What is your name?", "name", "string") } };
    }
    return made("slow_compute", { seconds: 0, label: `The task of ${who}` });
  }
  if (declared) return made(name, given);
  await new Promise((later) => setTimeout(later, (given.seconds ?? 0) * 1000));
  return { resultType: "complete", ...computed(given) };
}

function about(method, { taskId, inputResponses = {} }, declared) {
  mustDeclare(declared);
  const task = tasks.get(taskId);
  if (!task) throw new Refusal(-32602, `no task ${taskId}`);
  if (method === "tasks/get") return task.whole();
  if (method === "tasks/update") task.hear(inputResponses);
  else task.move("cancelled");
  return { resultType: "complete" };
}

/** Answers a request that is about tasks; false for one that is not. */
export function answersTask(message, headers, response) {
  const { id, method, params = {} } = message;
  const aboutTask = ["tasks/get", "tasks/update", "tasks/cancel"].includes(method);
  if (!aboutTask && !(method === "tools/call" && Object.hasOwn(taskTools, params.name))) return false;
  const declared = params._meta?.["io.modelcontextprotocol/clientCapabilities"]?.extensions?.[extension] !== undefined;
  const named = aboutTask ? params.taskId : params.name;
  const reply = (status, outcome) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify({ jsonrpc: "2.0", id, ...outcome }));
  };
  const work = async () => {
    if (headers["mcp-method"] !== method || headers["mcp-name"] !== named) {
      throw new Refusal(-32020, "the headers say something else than the body", { status: 400 });
    }
    return aboutTask ? about(method, params, declared) : await call(params, declared);
  };
  work().then(
    (result) => reply(200, { result }),
    ({ code = -32603, message, status = 500, data }) => reply(status, { error: { code, message, ...(data && { data }) } }),
  );
  return true;
}
