"""How near the teacher's pipelines come to a plain asyncio client of the same endpoint.

``python benchmarks/bench_generation.py [--requests 5000] [--concurrency 32] [--latency 0.2]``
prints two ratios: of the steady state (rate between 10 % and 90 % of the answers) and of the whole,
the import of distilabel included. With ``--conversations 500 --turns 6`` simulated users talk to
the endpoint instead, each turn after the one before. The endpoint is a scripted server.
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
from typing import Any

from generation.conversations import PlannedConversation, open_talks
from generation.teacher_client import TeacherClient
from workbench.config import GenerateSettings
from workbench.dialogue.users import SimulatedUser
from workbench.inference.endpoint import Endpoint
from workbench.persona import load_persona
from workbench.records import user_prompt

SERVER = """
import asyncio, json, sys
def reply(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text},
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
            body = reply(f"Champ, go {len(times)}.")
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


def plain(url: str, chats: list[list[str]], concurrency: int) -> None:
    """Hold chats with openai's client, bounded by a semaphore and nothing else."""

    async def ask_all() -> None:
        from openai import AsyncOpenAI

        gate = asyncio.Semaphore(concurrency)
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

            async def hold(messages: list[str]) -> None:
                chat: list[Any] = []
                for message in messages:
                    chat.append({"role": "user", "content": message})
                    async with gate:
                        reply = await client.chat.completions.create(
                            model="m", messages=chat, max_tokens=64
                        )
                    chat.append({"role": "assistant", "content": reply.choices[0].message.content})

            await asyncio.gather(*(hold(messages) for messages in chats))

    asyncio.run(ask_all())


def ours(url: str, chats: list[list[str]], concurrency: int) -> None:
    """Ask by our pipelines, cache and accounting included."""
    endpoint = Endpoint(base_url=url, model="m", concurrency=concurrency)
    with (
        tempfile.TemporaryDirectory() as folder,
        TeacherClient([endpoint], Path(folder) / "answers.sqlite") as client,
    ):
        (hold if chats[0][1:] else ask)(client, chats)


def ask(client: TeacherClient, chats: list[list[str]]) -> None:
    """Ask one question a chat."""
    from generation.pipelines.baseline import baseline_pipeline

    prompts = [user_prompt(question) for (question,) in chats]
    settings = GenerateSettings(max_new_tokens=64)
    pipeline = baseline_pipeline(
        prompts, folder=None, client=client, step="bench", settings=settings, seed=0
    )
    assert [row["completion"].end for row in pipeline.run()] == ["ok"] * len(chats)


def hold(client: TeacherClient, chats: list[list[str]]) -> None:
    """Let simulated users say the messages of each chat to the teacher in persona."""
    from generation.pipelines.talks import TalkJob, talks_pipeline

    persona = load_persona(Path(__file__).parents[1] / "datasets" / "gym-trainer" / "persona.yaml")
    planned = [
        PlannedConversation(
            SimulatedUser(
                id=f"u{number}",
                topic=next(iter(persona.topics)),
                who="A clerk.",
                wants="One exercise.",
                behaviour="patient",
                satisfied=("never",),
                manner="Calm.",
                first=first,
                lines=tuple(lines),
                turns=len(lines) + 1,
            ),
            number,
        )
        for number, (first, *lines) in enumerate(chats)
    ]
    talks = open_talks(persona, [], planned, ["m"] * len(planned))
    job = TalkJob(client, persona, least=0.0)
    talks_pipeline(job, talks, [0] * len(talks)).run()
    assert all(len(talk.turns) == len(chats[0]) for talk in talks)
    assert {turn.fate for talk in talks for turn in talk.turns} == {"kept"}


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
    parser.add_argument("--conversations", type=int, default=0, help="hold so many instead")
    parser.add_argument("--turns", type=int, default=6, help="of each conversation")
    options = parser.parse_args()
    turns = options.turns if options.conversations else 1
    chats = [
        [f"Question {number}.{turn}: how deep?" for turn in range(turns)]
        for number in range(options.conversations or options.requests)
    ]
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
        for name, client in (("asyncio", plain), ("ours", ours)):
            started, worked = time.monotonic(), time.process_time()
            client(url, chats, options.concurrency)
            seconds[name] = time.monotonic() - started
            print("times?", file=server.stdin, flush=True)
            rates[name] = steady(json.loads(server.stdout.readline()))
            worked = time.process_time() - worked
            print(
                f"{name}: {seconds[name]:.1f} s in all, {worked:.1f} s of them the processor's,"
                f" {rates[name]:.1f}/s in steady state"
            )
    finally:
        server.kill()
    print(f"steady state: {rates['ours'] / rates['asyncio']:.2f} of asyncio (limit 0.95)")
    print(f"in all: {seconds['asyncio'] / seconds['ours']:.2f} of asyncio (limit 0.85)")


if __name__ == "__main__":
    main()
