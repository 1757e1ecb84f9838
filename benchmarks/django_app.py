"""A JSON answer by an async view of Django: DEBUG off, no middleware, no database."""

from django.conf import settings  # type: ignore[import-untyped]  # Django has no types
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import HttpRequest, JsonResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

settings.configure(DEBUG=False, ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, MIDDLEWARE=[])


async def hello(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - Django passes the request
    return JsonResponse({"message": "hello, world"})


urlpatterns = [path("", hello)]
app = get_asgi_application()
