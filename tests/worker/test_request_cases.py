"""The table of requests, over a real connection."""

import asyncio
import random

import pytest

from tests.worker.apps import body_of, mirror_later, mirrored, respond
from tests.worker.client import request
from tests.worker.request_cases import CASES, Given
from tests.worker.worker import Worker

#: How the bytes are cut, and whether the application lets the loop turn before it responds. A long row is cut at random
#: places, a short one at each.
WAYS = (("whole", False), ("bytes", True))
WAYS_OF_A_LONG_ROW = (("whole", False), ("random", True))
_MAX_SHORT = 600
#: One rejected row of each status and kind.
REJECTED = {(case.status, case.kind): name for name, case in CASES.items() if case.status and not case.given}.values()


def pieces(name: str, sent: bytes, cut: str) -> list[bytes]:
    """Return `sent` in pieces: other cuts for each case, the same in each run."""
    chance = random.Random(name)
    cuts = {
        "whole": [],
        "bytes": range(1, len(sent)),
        "random": sorted(chance.sample(range(1, len(sent)), min(len(sent) - 1, 4))),
    }[cut]
    return [sent[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]


@pytest.mark.parametrize("name", CASES)
async def test_a_request_has_the_outcome_of_its_row(name):
    """The scope, the response, the counter, and whether the connection is kept."""
    case = CASES[name]
    given: list[Given] = []
    waits = False

    async def app(scope, receive, send):
        if waits:
            await asyncio.sleep(0)
        body = await body_of(receive)
        given.append(
            Given(
                scope["method"],
                scope["raw_path"],
                scope["path"],
                scope["query_string"],
                scope["http_version"],
                tuple(scope["headers"]),
                body,
            )
        )
        await respond(send)

    async with Worker(app, limits=case.limits) as worker:
        for turn, way in enumerate(WAYS if len(case.sent) <= _MAX_SHORT else WAYS_OF_A_LONG_ROW, start=1):
            cut, waits = way
            given.clear()
            client = await worker.connect(*pieces(name, case.sent, cut))
            responses = [await client.response(one.method) for one in case.given]

            assert [200] * len(case.given) == [response.status for response in responses], way
            assert list(case.given) == given, way
            if case.status:
                refusal = await client.response()
                errors = {kind: count for kind, count in worker.counts.items() if kind.startswith("error")}
                assert (case.status, True) == (refusal.status, refusal.closes), way
                assert {f"error {case.kind}": turn} == errors, way
            if case.is_kept:
                assert 200 == (await client.get("/next")).status, way
            else:
                assert b"" == await client.rest(), way
            client.close()


@pytest.mark.parametrize("name", REJECTED)
async def test_a_rejection_waits_for_the_requests_before_it(name):
    """Those get their responses first, even if they still run."""
    case = CASES[name]
    async with Worker(mirror_later, limits=case.limits) as worker:
        client = await worker.connect(request("GET", "/1") + request("POST", "/2", body=b"xyz") + case.sent)
        responses = [await client.response() for _ in range(3)]

        assert [mirrored("GET", "/1"), mirrored("POST", "/2", b"xyz")] == [response.body for response in responses[:2]]
        assert case.status == responses[2].status
        assert b"" == await client.rest()
        assert 1 == worker.counts[f"error {case.kind}"]
