"""How near the teacher's pipeline comes to a plain asyncio client of the same endpoint.

``python benchmarks/bench_generation.py [--requests 5000] [--concurrency 32] [--latency 0.2]``
prints two ratios: of the steady state (rate between 10 % and 90 % of the answers) and of the whole,
start-up of distilabel and of all of its processes included. The endpoint is a scripted server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from generation.distilabel.jobs import Served
from generation.distilabel.runner import Distilabel
from workbench.inference.endpoint import Endpoint
from workbench.records import Messages, as_messages, user_prompt

SERVER = """
import asyncio, json, sys
body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Champ, go."},
    "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}).encode()
head = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n"
times = []
async def serve(reader, writer):
    try:
        while True:
            request = await reader.readuntil(b"\\r\\n\\r\\n")
            lines = request.lower().split(b"\\r\\n")[1:]
            fields = dict(line.split(b": ", 1) for line in lines if b": " in line)
            await reader.readexactly(int(fields.get(b"content-length", 0)))
            await asyncio.sleep(float(sys.argv[1]))
            times.append(asyncio.get_running_loop().time())
            writer.write(head % len(body) + body)
    except asyncio.IncompleteReadError:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(times), flush=True)
        times.clear()
asyncio.run(main())
"""


def plain(url: str, prompts: list[Messages], concurrency: int) -> None:
    """Ask with openai's client, bounded by a semaphore and nothing else."""

    async def ask_all() -> None:
        from openai import AsyncOpenAI

        gate = asyncio.Semaphore(concurrency)
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

            async def ask(prompt: Messages) -> None:
                async with gate:
                    reply = await client.chat.completions.create(
                        model="m", messages=as_messages(prompt), max_tokens=64
                    )
                    assert reply.choices[0].message.content

            await asyncio.gather(*(ask(prompt) for prompt in prompts))

    asyncio.run(ask_all())


def ours(url: str, prompts: list[Messages], concurrency: int) -> None:
    """Ask through distilabel, cache and accounting included."""
    with tempfile.TemporaryDirectory() as folder, Distilabel(Path(folder)) as distilabel:
        endpoint = Endpoint(base_url=url, model="m", concurrency=concurrency)
        served = Served(endpoint=endpoint, cache=Path(folder) / "answers.sqlite", max_new_tokens=64)
        completions = distilabel.run("bench", prompts, served, label="asking through distilabel")
    assert [completion.end for completion in completions] == ["ok"] * len(prompts)


def steady(times: list[float]) -> float:
    """Return the answers a second between 10 % and 90 % of all answers."""
    first, last = len(times) // 10, len(times) * 9 // 10
    return (last - first) / (times[last] - times[first])


def main() -> None:
    """Run both clients, one after the other, and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds of each answer")
    options = parser.parse_args()
    prompts = [user_prompt(f"Question {number}: how deep?") for number in range(options.requests)]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(options.latency)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin and server.stdout
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        seconds, rates = {}, {}
        for name, client in (("asyncio", plain), ("distilabel", ours)):
            started = time.monotonic()
            client(url, prompts, options.concurrency)
            seconds[name] = time.monotonic() - started
            print("times?", file=server.stdin, flush=True)
            rates[name] = steady(json.loads(server.stdout.readline()))
            print(f"{name}: {seconds[name]:.1f} s in all, {rates[name]:.1f}/s in steady state")
    finally:
        server.kill()
    print(f"steady state: {rates['distilabel'] / rates['asyncio']:.2f} of asyncio (limit 0.95)")
    print(f"in all: {seconds['asyncio'] / seconds['distilabel']:.2f} of asyncio (limit 0.85)")


if __name__ == "__main__":
    main()
