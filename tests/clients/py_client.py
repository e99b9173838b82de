"""The official Python SDK 1.x as a client: does the steps it is told to, and prints what it got.

usage: python py_client.py < job.json. Job and report are those of ts_v1.mjs, word for word.
"""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client

TIMEOUT = timedelta(seconds=60)


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def pages(ask, key):
    entries, cursor = [], None
    while True:
        page = plain(await ask(cursor=cursor))
        entries += page[key]
        cursor = page.get("nextCursor")
        if cursor is None:
            return entries


class Driver:
    def __init__(self, session, notices):
        self.session = session
        self.notices = notices

    async def tools(self, _):
        return await pages(self.session.list_tools, "tools")

    async def prompts(self, _):
        return await pages(self.session.list_prompts, "prompts")

    async def resources(self, _):
        return await pages(self.session.list_resources, "resources")

    async def templates(self, _):
        return await pages(self.session.list_resource_templates, "resourceTemplates")

    async def ping(self, _):
        return plain(await self.session.send_ping())

    async def level(self, step):
        return plain(await self.session.set_logging_level(step["level"]))

    async def read(self, step):
        return plain(await self.session.read_resource(step["uri"]))

    async def subscribe(self, step):
        return plain(await self.session.subscribe_resource(step["uri"]))

    async def unsubscribe(self, step):
        return plain(await self.session.unsubscribe_resource(step["uri"]))

    async def prompt(self, step):
        return plain(await self.session.get_prompt(step["name"], step.get("arguments")))

    async def complete(self, step):
        kinds = {"ref/prompt": types.PromptReference, "ref/resource": types.ResourceTemplateReference}
        ref = kinds[step["ref"]["type"]].model_validate(step["ref"])
        argument = step["argument"]
        return plain(await self.session.complete(ref, {"name": argument["name"], "value": argument["value"]}))

    async def call(self, step):
        progress = []

        async def note(done, total, message):
            entry = {"progress": done, "total": total, "message": message}
            progress.append({key: value for key, value in entry.items() if value is not None})

        callback = note if step.get("progress") else None
        result = plain(
            await self.session.call_tool(
                step["name"], step.get("arguments") or {}, read_timeout_seconds=TIMEOUT, progress_callback=callback
            )
        )
        return {"result": result, "progress": progress} if step.get("progress") else result

    async def meet(self, step):
        """Says that it is here, and waits until the test says go."""
        with open(step["at"], "w"):
            pass
        for _ in range(1500):
            if os.path.exists(step["go"]):
                return
            await asyncio.sleep(0.02)
        raise TimeoutError("nobody said go within 30 s")

    async def notice(self, step):
        for _ in range(500):
            for notice in self.notices:
                if notice["method"] == step["method"]:
                    return notice
            await asyncio.sleep(0.02)
        raise TimeoutError(f"no {step['method']} within 10 s")


async def connect(stack, job):
    kind = job["transport"]
    if kind == "stdio":
        server = StdioServerParameters(command=job["command"], args=job["args"], env=job.get("env"))
        quiet = stack.enter_context(open(os.devnull, "w"))
        return await stack.enter_async_context(stdio_client(server, errlog=quiet))
    opened = sse_client(job["url"]) if kind == "sse" else streamablehttp_client(job["url"])
    return (await stack.enter_async_context(opened))[:2]


def answers(job, questions):
    """The same answers as everywhere in these tests, for what the job wants declared."""

    def note(method, params):
        questions.append({"method": method, "params": plain(params) if params is not None else {}})

    async def elicit(context, params):
        note("elicitation/create", params)
        return types.ElicitResult(action="accept", content=None if params.mode == "url" else {"account": "main"})

    async def sample(context, params):
        note("sampling/createMessage", params)
        said = types.TextContent(type="text", text="word")
        return types.CreateMessageResult(role="assistant", content=said, model="none", stopReason="endTurn")

    async def roots(context):
        note("roots/list", None)
        return types.ListRootsResult(roots=[types.Root(uri="file:///desk", name="desk")])

    callbacks = {"elicitation": elicit, "sampling": sample, "roots": roots}
    names = {"roots": "list_roots_callback"}
    wanted = job.get("capabilities", {})
    return {names.get(key, f"{key}_callback"): call for key, call in callbacks.items() if key in wanted}


async def main():
    job = json.load(sys.stdin)
    notices, questions = [], []

    async def heard(message):
        if isinstance(message, types.ServerNotification):
            notices.append(plain(message.root))

    async with AsyncExitStack() as stack:
        read, write = await connect(stack, job)
        session = ClientSession(read, write, message_handler=heard, **answers(job, questions))
        await stack.enter_async_context(session)
        greeting = plain(await session.initialize())
        driver = Driver(session, notices)
        steps = []
        for step in job["steps"]:
            try:
                steps.append({"ok": await getattr(driver, step["do"])(step)})
            except McpError as problem:
                steps.append({"error": {"code": problem.error.code, "message": problem.error.message}})
            except Exception as problem:  # what the SDK makes of a failure is what the test wants to see
                steps.append({"error": {"code": None, "message": f"{type(problem).__name__}: {problem}"}})
        report = {
            "server": greeting["serverInfo"],
            "capabilities": greeting["capabilities"],
            "instructions": greeting.get("instructions"),
            "steps": steps,
            "notices": notices,
            "questions": questions,
        }
    json.dump(report, sys.stdout)


asyncio.run(main())
