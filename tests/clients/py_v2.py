"""The official Python SDK 2.x, or FastMCP on top of it, as a client: does its steps, and prints what it got.

usage: python py_v2.py < job.json
Job and report are those of ts_v2.mjs, "mode" included; "library" is "mcp" or "fastmcp".
"""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack

import fastmcp
import mcp
import mcp_types as types
from fastmcp.client.transports import SSETransport, StdioTransport
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client

TIMEOUT = 60
ROOT = types.Root(uri="file:///desk", name="desk")
SAID = types.TextContent(type="text", text="word")
questions = []
notices = []


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def note(method, params):
    questions.append({"method": method, "params": plain(params) if params is not None else {}})


async def heard(message):
    if isinstance(message, types.Notification):
        notices.append(plain(message))


def report(greeting, steps):
    return {
        "revision": greeting["revision"],
        "era": "modern" if greeting["revision"] >= "2026-07-28" else "legacy",
        "server": greeting["server"] and plain(greeting["server"]),
        "capabilities": plain(greeting["capabilities"]),
        "instructions": greeting["instructions"],
        "steps": steps,
        "notices": notices,
        "questions": questions,
    }


class Mcp:
    """The SDK's own client."""

    @staticmethod
    async def open(stack, job):
        async def elicit(context, params):
            note("elicitation/create", params)
            content = None if params.mode == "url" else {"account": "main"}
            return types.ElicitResult(action="accept", content=content)

        async def sample(context, params):
            note("sampling/createMessage", params)
            return types.CreateMessageResult(role="assistant", content=SAID, model="none", stop_reason="endTurn")

        async def roots(context):
            note("roots/list", None)
            return types.ListRootsResult(roots=[ROOT])

        target = job.get("url")
        if job["transport"] == "sse":
            target = sse_client(job["url"])
        elif job["transport"] == "stdio":
            quiet = stack.enter_context(open(os.devnull, "w"))
            server = mcp.StdioServerParameters(command=job["command"], args=job["args"], env=job.get("env"))
            target = stdio_client(server, errlog=quiet)
        callbacks = {}
        if job.get("capabilities") != {}:
            callbacks = {"elicitation_callback": elicit, "sampling_callback": sample, "list_roots_callback": roots}
        mode = "2026-07-28" if job["mode"] == "modern" else job["mode"]
        client = mcp.Client(target, mode=mode, message_handler=heard, read_timeout_seconds=TIMEOUT, **callbacks)
        self = Mcp()
        self.client = await stack.enter_async_context(client)
        return self

    def greeting(self):
        return {
            "revision": self.client.protocol_version,
            "server": self.client.server_info,
            "capabilities": self.client.server_capabilities,
            "instructions": self.client.instructions,
        }

    async def pages(self, ask, key):
        entries, cursor = [], None
        while True:
            page = plain(await ask(cursor=cursor))
            entries += page[key]
            cursor = page.get("nextCursor")
            if cursor is None:
                return entries

    async def tools(self, _):
        return await self.pages(self.client.list_tools, "tools")

    async def prompts(self, _):
        return await self.pages(self.client.list_prompts, "prompts")

    async def resources(self, _):
        return await self.pages(self.client.list_resources, "resources")

    async def templates(self, _):
        return await self.pages(self.client.list_resource_templates, "resourceTemplates")

    async def ping(self, _):
        return plain(await self.client.send_ping())

    async def meet(self, step):
        """Says that it is here, and waits until the test says go."""
        with open(step["at"], "w"):
            pass
        for _ in range(1500):
            if os.path.exists(step["go"]):
                return
            await asyncio.sleep(0.02)
        raise TimeoutError("nobody said go within 30 s")

    async def level(self, step):
        return plain(await self.client.set_logging_level(step["level"]))

    async def read(self, step):
        return plain(await self.client.read_resource(step["uri"]))

    async def prompt(self, step):
        return plain(await self.client.get_prompt(step["name"], step.get("arguments")))

    async def call(self, step):
        progress = []

        async def advance(done, total, message):
            entry = {"progress": done, "total": total, "message": message}
            progress.append({key: value for key, value in entry.items() if value is not None})

        callback = advance if step.get("progress") else None
        arguments = step.get("arguments") or {}
        result = plain(await self.client.call_tool(step["name"], arguments, progress_callback=callback))
        return {"result": result, "progress": progress} if step.get("progress") else result


class FastMcp(Mcp):
    """FastMCP's client, which has names of its own for much."""

    @staticmethod
    async def open(stack, job):
        async def elicit(message, response_type, params, context):
            note("elicitation/create", params)
            return None if params.mode == "url" else {"account": "main"}

        async def sample(messages, params, context):
            note("sampling/createMessage", params)
            return "word"

        async def roots(context):
            note("roots/list", None)
            return [ROOT]

        target = job.get("url")
        if job["transport"] == "sse":
            target = SSETransport(job["url"])
        elif job["transport"] == "stdio":
            target = StdioTransport(command=job["command"], args=job["args"], env=job.get("env"))
        handlers = {}
        if job.get("capabilities") != {}:
            handlers = {"elicitation_handler": elicit, "sampling_handler": sample, "roots": roots}
        mode = "2026-07-28" if job["mode"] == "modern" else job["mode"]
        client = fastmcp.Client(target, mode=mode, message_handler=heard, timeout=TIMEOUT, **handlers)
        self = FastMcp()
        self.client = await stack.enter_async_context(client)
        return self

    async def tools(self, _):
        return [plain(tool) for tool in await self.client.list_tools()]

    async def prompts(self, _):
        return [plain(prompt) for prompt in await self.client.list_prompts()]

    async def resources(self, _):
        return [plain(resource) for resource in await self.client.list_resources()]

    async def templates(self, _):
        return [plain(template) for template in await self.client.list_resource_templates()]

    async def read(self, step):
        return plain(await self.client.read_resource_mcp(step["uri"]))

    async def prompt(self, step):
        return plain(await self.client.get_prompt_mcp(step["name"], step.get("arguments")))

    async def call(self, step):
        return plain(await self.client.call_tool_mcp(step["name"], step.get("arguments") or {}))


async def main():
    job = json.load(sys.stdin)
    library = FastMcp if job["library"] == "fastmcp" else Mcp
    async with AsyncExitStack() as stack:
        driver = await library.open(stack, job)
        steps = []
        for step in job["steps"]:
            try:
                steps.append({"ok": await getattr(driver, step["do"])(step)})
            except mcp.MCPError as problem:
                steps.append({"error": {"code": problem.error.code, "message": problem.error.message}})
            except Exception as problem:  # what the library makes of a failure is what the test wants to see
                steps.append({"error": {"code": None, "message": f"{type(problem).__name__}: {problem}"}})
        answer = report(driver.greeting(), steps)
    json.dump(answer, sys.stdout)


asyncio.run(main())
