"""The framework contract on Django's ASGI handler (no WebSocket, no lifespan): see `frameworks/test_frameworks.py`."""

import hashlib
import os
import tempfile

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from holding import hold, idle

settings.configure(
    SECRET_KEY="only for tests",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    FILE_UPLOAD_TEMP_DIR=tempfile.gettempdir(),
)
django.setup()


async def home(request):
    return JsonResponse({"framework": "django", "pid": os.getpid()})


async def stream(request):
    async def pieces():
        for number in range(int(request.GET["chunks"])):
            yield f"{number:04}".encode() * 256

    return StreamingHttpResponse(pieces())


async def sse(request):
    async def events():
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingHttpResponse(events(), content_type="text/event-stream")


async def idle_stream(request):
    return StreamingHttpResponse(idle(request.GET["name"]))


async def poll(request):
    await hold(request.GET["name"])
    return HttpResponse("news")


def upload(request):
    """Synchronous on purpose: Django runs it in a thread."""
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for piece in file.chunks():
        digest.update(piece)
    return JsonResponse({"sha256": digest.hexdigest(), "bytes": file.size, "name": file.name})


urlpatterns = [
    path("", home),
    path("stream", stream),
    path("sse", sse),
    path("idle", idle_stream),
    path("poll", poll),
    path("upload", upload),
]

app = get_asgi_application()
