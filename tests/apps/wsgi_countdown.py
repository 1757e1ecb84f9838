"""A countdown under WSGI, one thread a client: Django streams it with time.sleep(PACE_S) between two numbers."""

import json
import os
import time

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of a test", WSGI_APPLICATION=f"{__name__}.application"
)

application = get_wsgi_application()


def stream():
    counter = 100
    try:
        while counter > -1:
            i = json.dumps({"i": counter})
            content = f"event:i\ndata: {i}\n\n"
            counter -= 1
            yield content
            time.sleep(float(os.environ["PACE_S"]))
    finally:
        print(f"the stream ended before {counter}", flush=True)


def sse(request):
    response = StreamingHttpResponse(streaming_content=stream(), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    return response


def index(request):
    return HttpResponse("<h1>Countdown</h1>")


urlpatterns = [path("", index), path("sse/", sse)]
