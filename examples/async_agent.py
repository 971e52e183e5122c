"""An agent: a model that calls tools, several at once, until it has an answer. A crash repeats neither a tool nor a
paid token. Any server with OpenAI's chat API will do. From the folder above, with `pip install httpx`:

MODEL_URL=http://localhost:11434/v1 MODEL=qwen3 celery -A examples.async_agent flows dev
celery -A examples.async_agent flows send question/asked '{"question": "Which is longer, example.com or iana.org?"}'"""

import asyncio
import json
import os

import httpx
from celery import Celery

from celeryflows import Flows, StepError, Throttle

app = Celery("async_agent", broker="redis://localhost:6379/0")
flows = Flows(app)


async def fetch_page(url):
    """The beginning of a page. Pages talk models into things: let this reach the public web alone."""
    async with httpx.AsyncClient(follow_redirects=True, timeout=20) as client:
        answer = (await client.get(url)).raise_for_status()
        return {"status": answer.status_code, "length": len(answer.text), "text": answer.text[:2000]}


TOOLS = {"fetch_page": fetch_page}
OFFERED = [
    {
        "type": "function",
        "function": {
            "name": "fetch_page",
            "description": "Fetch a web page",
            "parameters": {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]},
        },
    }
]


async def ask_model(messages):
    """The model's next message: an answer, or calls of tools."""
    url, key = f"{os.environ['MODEL_URL']}/chat/completions", os.environ.get("MODEL_KEY", "none")
    body = {"model": os.environ.get("MODEL", "default"), "messages": messages, "tools": OFFERED}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
        answer = (await client.post(url, json=body)).raise_for_status()
        return answer.json()["choices"][0]["message"]


async def call_tool(ctx, call):
    """One call, as a step of its own. What fails is told to the model, which may try another way."""
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
        value = await ctx.step.run(f"{function['name']} {call['id']}", TOOLS[function["name"]], **arguments)
    except (StepError, KeyError, ValueError) as error:
        value = {"error": str(error)}
    return {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(value)}


# The provider's quota holds for all workers together.
@flows.flow(name="answer", trigger="question/asked", throttle=Throttle(60, "1m", burst=10))
async def answer(ctx):
    """Think, call what the model wants called, all at once, think again; ten times at most."""
    messages = [{"role": "user", "content": ctx.event.data["question"]}]
    for _ in range(10):
        message = await ctx.step.using(retries=5).run("think", ask_model, messages)
        if not message.get("tool_calls"):
            return {"answer": message["content"], "rounds": len(messages)}
        results = await asyncio.gather(*(call_tool(ctx, call) for call in message["tool_calls"]))
        messages += [message, *results]
    return {"answer": None, "rounds": len(messages)}
