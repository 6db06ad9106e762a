"""A demo without a framework: one page that shows HTTP, server-sent events and a WebSocket, and who answers.

Serve it with `asgi-master --workers 2 --app-dir examples demo:app`.
"""

import asyncio
import html
import json
import os
import time

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>asgi-master</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem;
          color: #1c2330; background: #f6f7f9 }}
  h1 {{ font-size: 1.6rem; margin-bottom: 0 }} p {{ margin: .4rem 0 }}
  section {{ background: #fff; border: 1px solid #dde1e7; border-radius: 10px; padding: 1rem 1.2rem; margin: 1rem 0 }}
  h2 {{ font-size: 1rem; margin: 0 0 .4rem }}
  code, output {{ font: 14px ui-monospace, monospace }}
  output {{ display: block; white-space: pre-wrap; min-height: 1.5em }}
  input, button {{ font: inherit; padding: .3rem .6rem; border: 1px solid #b9c0cb; border-radius: 6px }}
  input, button {{ background: #fff }}
  small {{ color: #667 }}
  @media (prefers-color-scheme: dark) {{
    body {{ color: #dfe3ea; background: #14171c }} section {{ background: #1c2027; border-color: #313742 }}
    input, button {{ background: #14171c; color: inherit; border-color: #444c59 }} }}
</style>
<h1>asgi-master</h1>
<p>This page came from worker <b>{worker}</b>, generation <b>{generation}</b>, process <b>{pid}</b>.</p>
<section><h2>HTTP</h2>
  <button id="ask">Ask ten times</button>
  <output id="answers"></output>
  <small>Each on whatever worker takes it. Kill one (<code>kill -9 {pid}</code>), and ask again.</small></section>
<section><h2>Server-sent events</h2><output id="events">connecting</output>
  <small>One stream; <code>kill -HUP</code> the master and see it come back from the next generation.</small></section>
<section><h2>WebSocket</h2>
  <form id="talk"><input id="word" value="hello" aria-label="message"> <button>Send</button></form>
  <output id="echoes"></output></section>
<script>
  const show = (id, text) => document.getElementById(id).textContent = text
  const name = who => `worker ${{who.worker}} · generation ${{who.generation}} · process ${{who.pid}}`
  document.getElementById("ask").onclick = async () => {{
    const answers = await Promise.all(Array.from({{length: 10}}, () => fetch("/who").then(r => r.json())))
    const counts = {{}}
    for (const who of answers) counts[name(who)] = (counts[name(who)] || 0) + 1
    const lines = Object.entries(counts).map(([who, n]) => `${{String(n).padStart(2)}} from ${{who}}`)
    show("answers", lines.sort().join("\\n"))
  }}
  const events = new EventSource("/events")
  events.onmessage = e => {{ const tick = JSON.parse(e.data); show("events", `${{tick.time}}  ${{name(tick)}}`) }}
  events.onerror = () => show("events", "reconnecting")
  let socket
  const connect = () => {{
    socket = new WebSocket(`${{location.protocol === "https:" ? "wss" : "ws"}}://${{location.host}}/echo`)
    socket.onmessage = e => show("echoes", e.data)
    socket.onclose = e => {{ show("echoes", `closed (${{e.code}}), connecting again`); setTimeout(connect, 500) }}
  }}
  connect()
  document.getElementById("talk").onsubmit = e => {{
    e.preventDefault()
    socket.send(document.getElementById("word").value)
  }}
</script>
"""


async def app(scope, receive, send):
    """Route by type and path."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["path"] == "/":
        await respond(send, "text/html; charset=utf-8", PAGE.format_map(escaped(who())))
    elif scope["path"] == "/who":
        await respond(send, "application/json", json.dumps(who()))
    elif scope["path"] == "/events":
        await events(receive, send)
    else:
        await respond(send, "text/plain; charset=utf-8", "There is nothing here.\n", status=404)


def who():
    """Which process this is, as asgi-master tells it."""
    return {
        "worker": os.environ.get("ASGI_MASTER_WORKER", "?"),
        "generation": os.environ.get("ASGI_MASTER_GENERATION", "?"),
        "pid": os.getpid(),
    }


def escaped(values):
    return {name: html.escape(str(value)) for name, value in values.items()}


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def respond(send, content_type, text, status=200):
    body = text.encode()
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def events(receive, send):
    """The time, each second, until the browser leaves or the worker does."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.create_task(disconnected(receive))
    try:
        while not gone.done():
            tick = json.dumps({"time": time.strftime("%H:%M:%S"), **who()})
            await send(
                {"type": "http.response.body", "body": f"data: {tick}\n\n".encode(), "more_body": True}
            )
            await asyncio.wait([gone], timeout=1)
    finally:
        gone.cancel()


async def disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        me = who()
        text = message.get("text") or f"{len(message['bytes'])} bytes"
        await send(
            {"type": "websocket.send", "text": f"{text}  (worker {me['worker']}, process {me['pid']})"}
        )
