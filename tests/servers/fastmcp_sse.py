"""A FastMCP server (Python SDK 1.x) over HTTP+SSE: the kind that IDEs and many scripts still offer.

usage: python fastmcp_sse.py READY_FILE. Listens on a free loopback port and writes its URL to the file.
"""

import os
import socket
import sys

import uvicorn
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.prompts import base

server = FastMCP("pydesk", instructions="The Python desk: adds, counts and greets.", log_level="ERROR")


@server.tool(title="Add", annotations={"readOnlyHint": True})
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
async def count(steps: int, ctx: Context) -> str:
    """Counts with progress."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, f"step {step}")
    return f"counted to {steps}"


@server.tool()
async def remark(text: str, ctx: Context) -> str:
    """Logs a remark at level warning."""
    await ctx.warning(text)
    return "remarked"


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ValueError("this tool cannot succeed")


@server.resource("pydesk://notes/one", mime_type="text/plain")
def one() -> str:
    """The first note."""
    return "the note one"


@server.resource("pydesk://users/{name}/card", mime_type="text/plain")
def card(name: str) -> str:
    """A visiting card."""
    return f"card of {name}"


@server.prompt()
def greet(who: str) -> list[base.Message]:
    """Greets somebody."""
    return [base.UserMessage(f"Say hello to {who}."), base.AssistantMessage("Hello!")]


def main():
    ready = sys.argv[1]
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    draft = ready + ".draft"
    with open(draft, "w") as file:
        file.write(f"http://{host}:{port}/sse\n")
    os.rename(draft, ready)
    config = uvicorn.Config(server.sse_app(), log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


main()
